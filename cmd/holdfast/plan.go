package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

func (e *env) planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "who should hold your sites, and what that moves; nothing is done", ArgsUsage: "[SITE]",
		Description: "Asks every host how it is, and shows what `holdfast apply` would do. What is wanted of SITE's copies can be said, and is\n" +
			"remembered: the next publish goes by it, too.\n" +
			"Example: holdfast plan blog --copies 4 --availability 99.999",
		Flags: append(append(wantFlags(), networkFlags()...),
			&cli.BoolFlag{Name: "forget", Usage: "let the defaults count for SITE again, beside what is said now"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("plan takes one site, or none for all")
			}
			w, err := wants(c)
			if err != nil {
				return err
			}
			req := author.PlanRequest{Alias: c.Args().First(), Wants: w, Forget: c.Bool("forget")}
			return ask(c.Context, e, c, node.Connected, "plan", req, e.showPlans)
		},
	}
}

func (e *env) showPlans(p author.Plans) {
	switch {
	case len(p.Sites) == 0:
		e.printf("nothing was published here yet; start with `holdfast publish DIR --site NAME`\n")
		return
	case p.Nothing:
		e.printf("nothing to do: %s\n", asWanted(p.Sites))
		for _, s := range p.Sites {
			e.showSilent(s)
		}
		return
	}
	done := 0
	for _, s := range p.Sites {
		if s.Nothing() {
			done++
			continue
		}
		e.showPlan(s)
	}
	if done > 0 {
		e.printf("%d more %s as wanted\n", done, isAre(done))
	}
	if p.Digest != "" {
		e.printf("carry it out with `holdfast apply %s`\n", p.Digest)
	}
}

func copies(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// asWanted says how the sites stand of which nothing is to be done.
func asWanted(sites []author.SitePlan) string {
	if len(sites) > 1 {
		return fmt.Sprintf("all %d sites are held as wanted", len(sites))
	}
	s := sites[0]
	if s.CopiesAfter == 0 {
		return s.Alias + " is wanted on no host"
	}
	line := fmt.Sprintf("%s has %s, about %s", s.Alias, copies(s.CopiesAfter), percent(s.AvailabilityAfter))
	if s.Missed != "" {
		return line + fmt.Sprintf(", which is less than the %s that is wanted: %s", millionths(s.Target), s.Missed)
	}
	return line + ", as wanted"
}

func (e *env) showPlan(s author.SitePlan) {
	if s.Error != "" {
		e.printf("site %s   no plan: %s\n", s.Alias, s.Error)
		return
	}
	e.printf("site %s   %s -> %s   copies %d -> %d\n", s.Alias, percent(s.Availability), percent(s.AvailabilityAfter), s.Copies, s.CopiesAfter)
	width := 8
	for _, c := range s.Changes {
		width = max(width, len(c.Host))
	}
	for _, c := range s.Changes {
		e.printf("  %s %-*s  %s\n", planMark(c.Op), width, c.Host, changeLine(c))
	}
	if s.Policy && len(s.Changes) == 0 {
		e.printf("  the signed policy is written anew: what it says of hosts or wants has changed\n")
	}
	line := fmt.Sprintf("moves %s (least possible %s)", size(s.Moves), size(s.Least))
	if w := s.Worst; w != nil {
		line += fmt.Sprintf("   worst single failure: %s -> %s", failureName(w), percent(w.Availability))
	}
	e.printf("%s\n", line)
	e.showSilent(s)
	if s.Missed != "" {
		e.printf("less than the %s that is wanted: %s\n", millionths(s.Target), s.Missed)
	}
}

// showSilent says which holders of a site count though they don't answer.
func (e *env) showSilent(s author.SitePlan) {
	for _, line := range s.Silent {
		e.note(s.Alias + ": " + line)
	}
}

// planMark is the sign in front of a change: + and - for copies, ~ for standbys.
func planMark(op string) string {
	switch op {
	case author.OpHold:
		return "+"
	case author.OpRelease:
		return "-"
	}
	return "~"
}

func changeLine(c author.PlanChange) string {
	switch c.Op {
	case author.OpHold:
		parts := append(labelValues(c.Host, c.Label), "+"+size(c.Bytes))
		return strings.Join(parts, "  ") + upLine(c.Uptime) + because(c.Reason)
	case author.OpRelease:
		if len(c.After) == 0 {
			return c.Reason + ", leaves once all holders have proved themselves"
		}
		return fmt.Sprintf("%s, leaves after %s %s proved", c.Reason, strings.Join(c.After, " and "), isAre(len(c.After)))
	case author.OpStandby:
		return "stands by" + upLine(c.Uptime)
	}
	return "stands by no longer: " + c.Reason
}

// upLine says what a host's uptime is taken for.
func upLine(uptime int) string {
	if uptime == 0 || uptime == replicate.NewUptime {
		return "   not observed yet"
	}
	return fmt.Sprintf("   up %s (low estimate)", millionths(uptime))
}

func because(reason string) string {
	if reason == "" || reason == "has room" {
		return ""
	}
	return "   " + reason
}

// labelValues is what the author knows of a host beyond its name: "AS64500, EU".
func labelValues(host string, labels map[string]string) []string {
	var values []string
	for _, k := range []string{replicate.LabelOperator, replicate.LabelNetwork, replicate.LabelRegion} {
		if v := labels[k]; v != "" && v != host {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	return []string{strings.Join(values, ", ")}
}

// labelPairs is all labels of a host, in order.
func labelPairs(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

// failureName is what fails, as people call it.
func failureName(f *author.Failure) string {
	if f.Label == "host" {
		return f.Value
	}
	return f.Label + " " + f.Value
}
