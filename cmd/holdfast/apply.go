package main

import (
	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) applyCommand() *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "carry out the plan that was shown", ArgsUsage: "[DIGEST]",
		Description: "Exactly that plan, or nothing (exit code 4) where hosts or wants have changed since `holdfast plan` showed it. Without\n" +
			"DIGEST it is the last one that was shown. New copies are proved before anything is signed, and all of them before\n" +
			"anything is taken away; interrupted, run it again.",
		Flags: append(networkFlags(),
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "carry out whatever the plan is now"},
			&cli.StringFlag{Name: "site", Aliases: []string{"s"}, Usage: "with --yes: of this site only", DefaultText: "all"}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usage("apply takes the digest of one plan, or none for the last one")
			}
			req := author.ApplyRequest{Digest: c.Args().First(), Yes: c.Bool("yes"), Alias: c.String("site")}
			if req.Alias != "" && !req.Yes {
				return usage("--site goes with --yes: a plan that was shown is carried out as a whole")
			}
			return ask(c.Context, e, c, node.Connected, "apply", req, e.showApplied)
		},
	}
}

func (e *env) showApplied(r author.Applied) {
	if r.Nothing {
		e.printf("nothing to do\n")
	}
	for _, s := range r.Sites {
		e.showAppliedSite(s)
	}
}

func (e *env) showAppliedSite(s author.AppliedSite) {
	e.printf("%s  %s, about %s\n", s.Alias, copies(s.CopiesAfter), percent(s.AvailabilityAfter))
	e.showHosts(s.Hosts)
	for _, c := range s.Changes {
		switch c.Op {
		case author.OpRelease:
			e.printf("  gone  %s\n", c.Host)
		case author.OpStandby:
			e.printf("  stands by  %s\n", c.Host)
		}
	}
	for _, w := range s.Warnings {
		e.say(e.err, "warning: %s\n", w)
	}
	for _, n := range s.Notes {
		e.note(n)
	}
}
