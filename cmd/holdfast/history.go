package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) historyCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "the releases of a site, newest first, and which are still kept", ArgsUsage: "SITE",
		Description: "--verify follows the chain of releases to its start instead, and checks each of them. Exit code 0: all of it is\n" +
			"there and fits; 5: a release can't be had; 6: one is not what it has to be.\n" +
			"Example: holdfast history blog --limit 10",
		Flags: append(networkFlags(),
			&cli.IntFlag{Name: "limit", Usage: "how many", Value: 100},
			&cli.BoolFlag{Name: "events", Usage: "what happened to its copies instead: by what this machine saw, and by what the hosts say"},
			&cli.BoolFlag{Name: "verify", Usage: "check the whole chain, block by block, from the signed record to the first release"}),
		Action: func(c *cli.Context) error {
			if err := exactly(c, "SITE"); err != nil {
				return err
			}
			req := author.HistoryRequest{Site: c.Args().First(), Limit: c.Int("limit")}
			if c.Bool("verify") && c.Bool("events") {
				return usage("--verify and --events show different things: one of them")
			}
			if c.Bool("verify") {
				return ask(c.Context, e, c, node.Connected, "history verify", req, e.showVerifiedHistory)
			}
			if req.Limit < 1 {
				return usage("--limit must be at least 1")
			}
			if c.Bool("events") {
				return ask(c.Context, e, c, node.Connected, "history events", author.EventsRequest(req), e.showEvents)
			}
			return ask(c.Context, e, c, node.Connected, "history", req, e.showHistory)
		},
	}
}

func (e *env) showHistory(r node.Releases) {
	for i, h := range r.Releases {
		if h.Noted && (i == 0 || !r.Releases[i-1].Noted) {
			e.showGap(r.Gap)
		}
		mark := " "
		if h.Current {
			mark = "*"
		}
		line := fmt.Sprintf("%s%4d  %-12s %6d files %9s  %s", mark, h.Number, when(h.Time), h.Files, size(h.Bytes), oneLine(h.Message))
		e.printf("%s\n", strings.TrimRight(line, " "))
		by := ""
		if h.Tool != "" {
			by = "  by " + oneLine(h.Tool)
		}
		e.printf("       %s  %s%s\n", h.Root, keptWhere(h, r), by)
	}
	if n := len(r.Releases); n == 0 || !r.Releases[n-1].Noted {
		e.showGap(r.Gap)
	}
}

func (e *env) showGap(g *author.HistoryGap) {
	if g == nil {
		return
	}
	what := "the release before"
	if g.Number > 0 {
		what = "release " + strconv.FormatUint(g.Number, 10)
	}
	e.printf("  -- the chain ends here: %s can't be read (%s)\n", what, g.Error)
}

// oneLine keeps a message of somebody else's from looking like lines of ours.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// keptWhere says who still has what a release shows.
func keptWhere(h author.HistoryEntry, r node.Releases) string {
	var where []string
	if h.Here {
		where = append(where, "here")
	}
	if h.Hosts > 0 {
		where = append(where, fmt.Sprintf("at %d of %d hosts", h.Hosts, r.HostsAsked))
	}
	switch {
	case len(where) > 0:
		return "kept " + strings.Join(where, " and ")
	case r.HostsAnswered < r.HostsAsked:
		return fmt.Sprintf("not kept here; %d of %d hosts don't answer", r.HostsAsked-r.HostsAnswered, r.HostsAsked)
	}
	return "not kept any more"
}

func (e *env) showVerifiedHistory(v author.VerifiedHistory) {
	e.printf("%d releases, the first of %s, all of them there and in order\n", v.Releases, when(v.Since))
	e.printf("  name  %s\n  root  %s\n", v.Name, v.Root)
	for _, w := range v.Warnings {
		e.say(e.err, "warning: %s\n", w)
	}
}

// showEvents lists what happened, each line with who says so.
func (e *env) showEvents(r author.SiteEvents) {
	if len(r.Events) == 0 {
		e.note("nothing is known to have happened")
	}
	for _, ev := range r.Events {
		line := fmt.Sprintf("%s  %-12s %s", ev.At.Local().Format("2006-01-02 15:04"), ev.By, eventText(ev))
		e.printf("%s\n", line)
	}
	e.showTellers(r.Reports)
}

// showTellers says how old the hosts' word is: in one line of all that told theirs at the same time.
func (e *env) showTellers(reports []author.HostReport) {
	var times []string
	names := make(map[string][]string)
	for _, h := range reports {
		at := when(h.At)
		if names[at] == nil {
			times = append(times, at)
		}
		names[at] = append(names[at], h.Name)
	}
	for _, at := range times {
		e.note(fmt.Sprintf("told by %s %s", listOf(names[at]), at))
	}
}

// eventText says what an event is in words.
func eventText(ev author.SiteEvent) string {
	texts := map[string]string{
		"published": "published WHAT", "proved": "HOST has proved its copy", "missed": "HOST failed to prove its copy: WHAT",
		"unreachable": "HOST could not be reached", "rival": "two machines signed: WHAT", "took_over": "took over: WHAT", "let_go": "let go of its copy again: WHAT",
		"absent": "HOST does not hold it, as it says itself", "convicted": "HOST is convicted: WHAT", "gone": "HOST is gone: silent for longer than usual",
		"back": "HOST is back", "fetch_failed": "could not fetch it: WHAT", "declined": "declined to take over: WHAT",
	}
	text, known := texts[ev.Kind]
	if !known {
		text = oneLine(ev.Kind) + " HOST WHAT"
	}
	said := strings.NewReplacer("HOST", oneLine(ev.Host), "WHAT", oneLine(ev.Detail)).Replace(text)
	return strings.TrimRight(strings.TrimSpace(said), ": ")
}
