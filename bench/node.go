//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-sites/holdfast/bench/meter"
)

// env keeps the user's own home out of it.
func (b *bench) env() []string {
	return append(os.Environ(), "XDG_RUNTIME_DIR="+b.tmp, "HOLDFAST_HOME=", "HOLDFAST_TOKEN=")
}

func (b *bench) command(ctx context.Context, home string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.exe, append([]string{"--home", filepath.Join(b.tmp, home), "--json"}, args...)...)
	cmd.Env = b.env()
	return cmd
}

// must runs a command to its end and decodes its JSON.
func (b *bench) must(ctx context.Context, into any, home string, args ...string) (*os.ProcessState, error) {
	cmd := b.command(ctx, home, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("holdfast %s: %w: %s%s", args[0], err, out.String(), errs.String())
	}
	if into != nil {
		if err := json.Unmarshal(out.Bytes(), into); err != nil {
			return nil, err
		}
	}
	return cmd.ProcessState, nil
}

// node is a running `holdfast serve`.
type node struct {
	home string
	cmd  *exec.Cmd
	out  io.ReadCloser
	errs bytes.Buffer

	Event         string
	Gateway, Pins string
	Addrs         []string
}

// serve starts a node and waits until it is ready.
func (b *bench) serve(ctx context.Context, home string, args ...string) (*node, error) {
	return b.serveOn(ctx, "", home, args...)
}

// serveOn starts a node on one processor; "": on all.
func (b *bench) serveOn(ctx context.Context, cpu, home string, args ...string) (*node, error) {
	n := &node{home: home, cmd: b.command(ctx, home, append([]string{"serve"}, args...)...)}
	if cpu != "" {
		n.cmd = pinned(ctx, cpu, n.cmd)
	}
	n.cmd.Stderr = &n.errs
	var err error
	if n.out, err = n.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(n.out).ReadBytes('\n') // it says nothing more
	if err == nil {
		err = json.Unmarshal(line, n)
	}
	if err == nil && n.Event != "ready" {
		err = errors.New("it ended")
	}
	if err != nil {
		_, _ = n.stop()
		return nil, fmt.Errorf("%s did not become ready: %w: %s%s", home, err, line, n.errs.String())
	}
	return n, nil
}

// stop ends the node in good order and says how much memory it had at most, in bytes.
func (n *node) stop() (peak int64, err error) {
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		hard := time.AfterFunc(20*time.Second, func() { _ = n.cmd.Process.Kill() })
		defer hard.Stop()
		err = n.cmd.Wait()
	}
	return peakOf(n.cmd.ProcessState), err
}

// resident is the memory that a process has now, in bytes.
func (n *node) resident(ctx context.Context) (int64, error) {
	out, err := exec.CommandContext(ctx, "ps", "-o", "rss=", "-p", strconv.Itoa(n.cmd.Process.Pid)).Output()
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kib * 1024, err
}

func peakOf(p *os.ProcessState) int64 {
	if u, ok := p.SysUsage().(*syscall.Rusage); ok {
		return meter.Resident(u)
	}
	return 0
}

const loopback = "/ip4/127.0.0.1/tcp/0"

// hosts starts so many hosts that know each other, in homes of this round.
func (b *bench) hosts(ctx context.Context, round, count int) (hosts []*node, err error) {
	for i := range count {
		name := fmt.Sprintf("host%d", i+1)
		args := []string{"--host", "--name", name, "--pins", "127.0.0.1:0", "--p2p", loopback}
		for _, h := range hosts {
			args = append(args, "--peer", h.Addrs[0])
		}
		h, err := b.serve(ctx, fmt.Sprintf("%s-%d", name, round), args...)
		if err != nil {
			return hosts, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// know adds the hosts to an author's home.
func (b *bench) know(ctx context.Context, author string, hosts []*node) error {
	for _, h := range hosts {
		var tok struct{ Token string }
		if _, err := b.must(ctx, &tok, h.home, "token", "create", author); err != nil {
			return err
		}
		if _, err := b.must(ctx, nil, author, "host", "add", h.Pins, "--token", tok.Token, "--label", "operator="+h.home); err != nil {
			return err
		}
	}
	return nil
}

// endAll stops what still runs, and takes the homes away.
func (b *bench) endAll(nodes []*node, homes ...string) error {
	var errs []error
	for _, n := range nodes {
		_, err := n.stop()
		errs = append(errs, err)
		homes = append(homes, n.home)
	}
	for _, h := range homes {
		errs = append(errs, os.RemoveAll(filepath.Join(b.tmp, h)))
	}
	return errors.Join(errs...)
}

// published is the part of publish's JSON that is looked at.
type published struct {
	Name     string
	Live     bool
	Warnings []string
	Hosts    []struct{ Name, State, Error string }
}

// publish publishes the folder to so many hosts, and fails unless it is live.
func (b *bench) publish(ctx context.Context, author string, copies int) (p published, took time.Duration, peak int64, err error) {
	began := time.Now()
	state, err := b.must(ctx, &p, author, "publish", b.dir, "--site", "bench", "--copies", strconv.Itoa(copies), "--p2p", loopback)
	took = time.Since(began)
	switch {
	case err != nil:
		return p, took, 0, err
	case !p.Live:
		return p, took, 0, fmt.Errorf("the site is not live: %+v", p)
	}
	return p, took, peakOf(state), nil
}
