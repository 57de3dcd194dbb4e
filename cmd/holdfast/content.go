package main

import (
	"io"
	"os"
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
				e.say(e.err, "%s, %s in %s\n", counted(g.Files, "file"), size(g.Bytes), req.Out)
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
		return author.GetRequest{}, usage("%s needs -o: where to write", commandName(c))
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
			if e.json {
				return errBothOutput
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
		Description: "CAR is a file; - is standard input.",
		Action: func(c *cli.Context) error {
			if err := exactly(c, "CAR"); err != nil {
				return err
			}
			path, done, err := e.inputFile(c.Args().First())
			if err != nil {
				return err
			}
			defer done()
			return ask(c.Context, e, c, node.Blocks, "import", node.Address{Address: path}, func(r author.ImportResult) {
				for _, root := range r.Roots {
					e.printf("%s\n", root)
				}
				e.say(e.err, "%s, %s\n", counted(r.Blocks, "block"), size(r.Bytes))
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

// inputFile gives standard input a name, by which a running node can open it.
func (e *env) inputFile(arg string) (path string, done func(), err error) {
	if arg != "-" {
		path, err = filepath.Abs(arg)
		return path, func() {}, err
	}
	f, err := os.CreateTemp("", "holdfast-*.car")
	if err != nil {
		return "", nil, err
	}
	_, err = io.Copy(f, e.in)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", nil, err
	}
	return f.Name(), func() { os.Remove(f.Name()) }, nil
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

// errBothOutput refuses what would mix bytes and JSON.
var errBothOutput = control.Errorf(control.Usage, "--json and the bytes both want standard output")

func (e *env) exportStream(c *cli.Context) error {
	if e.json {
		return errBothOutput
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
