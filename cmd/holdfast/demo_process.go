package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// process is a node that the demonstration runs.
type process struct {
	name  string
	cmd   *exec.Cmd
	done  chan struct{} // closed when it has ended
	ready struct {
		Event   string   `json:"event"`
		Gateway string   `json:"gateway"`
		Pins    string   `json:"pins"`
		Peer    string   `json:"peer"`
		Addrs   []string `json:"addrs"`
	}
}

const readyDeadline = 30 * time.Second

// command is this program with a home of its own.
func (d *demo) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.exe, append([]string{"--home", d.home(name), "--json"}, args...)...)
	// The sockets of the demonstration's nodes live and go with it, and so do its keys: no passphrase of yours is theirs.
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+d.dir, "HOLDFAST_HOME=", keyPassphraseVar+"=", backupPassphraseVar+"=")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// configure makes a node's home, with a config.toml.
func (d *demo) configure(name, toml string) error {
	if err := os.MkdirAll(d.home(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.home(name), "config.toml"), []byte(toml), 0o600)
}

// start runs a node until it says that it is ready.
func (d *demo) start(ctx context.Context, name string, args ...string) (*process, error) {
	p := &process{name: name, done: make(chan struct{})}
	p.cmd = d.command(ctx, name, args...)
	var errs lastLines
	p.cmd.Stderr = &errs
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	d.all = append(d.all, p)
	line := make(chan []byte, 1)
	go func() { // ends with the process, whose output it reads
		defer close(p.done)
		s := bufio.NewScanner(out)
		if s.Scan() {
			line <- bytes.Clone(s.Bytes())
		}
		close(line)
		_, _ = io.Copy(io.Discard, out)
		_ = p.cmd.Wait()
	}()
	select {
	case l := <-line:
		if err := decodeLine(l, &p.ready); err != nil || p.ready.Event != "ready" {
			return nil, fmt.Errorf("%s did not start: %s %s", name, l, errs.String())
		}
		return p, nil
	case <-time.After(readyDeadline):
		return nil, fmt.Errorf("%s was not ready within %s: %s", name, readyDeadline, errs.String())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run runs one command to its end. secret, if any, is its standard input.
func (d *demo) run(ctx context.Context, name string, into any, secret string, args ...string) error {
	cmd := d.command(ctx, name, args...)
	if secret != "" {
		cmd.Stdin = strings.NewReader(secret)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	cmd.Stderr = &indented{w: d.e.err}
	if d.e.quiet {
		cmd.Stderr = io.Discard
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("holdfast %s: %w: %s", strings.Join(args[:1], " "), err, strings.TrimSpace(out.String()))
	}
	return decodeLine(out.Bytes(), into)
}

// kill ends a process without a chance to clean up.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end stops what still runs, and deletes the homes.
func (d *demo) end() {
	var wg sync.WaitGroup
	for _, p := range d.all {
		wg.Go(func() {
			_ = p.cmd.Process.Signal(os.Interrupt)
			select {
			case <-p.done:
			case <-time.After(5 * time.Second):
				p.kill()
			}
		})
	}
	wg.Wait()
	if err := os.RemoveAll(d.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.e.note("left behind: " + d.dir)
	}
}

// indented sets what a process says apart from the story around it.
type indented struct {
	w   io.Writer
	mid bool // in the middle of a line
}

func (i *indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if !i.mid {
			fmt.Fprint(i.w, "    ")
		}
		if _, err := i.w.Write(line); err != nil {
			return 0, err
		}
		i.mid = !bytes.HasSuffix(line, []byte("\n"))
	}
	return len(p), nil
}

// lastLines keeps the end of what a process says on standard error.
type lastLines struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - 4096; over > 0 {
		l.buf = l.buf[over:]
	}
	return len(p), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.buf))
}
