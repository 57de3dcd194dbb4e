package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "who holds a site, when each last proved it, and until when it is safe", ArgsUsage: "[SITE]",
		Flags: append(networkFlags(),
			&cli.BoolFlag{Name: "check", Usage: "have each host prove its copy again, now"},
			&cli.BoolFlag{Name: "usage", Usage: "say what the site takes on this machine, too; a running node always does"}),
		Action: func(c *cli.Context) error { return e.runStatus(c.Context, c) },
	}
}

func (e *env) runStatus(ctx context.Context, c *cli.Context) error {
	if c.NArg() > 1 {
		return usage("status takes one site, or none for all")
	}
	scope := node.Records
	switch {
	case c.Bool("check"):
		scope = node.Connected
	case c.Bool("usage"):
		scope = node.Blocks
	}
	req := author.StatusRequest{Alias: c.Args().First(), Check: c.Bool("check")}
	return ask(ctx, e, c, scope, "status", req, func(s node.Sites) {
		if len(s.Sites) == 0 {
			e.printf("nothing was published here yet; start with `holdfast publish DIR --site NAME`\n")
		}
		for _, st := range s.Sites {
			e.showStatus(st)
		}
	})
}

func (e *env) showStatus(s author.SiteStatus) {
	proved, last := provedBy(s.Hosts)
	if s.Number == 0 {
		e.printf("%s  a release that is not known here; `holdfast history %s` asks for it\n", s.Alias, s.Alias)
	} else {
		e.printf("%s  release %d  %s  %d files  %s\n", s.Alias, s.Number, when(s.Published), s.Files, size(s.Bytes))
	}
	e.printf("  name  %s\n", s.Name)
	e.printf("  root  %s\n", s.Root)
	if s.Copies == 0 {
		e.printf("  nobody else holds it: it is online while this machine serves it\n")
	} else {
		e.printf("  %d of %d copies, last proved %s\n", proved, s.Copies, when(last))
		e.printf("  safe until %s\n", when(s.SafeUntil))
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
	e.showHosts(s.Hosts)
	for _, w := range s.Warnings {
		e.say(e.err, "warning: %s\n", w)
	}
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
					if proved, _ := provedBy(st.Hosts); st.Copies > 0 {
						held = fmt.Sprintf("%d of %d copies", proved, st.Copies)
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
