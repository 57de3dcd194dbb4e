package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func outFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: usage}
}

func (e *env) getCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "write a site, folder or file to disk, every block verified", ArgsUsage: "ADDRESS -o DIR",
		Flags: append(networkFlags(), outFlag("where to; must not exist, or be an empty folder")),
		Action: func(c *cli.Context) error {
			req, err := e.outRequest(c)
			if err != nil {
				return err
			}
			return ask(c.Context, e, c, node.Connected, "get", req, func(g author.Got) {
				e.printf("%s\n", g.Root)
				e.say(e.err, "%d files, %s in %s\n", g.Files, size(g.Bytes), req.Out)
			})
		},
	}
}

// outRequest reads ADDRESS and -o.
func (e *env) outRequest(c *cli.Context) (author.GetRequest, error) {
	if err := exactly(c, "ADDRESS"); err != nil {
		return author.GetRequest{}, err
	}
	if c.String("output") == "" {
		return author.GetRequest{}, usage("%s needs -o: where to write", c.Command.FullName())
	}
	out, err := filepath.Abs(c.String("output"))
	return author.GetRequest{Address: c.Args().First(), Out: out}, err
}

func (e *env) catCommand() *cli.Command {
	return &cli.Command{
		Name: "cat", Usage: "write one file to standard output", ArgsUsage: "ADDRESS",
		Flags: networkFlags(),
		Action: func(c *cli.Context) error {
			if err := exactly(c, "ADDRESS"); err != nil {
				return err
			}
			n, err := e.node(c.Context, c, node.Connected)
			if err != nil {
				return err
			}
			defer n.close()
			return n.Copy(c.Context, "cat", node.Address{Address: c.Args().First()}, e.out)
		},
	}
}

func (e *env) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "take the blocks of a CAR file, each verified", ArgsUsage: "CAR",
		Action: func(c *cli.Context) error {
			if err := exactly(c, "CAR"); err != nil {
				return err
			}
			path, err := filepath.Abs(c.Args().First())
			if err != nil {
				return err
			}
			return ask(c.Context, e, c, node.Blocks, "import", node.Address{Address: path}, func(r author.ImportResult) {
				for _, root := range r.Roots {
					e.printf("%s\n", root)
				}
				e.say(e.err, "%d blocks, %s\n", r.Blocks, size(r.Bytes))
				for _, m := range r.Missing {
					e.say(e.err, "warning: missing: %s\n", m)
				}
				for _, w := range r.Warnings {
					e.say(e.err, "warning: %s\n", w)
				}
			})
		},
	}
}

func (e *env) exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write everything under an address as a CAR file", ArgsUsage: "ADDRESS -o CAR",
		Flags: append(networkFlags(), outFlag("the file; - is standard output")),
		Action: func(c *cli.Context) error {
			if c.String("output") == "-" {
				return e.exportStream(c)
			}
			req, err := e.outRequest(c)
			if err != nil {
				return err
			}
			return ask(c.Context, e, c, node.Connected, "export", req, func(g author.Got) {
				e.printf("%s\n", g.Root)
				e.say(e.err, "%s in %s\n", size(g.Bytes), req.Out)
			})
		},
	}
}

func (e *env) exportStream(c *cli.Context) error {
	if e.json {
		return control.Errorf(control.Usage, "--json and -o - both want standard output")
	}
	if err := exactly(c, "ADDRESS"); err != nil {
		return err
	}
	n, err := e.node(c.Context, c, node.Connected)
	if err != nil {
		return err
	}
	defer n.close()
	return n.Copy(c.Context, "export", node.Address{Address: c.Args().First()}, e.out)
}
