package main

import (
	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) followCommand() *cli.Command {
	return &cli.Command{
		Name: "follow", Usage: "keep somebody's name alive: hear of its records at once, and put them back where readers look", ArgsUsage: "[NAME]",
		Description: "A node that serves does the work (`holdfast serve`). Without a name, lists those that are followed.\n" +
			"The site's content is not kept: that is what a host does (`holdfast serve --host`).\n" +
			"Example: holdfast follow k51…",
		Flags: append(networkFlags(), &cli.BoolFlag{Name: "stop", Usage: "follow the name no longer"}),
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				if c.Bool("stop") {
					return usage("follow --stop needs NAME")
				}
				return ask(c.Context, e, c, node.Records, "follows", struct{}{}, e.showFollows)
			}
			if err := exactly(c, "NAME"); err != nil {
				return err
			}
			name := node.Address{Address: c.Args().First()}
			if c.Bool("stop") {
				return ask(c.Context, e, c, node.Records, "unfollow", name, func(f node.Follow) { e.printf("%s is followed no longer\n", f.Name) })
			}
			return ask(c.Context, e, c, node.Connected, "follow", name, func(f node.Follow) {
				e.printf("%s\n", f.Name)
				if f.Root == "" {
					e.note("nobody who could be asked knows a record of it yet; it is looked for again while a node serves")
				} else {
					e.printf("  leads to /ipfs/%s\n", f.Root)
				}
			})
		},
	}
}

func (e *env) showFollows(f node.Follows) {
	if len(f.Follows) == 0 {
		e.note("no name is followed; `holdfast follow NAME` begins")
	}
	for _, one := range f.Follows {
		e.printf("%s  %s\n", one.Name, one.Root)
	}
}
