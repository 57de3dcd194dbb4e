package main

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func serveFlags() []cli.Flag {
	return append(networkFlags(),
		&cli.StringFlag{Name: "gateway", Usage: "serve readers on this address; port 0 takes a free one", DefaultText: node.DefaultGateway},
		&cli.BoolFlag{Name: "host", Usage: "keep sites for those who have a token"},
		&cli.StringFlag{Name: "pins", Usage: "with --host: serve the Pinning Service API on this address; port 0 takes a free one", DefaultText: defaultPins},
		&cli.StringFlag{Name: "name", Usage: "with --host: how this host calls itself", DefaultText: "the machine's name"},
		&cli.BoolFlag{Name: "allow-private", Usage: "dial private addresses that tenants name; for hosts on one machine or a closed network"},
	)
}

const defaultPins = "127.0.0.1:8081"

func (e *env) serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "run a node: a gateway, a host, or both",
		Description: "Without a role in flags or config.toml it runs a gateway.",
		Flags:       serveFlags(),
		Action:      func(c *cli.Context) error { return e.runServe(c.Context, c) },
	}
}

func (e *env) runServe(ctx context.Context, c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("serve takes no arguments; to publish and serve a folder: `holdfast up DIR`")
	}
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	if cfg.Host && cfg.Network == "offline" {
		return usage("a host needs a network: --host and --network offline contradict each other")
	}
	if cfg.Pins.Listen != "" && !cfg.Host {
		return usage("--pins is for hosts: add --host")
	}
	if cfg.Host && cfg.Pins.Listen == "" {
		cfg.Pins.Listen = defaultPins
	}
	if !cfg.Host && cfg.Gateway.Listen == "" {
		cfg.Gateway.Listen = node.DefaultGateway
	}
	n, err := node.Open(ctx, cfg, node.Connected, "holdfast serve")
	if err != nil {
		return err
	}
	return e.serveUntil(ctx, n, e.ready, nil)
}

// serveUntil serves until ctx ends. ready is called once the node is; then, where not nil, is run beside it
// from there on, and its error ends the node.
func (e *env) serveUntil(ctx context.Context, n *node.Node, ready func(node.Info), then func(context.Context, control.Caller) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var thenErr error
	err := n.Serve(ctx, func(i node.Info) {
		ready(i)
		if then == nil {
			return
		}
		wg.Go(func() {
			if thenErr = then(ctx, e.unlocking(control.InProcess(n.Methods()))); thenErr != nil {
				cancel()
			}
		})
	})
	wg.Wait()
	if cerr := n.Close(); err == nil {
		err = cerr
	}
	if thenErr != nil {
		return thenErr
	}
	return err
}

// ready tells where the node is: one line for programs.
func (e *env) ready(i node.Info) {
	if e.json {
		_ = json.NewEncoder(e.out).Encode(struct {
			Event   string   `json:"event"`
			Gateway string   `json:"gateway"`
			Secure  string   `json:"gateway_tls,omitempty"`
			Pins    string   `json:"pins"`
			Peer    string   `json:"peer"`
			Addrs   []string `json:"addrs"`
		}{"ready", i.Gateway, i.Secure, i.Pins, i.Peer, i.Addrs})
		return
	}
	if e.quiet {
		return
	}
	if i.Gateway != "" {
		e.say(e.err, "gateway  %s/\n", i.Gateway)
	}
	if i.Secure != "" {
		e.say(e.err, "gateway  %s/\n", i.Secure)
	}
	if i.Pins != "" {
		e.say(e.err, "pins     %s\n", i.Pins)
	}
	for _, a := range i.Addrs {
		e.say(e.err, "peer     %s\n", a)
	}
	e.say(e.err, "ready; Ctrl-C ends it\n")
}

func (e *env) upCommand() *cli.Command {
	return &cli.Command{
		Name: "up", Usage: "publish a folder and serve it, in one process", ArgsUsage: "DIR",
		Description: "The quickest way to see a site. With hosts added it is placed on them as by publish; without, it is online while this runs.",
		Flags: append(append(siteFlags(), networkFlags()...),
			&cli.StringFlag{Name: "gateway", Usage: "serve readers on this address; port 0 takes a free one", DefaultText: node.DefaultGateway}),
		Action: func(c *cli.Context) error { return e.runUp(c.Context, c) },
	}
}

func (e *env) runUp(ctx context.Context, c *cli.Context) error {
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	req, err := e.publishRequest(c, cfg.Publish)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return e.dryRun(ctx, c, author.BuildRequest{Path: req.Dir, Symlinks: req.Symlinks, DryRun: true})
	}
	req.Alone = true
	if cfg.Gateway.Listen == "" {
		cfg.Gateway.Listen = node.DefaultGateway
	}
	n, err := node.Open(ctx, cfg, node.Connected, "holdfast up")
	if err != nil {
		return err
	}
	// What up has to say is the site's address, which a publish ends with.
	ready := func(node.Info) {}
	return e.serveUntil(ctx, n, ready, func(ctx context.Context, call control.Caller) error {
		if c.Bool("watch") {
			return e.watch(ctx, call, req)
		}
		p := e.progress()
		var out author.Published
		err := call.Call(ctx, "publish", req, &out, p.event)
		p.done()
		if err == nil {
			e.print(out, func() {
				e.showPublished(out)
				if !e.quiet {
					e.say(e.err, "serving; Ctrl-C ends it\n")
				}
			})
			e.offerBackup(ctx, out, req.Dir)
		}
		return err
	})
}
