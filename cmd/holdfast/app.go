package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/control"
)

// run is the program without its process: arguments in, exit code out.
func run(ctx context.Context, args []string, e *env) int {
	app := e.app()
	// Where the flag parser gives up, before the flags are read, --json counts all the same.
	json := asksJSON(app, args)
	err := complete(app, args)
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, reorder(app, args)...))
	}
	if err == nil {
		return 0
	}
	e.json = json
	if ctx.Err() != nil {
		err = control.Errorf(control.Failed, "interrupted; run it again to go on where it stopped")
	}
	return e.fail(err)
}

func (e *env) app() *cli.App {
	app := &cli.App{
		Name:      "holdfast",
		Usage:     "publish a folder; it stays online when your laptop is off",
		Version:   version(),
		Writer:    e.out,
		ErrWriter: e.err,
		Flags:     e.globalFlags(),
		// A label may hold a comma: repeated flags are given repeatedly.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides the exit code
		Before:                    func(c *cli.Context) error { return e.readGlobals(c) },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usage("no command %q; `holdfast help` lists them", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		Description: "Start with `holdfast demo`, or with `holdfast up DIR`.\n" +
			"ADDRESS is a CID, /ipfs/…, /ipns/…, ipfs://, ipns://, or a site's alias, with a path.",
	}
	app.Commands = []*cli.Command{
		e.demoCommand(), e.upCommand(), e.publishCommand(), e.buildCommand(), e.previewCommand(), e.serveCommand(),
		e.statusCommand(), e.sitesCommand(), e.historyCommand(), e.diffCommand(), e.rollbackCommand(), e.planCommand(), e.applyCommand(),
		e.getCommand(), e.catCommand(), e.importCommand(), e.exportCommand(),
		e.nameCommand(), e.followCommand(), e.domainCommand(), e.keyCommand(), e.hostCommand(), e.operatorCommand(), e.denyCommand(), e.tokenCommand(),
		e.gcCommand(), e.verifyCommand(), e.doctorCommand(),
	}
	onUsage := func(c *cli.Context, err error, _ bool) error {
		return usage("%v; see `holdfast %s --help`", err, commandName(c))
	}
	app.OnUsageError = onUsage
	setUsageError(app.Commands, onUsage)
	return app
}

// commandName is the command as it is typed behind the program's name.
func commandName(c *cli.Context) string {
	if c.Command == nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(c.Command.HelpName, c.App.HelpName))
}

func setUsageError(cmds []*cli.Command, f cli.OnUsageErrorFunc) {
	for _, c := range cmds {
		c.OnUsageError = f
		// Without this, `get help` would print a page instead of getting what is called help.
		c.HideHelpCommand = len(c.Subcommands) == 0
		if len(c.Subcommands) > 0 && c.Action == nil {
			c.Action = func(ctx *cli.Context) error {
				if ctx.Args().Present() {
					return usage("no command %q; see `holdfast %s --help`", ctx.Args().First(), c.Name)
				}
				return cli.ShowSubcommandHelp(ctx)
			}
		}
		setUsageError(c.Subcommands, f)
	}
}

func usage(format string, args ...any) error { return control.Errorf(control.Usage, format, args...) }

// exactly wants n arguments, named for the error.
func exactly(c *cli.Context, names ...string) error {
	if c.NArg() != len(names) {
		return usage("%s needs %s; see `holdfast %s --help`", commandName(c), strings.Join(names, " and "), commandName(c))
	}
	for i, n := range names {
		if c.Args().Get(i) == "" {
			return usage("%s is empty", n)
		}
	}
	return nil
}

// networkFlags are for commands that may ask the network.
func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "network", Usage: "private, public or offline", DefaultText: "private"},
		&cli.StringSliceFlag{Name: "peer", Usage: "multiaddr of a peer to connect to, ending in /p2p/ID; may be repeated"},
		&cli.StringSliceFlag{Name: "p2p", Usage: "multiaddr to listen on; may be repeated", DefaultText: "a free port, TCP and QUIC"},
	}
}

// readSecret reads a secret given as "-" from standard input, so that it need
// not stand on a command line, which other users can see.
func (e *env) readSecret(given, envName string) (string, error) {
	switch given {
	case "":
		return e.getenv(envName), nil
	case "-":
		b, err := io.ReadAll(io.LimitReader(e.in, 8<<10))
		if err != nil {
			return "", fmt.Errorf("read standard input: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	return given, nil
}
