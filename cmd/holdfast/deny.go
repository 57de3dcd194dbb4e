package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) denyCommand() *cli.Command {
	one := func(method string, show func(node.Denial)) cli.ActionFunc {
		return func(c *cli.Context) error {
			if err := exactly(c, "ITEM"); err != nil {
				return err
			}
			req := node.DenyRequest{Item: c.Args().First()}
			if method == "deny add" {
				req.Status, req.Reason = c.Int("status"), c.String("reason")
			}
			return ask(c.Context, e, c, node.Records, method, req, show)
		}
	}
	return &cli.Command{
		Name: "deny", Usage: "what this node neither keeps for others nor serves",
		Description: "ITEM is /ipfs/CID/path (with a * at its end: and whatever begins so), /ipns/NAME, a domain, or a CID with all below it.\n" +
			"A running node goes by it at once. Lists that others keep go into the home's folder denylists, as *.deny.",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "deny something", ArgsUsage: "ITEM",
				Flags: []cli.Flag{
					&cli.IntFlag{Name: "status", Usage: "of the gateway's answers: 410, or 451 for legal reasons", DefaultText: "410"},
					&cli.StringFlag{Name: "reason", Usage: "told to readers"},
				},
				Action: one("deny add", e.showDenial),
			},
			{
				Name: "remove", Usage: "deny it no more; where another list does, an exception is written", ArgsUsage: "ITEM",
				Action: one("deny remove", e.showDenial),
			},
			{
				Name: "check", Usage: "tell whether something is denied, and by which line", ArgsUsage: "ITEM",
				Action: one("deny check", e.showDenial),
			},
			{
				Name: "list", Usage: "the lists that hold, and what was added here",
				Action: func(c *cli.Context) error {
					if err := exactly(c); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "deny list", struct{}{}, e.showDenied)
				},
			},
		},
	}
}

func (e *env) showDenial(d node.Denial) {
	if !d.Denied {
		e.printf("%s  not denied\n", d.Item)
		return
	}
	facts := []string{d.Item, " denied by " + d.Rule}
	if d.Reason != "" {
		facts = append(facts, " "+d.Reason)
	}
	e.printf("%s\n", strings.Join(facts, " "))
}

func (e *env) showDenied(l node.DenyLists) {
	if len(l.Files) == 0 {
		e.note("nothing is denied")
		return
	}
	for _, f := range l.Files {
		e.printf("%s\n", f)
	}
	e.printf("rules in all: %d\n", l.Rules)
	for _, line := range l.Local {
		e.printf("  %s\n", line)
	}
}
