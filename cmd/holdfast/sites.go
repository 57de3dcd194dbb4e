package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "who holds a site, when each last proved it, and until when it is safe", ArgsUsage: "[SITE]",
		Description: "What this machine has seen itself counts; what hosts say is told as such. Availabilities are estimates, from how often\n" +
			"hosts were up when they were looked at.\n" +
			"Example, for cron: holdfast status --check --fail-below 99.9 --quiet >/dev/null",
		Flags: append(networkFlags(),
			&cli.BoolFlag{Name: "check", Usage: "have each host prove its copy again, now; standbys that have taken over, too"},
			&cli.StringFlag{Name: "fail-below", Usage: "exit with 1 where a site's availability is less than this percentage"},
			&cli.BoolFlag{Name: "usage", Usage: "say what the site takes on this machine, too; a running node always does"}),
		Action: func(c *cli.Context) error { return e.runStatus(c.Context, c) },
	}
}

func (e *env) runStatus(ctx context.Context, c *cli.Context) error {
	if c.NArg() > 1 {
		return usage("status takes one site, or none for all")
	}
	below := 0
	if c.IsSet("fail-below") {
		var err error
		if below, err = parsePercent(c.String("fail-below")); err != nil {
			return err
		}
	}
	scope := node.Records
	switch {
	case c.Bool("check"):
		scope = node.Connected
	case c.Bool("usage"):
		scope = node.Blocks
	}
	req := author.StatusRequest{Alias: c.Args().First(), Check: c.Bool("check")}
	var low []author.SiteStatus
	show := e.json
	if below > 0 {
		e.json = false // a failure is one object, too: which one is known only then
	}
	defer func() { e.json = show }()
	err := ask(ctx, e, c, scope, "status", req, func(s node.Sites) {
		low = lessThan(s.Sites, below)
		if e.json = show; e.json {
			if len(low) == 0 {
				e.print(s, nil)
			}
			return
		}
		if len(s.Sites) == 0 {
			e.printf("nothing was published here yet; start with `holdfast publish DIR --site NAME`\n")
		}
		for _, st := range s.Sites {
			e.showStatus(st)
		}
	})
	if err != nil || len(low) == 0 {
		return err
	}
	return tooLow(low, below)
}

// lessThan is the sites that are meant to be kept by others, and are there less often than so many millionths of the time.
func lessThan(sites []author.SiteStatus, millionths int) (low []author.SiteStatus) {
	for _, s := range sites {
		if s.MinCopies > 0 && s.Availability < int64(millionths)*1000 {
			low = append(low, s)
		}
	}
	return low
}

// tooLow is the failure of --fail-below.
func tooLow(low []author.SiteStatus, below int) error {
	var names []string
	for _, s := range low {
		names = append(names, fmt.Sprintf("%s is at %s with %d of %d copies", s.Alias, percent(s.Availability), s.Proved, s.Copies))
	}
	err := control.Errorf(control.Failed, "%s: less than %s", strings.Join(names, ", "), millionths(below))
	err.Details = map[string]any{"sites": low}
	return err
}

func (e *env) showStatus(s author.SiteStatus) {
	_, last := provedBy(slices.Concat(s.Hosts, s.Standbys))
	if s.Number == 0 {
		e.printf("%s  a release that is not known here; `holdfast history %s` asks for it\n", s.Alias, s.Alias)
	} else {
		e.printf("%s  release %d  %s  %s  %s\n", s.Alias, s.Number, when(s.Published), counted(s.Files, "file"), size(s.Bytes))
	}
	e.printf("  name  %s\n", s.Name)
	e.printf("  root  %s\n", s.Root)
	if s.Copies == 0 {
		e.printf("  nobody else holds it: it is online while this machine serves it\n")
	} else {
		e.printf("  %d of %d copies, last proved %s\n", s.Proved, s.Copies, when(last))
		e.printf("  %s\n", safeLine(s))
		e.printf("  there about %s of the time (low estimate); %s\n", percent(s.Availability), wantedLine(s))
	}
	e.printf("  %s\n", nameLine(s.NameLife))
	switch l := s.NameLife; {
	case l.Delegate != "":
		e.printf("  published by the deploy key %s\n", l.Delegate)
	case l.MovedTo != "":
		e.printf("  moved to %s for good\n", l.MovedTo)
	}
	if s.Stored != nil {
		e.printf("  here  %s of blocks, %s of them its own\n", size(s.Stored.Bytes), size(s.Stored.UniqueBytes))
	}
	e.showHolders(s)
	if len(s.Hosts)+len(s.Standbys) > 0 && (s.AskedAt == nil || time.Since(*s.AskedAt) > 2*time.Minute) {
		e.printf("  no host could be asked now: this is as it was seen last; hosts were last asked %s\n", when(s.AskedAt))
	}
	for _, r := range s.Repairing {
		e.printf("  repair  %s\n", r)
	}
	for _, w := range s.Warnings {
		e.say(e.err, "warning: %s\n", w)
	}
}

// safeLine is until when nobody has to do anything, or why that can't be said.
func safeLine(s author.SiteStatus) string {
	switch {
	case s.SafeUntil != nil:
		return "safe until " + when(s.SafeUntil)
	case s.MinCopies == 0:
		return "safe for as long as this machine serves it: no copies are wanted"
	case s.Proved < s.MinCopies:
		return "not safe: fewer copies are proved than wanted"
	}
	return "not safe: what it rests on has ended, or nobody sees it"
}

// wantedLine is the target, and whether it is met.
func wantedLine(s author.SiteStatus) string {
	switch {
	case s.Target == 0:
		return "no more is wanted than copies"
	case s.Availability >= int64(s.Target)*1000:
		return millionths(s.Target) + " is wanted"
	}
	return millionths(s.Target) + " is wanted, and not reached"
}

// shownFailures is how many of the worst single failures are told; --json has all.
const shownFailures = 3

// showHolders shows who has a site, who would take over, and what single failures would leave of it.
func (e *env) showHolders(s author.SiteStatus) {
	for _, h := range s.Hosts {
		e.printf("  host  %s\n", holderLine(h))
	}
	for i, h := range s.Standbys {
		role := "next"
		if h.TookOver != nil {
			role = "host"
		}
		e.printf("  %s  %s\n", role, standbyLine(i, h))
	}
	for _, t := range s.ThirdParties {
		e.printf("  also  %-16s %s\n", t.Name, thirdPartyText(t))
	}
	for _, v := range s.Volunteers {
		e.printf("  helps %s  %s\n", v.ID, volunteerText(v))
	}
	for _, f := range s.Failures[:min(len(s.Failures), shownFailures)] {
		e.printf("  without %s  %s, %s\n", failureName(&f), copies(f.Copies), percent(f.Availability))
	}
}

func holderLine(h author.HostState) string {
	line := fmt.Sprintf("%-16s %-11s %-10s", h.Name, h.State, when(h.VerifiedAt))
	if h.State == author.Proved {
		line += "  " + size(h.Bytes)
	}
	line += upLine(h.Uptime)
	if l := labelValues(h.Name, h.Label); len(l) > 0 {
		line += "   " + l[0]
	}
	if h.Draining {
		line += "   draining"
	}
	if h.Until != nil {
		line += "   until " + when(h.Until)
	}
	if h.Error != "" {
		line += "   " + h.Error
	}
	return line
}

func standbyLine(i int, h author.HostState) string {
	if h.TookOver != nil {
		return holderLine(h) + "   took over " + when(h.TookOver) + ", as it says"
	}
	line := fmt.Sprintf("%-16s stands by as %s, %s reserved", h.Name, ordinal(i+1), size(h.Bytes)) + upLine(h.Uptime)
	if l := labelValues(h.Name, h.Label); len(l) > 0 {
		line += "   " + l[0]
	}
	return line
}

// ordinal writes a place in a queue.
func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

// nameLine says how long a name lives, and who sees to that.
func nameLine(l author.NameLife) string {
	line := "name valid until -"
	if l.ValidUntil != nil {
		line = "name valid until " + when(l.ValidUntil)
	}
	if l.Hosts == 0 {
		return line + " · kept alive by this machine only"
	}
	line += fmt.Sprintf(" · kept alive by %d of %d hosts", l.Alive, l.Hosts)
	switch {
	case l.Alive == 0:
		return line
	case l.PutAt == nil:
		return line + fmt.Sprintf(" (seen there %s)", when(l.SeenAt))
	}
	return line + fmt.Sprintf(" (last put %s, seen there %s)", when(l.PutAt), when(l.SeenAt))
}

// provedBy counts the copies that stand proved, and tells when one last was.
func provedBy(hosts []author.HostState) (n int, last *time.Time) {
	for _, h := range hosts {
		if h.State != author.Proved {
			continue
		}
		n++
		if last == nil || h.VerifiedAt != nil && h.VerifiedAt.After(*last) {
			last = h.VerifiedAt
		}
	}
	return n, last
}

func (e *env) sitesCommand() *cli.Command {
	return &cli.Command{
		Name: "sites", Usage: "the sites published here, a line each",
		Action: func(c *cli.Context) error {
			return ask(c.Context, e, c, node.Records, "status", author.StatusRequest{}, func(s node.Sites) {
				if len(s.Sites) == 0 {
					e.note("nothing was published here yet")
				}
				for _, st := range s.Sites {
					held := "on this machine only"
					if st.Copies > 0 {
						held = fmt.Sprintf("%d of %d copies", st.Proved, st.Copies)
					}
					e.printf("%-20s release %-4d %-12s %9s  %s  %s\n  %s\n",
						st.Alias, st.Number, when(st.Published), size(st.Bytes), held, st.URL, nameLine(st.NameLife))
					for _, w := range st.Warnings {
						e.say(e.err, "warning: %s: %s\n", st.Alias, w)
					}
				}
			})
		},
	}
}
