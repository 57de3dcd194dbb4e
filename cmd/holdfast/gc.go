package main

import (
	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) gcCommand() *cli.Command {
	return &cli.Command{
		Name: "gc", Usage: "give back the space of blocks that nobody keeps",
		Description: "Sites, pins, imports and work that goes on keep their blocks. A node that serves does this by itself now and then.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be given back, and leave it"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usage("gc takes no arguments")
			}
			req := node.CollectRequest{DryRun: c.Bool("dry-run")}
			return ask(c.Context, e, c, node.Blocks, "gc", req, func(r node.Collected) {
				switch {
				case r.Blocks == 0:
					e.printf("nothing to give back\n")
				case r.DryRun:
					e.printf("%s, %s: would be given back\n", counted(r.Blocks, "block"), size(r.Bytes))
				default:
					e.printf("%s, %s; %s of disk given back\n", counted(r.Blocks, "block"), size(r.Bytes), size(r.Disk))
				}
			})
		},
	}
}
