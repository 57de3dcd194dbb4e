package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

const defaultPreview = "127.0.0.1:8090"

func (e *env) previewCommand() *cli.Command {
	return &cli.Command{
		Name: "preview", Usage: "show a folder as readers will see it, again after each change; sign nothing", ArgsUsage: "DIR",
		Description: "The folder is served by the gateway's own code: its _redirects, _headers, _options, 404.html and clean URLs count.\n" +
			"Pages are loaded anew when the folder changes, by a script that only a preview adds. Nothing is kept, and nobody is contacted.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "address to serve on; port 0 takes a free one", Value: defaultPreview},
			&cli.StringFlag{Name: "alias", Usage: "the site is at http://ALIAS.localhost:PORT/", Value: "preview"},
			&cli.StringFlag{Name: "symlinks", Usage: "follow those inside the folder, or keep them as links", Value: "follow"},
		},
		Action: func(c *cli.Context) error { return e.runPreview(c.Context, c) },
	}
}

func (e *env) runPreview(ctx context.Context, c *cli.Context) error {
	if err := exactly(c, "DIR"); err != nil {
		return err
	}
	dir, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	alias := c.String("alias")
	if !validLabel(alias) {
		return usage("--alias must be lower-case letters, digits and hyphens, as in a host name, and not %q", alias)
	}
	p := node.Preview{Dir: dir, Alias: alias, Home: cfg.Home, Note: e.note, Log: e.logger()}
	if p.Symlinks, err = symlinks(c, cfg.Publish); err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.String("listen"))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program; choose another address, or a free port with --listen 127.0.0.1:0: %w", c.String("listen"), err)
	}
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return err
	}
	far, begun := e.progress(), time.Now()
	p.Report = func(ev author.Event) {
		if raw, err := json.Marshal(ev); err == nil && time.Since(begun) > time.Second {
			far.event(raw)
		}
	}
	show := &previewing{env: e, far: far, url: "http://" + alias + ".localhost:" + port + "/", dir: dir}
	p.Built = show.built
	return p.Serve(ctx, ln)
}

// validLabel tells whether s can stand before ".localhost" and mean a site there.
func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' || s == "ipfs" || s == "ipns" {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') })
}

// previewing tells of a preview.
type previewing struct {
	*env
	far      *progress // of the first look
	url, dir string
	begun    bool
	told     []string // of the last look
}

func (p *previewing) built(b node.PreviewBuild) {
	v := struct {
		URL string `json:"url"`
		node.PreviewBuild
		Error string `json:"error,omitempty"`
	}{URL: p.url, PreviewBuild: b}
	if b.Err != nil {
		v.Error = b.Err.Error()
	}
	p.far.done()
	p.print(v, func() {
		if !p.begun {
			p.printf("%s\n", p.url)
			if !p.quiet {
				p.say(p.err, "showing %s, %s, %s; Ctrl-C ends it\n", p.dir, counted(b.Files, "file"), size(b.Bytes))
			}
		} else if b.Root != "" {
			p.printf("%s  %s, %s\n", time.Now().Format(time.TimeOnly), counted(b.Files, "file"), size(b.Bytes))
		}
	})
	p.begun = true
	lines := findings(b.Preflight)
	if b.Err != nil {
		lines = append(lines, b.Err.Error())
	}
	for _, l := range lines {
		if !slices.Contains(p.told, l) {
			p.say(p.err, "warning: %s\n", l)
		}
	}
	p.told = lines
}
