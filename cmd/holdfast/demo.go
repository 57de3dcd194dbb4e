package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/examples"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
)

func (e *env) demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "watch a site outlive its author and its hosts: real processes, on this machine only", ArgsUsage: "[DIR]",
		Description: "Runs an author, five hosts and a gateway with throw-away homes, publishes DIR (or a sample) with three copies,\n" +
			"ends the author, kills the hosts that hold the site while the others take over, and reads it through the gateway.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "once", Usage: "end after the last check, with an error if one failed"}},
		Action: func(c *cli.Context) error { return e.runDemo(c.Context, c) },
	}
}

// demo is one run: its processes, and what it saw.
type demo struct {
	e      *env
	dir    string // everything below it goes at the end
	exe    string
	site   string // the folder that is published
	hosts  []*process
	tokens map[*process]string // the author's at each host
	gate   *process
	all    []*process
	began  time.Time
	checks []check
}

type check struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// demoHosts are those that hold the site, and as many standbys as are needed one after the other.
var demoHosts = []string{"alice", "bob", "carol", "dave", "erin"}

const demoCopies = 3

func (e *env) runDemo(ctx context.Context, c *cli.Context) (err error) {
	if c.NArg() > 1 {
		return usage("demo takes one folder, or none for the sample")
	}
	d := &demo{e: e, began: time.Now(), tokens: make(map[*process]string)}
	if d.exe, err = os.Executable(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
		return err
	}
	defer d.end()
	if err := d.chooseSite(c.Args().First()); err != nil {
		return err
	}
	url, err := d.story(ctx)
	if err != nil {
		return err
	}
	for _, c := range d.checks {
		if !c.OK {
			err := control.Errorf(control.Failed, "a check failed: %s: %s", c.What, c.Detail)
			err.Details = map[string]any{"checks": d.checks}
			return err
		}
	}
	e.print(map[string]any{"url": url, "checks": d.checks, "seconds": time.Since(d.began).Seconds()}, func() {
		e.printf("\nOpen it: %s\n", url)
	})
	if !c.Bool("once") {
		e.tell("The gateway and the remaining hosts run until Ctrl-C.")
		<-ctx.Done()
	}
	return nil
}

// chooseSite takes the folder that was given, or unpacks the sample.
func (d *demo) chooseSite(dir string) (err error) {
	if dir != "" {
		if d.site, err = filepath.Abs(dir); err != nil {
			return err
		}
		fi, err := os.Stat(d.site)
		if err == nil && !fi.IsDir() {
			return usage("%s is not a folder", dir)
		}
		return err
	}
	d.site = filepath.Join(d.dir, "sample")
	sample, err := fs.Sub(examples.Sites, "site")
	if err != nil {
		return err
	}
	return os.CopyFS(d.site, sample)
}

// story is the demonstration, told in order.
func (d *demo) story(ctx context.Context) (url string, err error) {
	d.step("Five hosts and a gateway start, each a process with a home of its own.")
	if err := d.startHosts(ctx); err != nil {
		return "", err
	}
	if err := d.startGateway(ctx); err != nil {
		return "", err
	}
	d.step("An author, who knows the hosts by URL and token, publishes %s: %d copies, the other hosts stand by.", d.site, demoCopies)
	pub, err := d.publish(ctx)
	if err != nil {
		return "", err
	}
	proved := 0
	for _, h := range pub.Hosts {
		if h.State == author.Proved {
			proved++
			d.say("%s proved that it holds every byte (%s)", h.Name, h.VerifiedAt.Format(time.RFC3339))
		}
	}
	d.check("copies proved before the name moved", proved >= demoCopies, "%d copies of %s, %d files", proved, size(pub.Bytes), pub.Files)
	d.check("live, seen from outside", pub.Live, "under a throw-away identity that knows the hosts only %s", strings.Join(pub.Warnings, "; "))

	d.step("The author's process has ended. Its home is deleted.")
	if err := os.RemoveAll(d.home("author")); err != nil {
		return "", err
	}
	if err := d.repairs(ctx, pub); err != nil {
		return "", err
	}

	d.step("The gateway, which never saw this site, is asked for every page.")
	r := reader{addr: d.gate.ready.Gateway, name: pub.Name}
	seen, err := r.compare(ctx, d.site)
	d.check("every page is the author's, byte for byte", err == nil && seen.files > 0, "%d files, %s %s", seen.files, size(seen.bytes), errText(err))
	missing, err := r.status(ctx, "/no/such/page.html")
	d.check("a missing page is a 404", err == nil && missing == 404, "status %d %s", missing, errText(err))
	return r.url(), nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (d *demo) home(name string) string { return filepath.Join(d.dir, name) }

// demoRepair makes seconds of a host's days.
const demoRepair = `[repair]
call = "500ms"
grace = "1s"
delta = "2s"
call_timeout = "1s"
jitter = "200ms"
fast = "3s"
patience_min = "2s"
patience_max = "2s"
audit_every = "2s"
audit_interval = "50ms"
`

// startHosts starts the hosts one after another: each knows those before it.
func (d *demo) startHosts(ctx context.Context) error {
	var peers []string
	for _, name := range demoHosts {
		if err := d.configure(name, demoRepair); err != nil {
			return err
		}
		args := []string{"serve", "--host", "--name", name, "--pins", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0", "--allow-private"}
		for _, p := range peers {
			args = append(args, "--peer", p)
		}
		p, err := d.start(ctx, name, args...)
		if err != nil {
			return err
		}
		d.hosts = append(d.hosts, p)
		peers = append(peers, p.ready.Addrs[0])
		d.say("%-6s %s  %s", name, p.ready.Pins, p.ready.Peer)
	}
	return nil
}

func (d *demo) startGateway(ctx context.Context) (err error) {
	args := []string{"serve", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"}
	for _, h := range d.hosts {
		args = append(args, "--peer", h.ready.Addrs[0])
	}
	d.gate, err = d.start(ctx, "gateway", args...)
	if err == nil {
		d.say("%-6s %s", "gateway", d.gate.ready.Gateway)
	}
	return err
}

// publish adds the hosts and publishes, each in a process of the author's.
func (d *demo) publish(ctx context.Context) (author.Published, error) {
	var pub author.Published
	for _, h := range d.hosts {
		var tok struct {
			Token string `json:"token"`
		}
		if err := d.run(ctx, h.name, &tok, "", "token", "create", "the author"); err != nil {
			return pub, err
		}
		d.tokens[h] = tok.Token
		if err := d.run(ctx, "author", nil, tok.Token, "host", "add", h.ready.Pins, "--token", "-", "--label", "operator="+h.name); err != nil {
			return pub, err
		}
	}
	d.e.tell("")
	err := d.run(ctx, "author", &pub, "", "publish", d.site, "--progress", "--site", "demo", "--p2p", "/ip4/127.0.0.1/tcp/0", "-m", "demonstration",
		"--copies", strconv.Itoa(demoCopies), "--availability", "none")
	return pub, err
}

// holders are the processes of the hosts that proved a copy.
func (d *demo) holders(pub author.Published) (out []*process) {
	for _, h := range d.hosts {
		if slices.ContainsFunc(pub.Hosts, func(s author.HostState) bool { return s.ID == h.ready.Peer && s.State == author.Proved }) {
			out = append(out, h)
		}
	}
	return out
}

func (d *demo) step(format string, args ...any) {
	d.e.tell("\n[%4.1f s] "+format, append([]any{time.Since(d.began).Seconds()}, args...)...)
}

func (d *demo) say(format string, args ...any) { d.e.tell("    "+format, args...) }

func (d *demo) check(what string, ok bool, format string, args ...any) {
	c := check{What: what, OK: ok, Detail: strings.TrimSpace(fmt.Sprintf(format, args...))}
	d.checks = append(d.checks, c)
	mark := "ok  "
	if !ok {
		mark = "FAIL"
	}
	d.say("%s %s: %s", mark, what, c.Detail)
}

// tell is the story for people: beside the JSON on a program's behalf.
func (e *env) tell(format string, args ...any) {
	if e.quiet {
		return
	}
	w := e.out
	if e.json {
		w = e.err
	}
	e.say(w, format+"\n", args...)
}

func decodeLine(line []byte, into any) error {
	if into == nil {
		return nil
	}
	return json.Unmarshal(line, into)
}
