package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
)

// env is what a command has of its process, so that it can run without one.
type env struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	terminal bool  // err is a terminal: progress may redraw a line
	person   asker // nil where there is nobody to ask
	keyWork  int   // naming.KeyringConfig.Work

	home    string
	json    bool
	quiet   bool
	verbose bool
	// tellSteps shows progress even with --json: for programs that show it to people.
	tellSteps bool
}

func processEnv() *env {
	return &env{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		terminal: term.IsTerminal(int(os.Stderr.Fd())), person: personAt(os.Stdin, os.Stderr),
	}
}

// version is the module's, as the Go toolchain recorded it.
func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "0.1.0-dev"
}

// globalFlags may stand anywhere on the command line.
func (e *env) globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "home", Usage: "folder with keys, state and blocks", DefaultText: "HOLDFAST_HOME, or the user's data folder"},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "no progress"},
		&cli.BoolFlag{Name: "progress", Usage: "show progress on standard error even with --json"},
		&cli.BoolFlag{Name: "verbose", Usage: "log what happens on standard error"},
	}
}

// readGlobals takes the global flags into the env.
func (e *env) readGlobals(c *cli.Context) error {
	e.json, e.quiet, e.verbose, e.tellSteps = c.Bool("json"), c.Bool("quiet"), c.Bool("verbose"), c.Bool("progress")
	e.home = c.String("home")
	if e.home == "" {
		e.home = e.getenv("HOLDFAST_HOME")
	}
	if e.home != "" {
		return nil
	}
	dir, err := dataDir(e.getenv)
	e.home = filepath.Join(dir, "holdfast")
	return err
}

// dataDir is the XDG data directory, or what the system has in its place.
func dataDir(getenv func(string) string) (string, error) {
	if d := getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return d, nil
	}
	home := getenv("HOME")
	switch runtime.GOOS {
	case "windows":
		if d := getenv("LOCALAPPDATA"); d != "" {
			return d, nil
		}
	case "darwin":
		if home != "" {
			return filepath.Join(home, "Library", "Application Support"), nil
		}
	default:
		if home != "" {
			return filepath.Join(home, ".local", "share"), nil
		}
	}
	return "", control.Errorf(control.Usage, "there is no home directory: say where to keep things with --home DIR")
}

func (e *env) logger() *slog.Logger {
	level := slog.LevelError
	if e.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: level}))
}

// config is config.toml with the flags of this command laid over it.
func (e *env) config(c *cli.Context) (node.Config, error) {
	cfg, err := node.LoadConfig(e.home)
	if err != nil {
		return cfg, control.Errorf(control.Usage, "%v", err)
	}
	cfg.RuntimeDir, cfg.Tool, cfg.Log, cfg.Keys = e.getenv("XDG_RUNTIME_DIR"), "holdfast/"+version(), e.logger(), e.nodeKeys()
	overlay(c, &cfg)
	if err := e.overlayLinks(&cfg); err != nil {
		return cfg, err
	}
	switch cfg.Network {
	case "", "private", "public", "offline":
	default:
		return cfg, control.Errorf(control.Usage, "--network must be private, public or offline, not %q", cfg.Network)
	}
	return cfg, nil
}

// nsMapVar holds DNSLinks that stand in for DNS, in the form that other IPFS programs know.
const nsMapVar = "IPFS_NS_MAP"

// overlayLinks lets the environment's DNSLinks win over the config's.
func (e *env) overlayLinks(cfg *node.Config) error {
	links, err := naming.ParseNSMap(e.getenv(nsMapVar))
	if err != nil {
		return control.Errorf(control.Usage, "%s: %v: want DOMAIN:/ipfs/CID or DOMAIN:/ipns/NAME, with commas between", nsMapVar, err)
	}
	if len(links) > 0 {
		merged := maps.Clone(cfg.Gateway.DNSLink)
		if merged == nil {
			merged = make(map[string]string)
		}
		maps.Copy(merged, links)
		cfg.Gateway.DNSLink = merged
	}
	return nil
}

// overlay lets the flags that were given win over the config.
func overlay(c *cli.Context, cfg *node.Config) {
	text := func(name string, to *string) {
		if c.IsSet(name) {
			*to = c.String(name)
		}
	}
	texts := func(name string, to *[]string) {
		if c.IsSet(name) {
			*to = c.StringSlice(name)
		}
	}
	text("network", &cfg.Network)
	texts("peer", &cfg.Peers)
	texts("p2p", &cfg.P2P.Listen)
	if !serves(c) {
		return // `host add` and `domain check` have a --gateway and a --name of their own
	}
	text("gateway", &cfg.Gateway.Listen)
	text("pins", &cfg.Pins.Listen)
	text("name", &cfg.Pins.Name)
	if c.IsSet("host") {
		cfg.Host = c.Bool("host")
	}
	if c.IsSet("allow-private") {
		cfg.P2P.AllowPrivate = c.Bool("allow-private")
	}
}

// serves tells whether the command runs a node of its own.
func serves(c *cli.Context) bool { return c.Command.Name == "serve" || c.Command.Name == "up" }

// caller is a node to ask: the running one, or one opened for this command.
type caller struct {
	control.Caller
	running *control.Client // nil where the node is our own
	close   func()
}

// node finds the node that runs on the home, or opens the home as far as
// scope says.
func (e *env) node(ctx context.Context, c *cli.Context, scope node.Scope) (*caller, error) {
	cfg, err := e.config(c)
	if err != nil {
		return nil, err
	}
	if client, err := e.running(ctx, cfg); err == nil {
		if c.IsSet("peer") || c.IsSet("network") {
			e.note("a node runs on this home: --network and --peer are its own")
		}
		return &caller{Caller: e.unlocking(client), running: client, close: client.Close}, nil
	}
	n, err := node.Open(ctx, cfg, scope, "holdfast "+commandName(c))
	if err != nil {
		return nil, control.Classify(err, node.KindOf)
	}
	stop := func() {}
	if scope >= node.Connected {
		if stop, err = n.ServeBriefly(ctx); err != nil {
			n.Close()
			return nil, control.Classify(err, node.KindOf)
		}
	}
	return &caller{Caller: e.unlocking(control.InProcess(n.Methods())), close: func() {
		stop()
		if err := n.Close(); err != nil {
			e.note("closing the home: " + err.Error())
		}
	}}, nil
}

// running finds the node that has the home open.
func (e *env) running(ctx context.Context, cfg node.Config) (*control.Client, error) {
	path, err := control.SocketPath(cfg.RuntimeDir, cfg.Home)
	if err != nil {
		return nil, err
	}
	return control.Dial(ctx, path)
}

// ask runs one method and prints its result: as JSON, or by human.
func ask[R any](ctx context.Context, e *env, c *cli.Context, scope node.Scope, method string, params any, human func(R)) error {
	n, err := e.node(ctx, c, scope)
	if err != nil {
		return err
	}
	defer n.close()
	p := e.progress()
	var out R
	err = n.Call(ctx, method, params, &out, p.event)
	p.done()
	if err != nil {
		return err
	}
	e.print(out, func() { human(out) })
	return nil
}

// print shows a result.
func (e *env) print(v any, human func()) {
	if !e.json {
		human()
		return
	}
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// fail prints an error and returns the exit code.
func (e *env) fail(err error) int {
	ce := control.Classify(err, node.KindOf)
	if e.json {
		e.printFailure(ce)
		return ce.Kind.ExitCode()
	}
	e.say(e.err, "holdfast: %s\n", ce.Message)
	return ce.Kind.ExitCode()
}

// printFailure shows a failure as JSON.
func (e *env) printFailure(ce *control.Error) {
	body := map[string]any{"kind": ce.Kind, "message": ce.Message}
	for k, v := range ce.Details {
		body[k] = v
	}
	e.print(map[string]any{"error": body}, nil)
}
