// Package world runs the real program for tests that look at it through other
// people's software: each node is a process with a home of its own, on loopback
// and free ports, and ends with the test. It never reads what is inside a home.
package world

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-sites/holdfast/test/program"
)

// World is the processes and homes of one test.
type World struct {
	t   *testing.T
	exe string
	dir string
}

// New is an empty world, or skips the test with -short.
func New(t *testing.T) *World {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes; left out with -short")
	}
	w := &World{t: t, exe: program.Path(t)}
	// Not t.TempDir: its long name would make socket paths too long.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.dir = dir
	return w
}

// Home is the folder of a node, or of anything else that the test writes.
func (w *World) Home(name string) string { return filepath.Join(w.dir, name) }

func (w *World) command(ctx context.Context, home string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.exe, append([]string{"--home", w.Home(home), "--json"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+w.dir, "HOLDFAST_HOME=", "HOLDFAST_TOKEN=")
	return cmd
}

// Try runs a command, and tells whether it succeeded.
func (w *World) Try(home string, args ...string) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), program.Patience)
	defer cancel()
	return w.command(ctx, home, args...).Run() == nil
}

// Run runs a command that has to succeed, and decodes its JSON where into is not nil.
func (w *World) Run(into any, home string, args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), program.Patience)
	defer cancel()
	cmd := w.command(ctx, home, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("holdfast %v: %v\n%s%s", args, err, out, &stderr)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out, into); err != nil {
		w.t.Fatalf("holdfast %v: %v: %s", args, err, out)
	}
}

// Node is a running `holdfast serve`.
type Node struct {
	Home    string   `json:"-"`
	Event   string   `json:"event"`
	URL     string   `json:"url"`     // of a preview
	Gateway string   `json:"gateway"` // URL
	Pins    string   `json:"pins"`    // base URL of what a host serves over HTTP
	Addrs   []string `json:"addrs"`   // multiaddrs that end in /p2p/ID

	*program.Process `json:"-"`
}

// Serve starts a node and waits until it is ready. It ends with the test.
func (w *World) Serve(home string, args ...string) *Node {
	w.t.Helper()
	n := w.start(home, append([]string{"serve"}, args...), func(n *Node) bool { return n.Event == "ready" })
	n.Home = home
	return n
}

// Preview shows a folder until the test ends; the URL is where.
func (w *World) Preview(dir string) (url string) {
	w.t.Helper()
	return w.start("preview-home", []string{"preview", dir, "--listen", "127.0.0.1:0"}, func(n *Node) bool { return n.URL != "" }).URL
}

// start starts a command that goes on until the test ends, and waits for its first line,
// which has to say that all is ready.
func (w *World) start(home string, args []string, ready func(*Node) bool) *Node {
	w.t.Helper()
	cmd := w.command(context.Background(), home, args...)
	var stderr bytes.Buffer // to be read after the end only
	cmd.Stderr = &stderr
	p, line, err := program.Start(w.t, cmd)
	if p == nil {
		w.t.Fatal(err)
	}
	n := &Node{}
	if err == nil {
		err = json.Unmarshal(line, n)
	}
	n.Process = p
	if err != nil || !ready(n) {
		p.Kill()
		w.t.Fatalf("%s did not become ready: %v: %s %s", home, err, line, &stderr)
	}
	return n
}

// Hosts starts hosts that know each other and keep sites for the author.
func (w *World) Hosts(author string, names ...string) []*Node {
	w.t.Helper()
	var hosts []*Node
	for _, name := range names {
		args := []string{"--host", "--name", name, "--pins", "127.0.0.1:0", "--p2p", loopback}
		for _, h := range hosts {
			args = append(args, "--peer", h.Addrs[0])
		}
		hosts = append(hosts, w.Serve(name, args...))
	}
	for _, h := range hosts {
		var made struct{ Token string }
		w.Run(&made, h.Home, "token", "create", author)
		w.Run(nil, author, "host", "add", h.Pins, "--token", made.Token, "--label", "operator="+h.Home)
	}
	return hosts
}

// Gateway starts a reader's gateway that knows the given nodes.
func (w *World) Gateway(home string, knows ...*Node) *Node {
	w.t.Helper()
	args := []string{"--gateway", "127.0.0.1:0", "--p2p", loopback}
	for _, h := range knows {
		args = append(args, "--peer", h.Addrs[0])
	}
	return w.Serve(home, args...)
}

// loopback keeps a node on this machine.
const loopback = "/ip4/127.0.0.1/tcp/0"

// Published is what publish says.
type Published struct {
	Name, Root string
	Sequence   uint64
	Files      int64
	Hosts      []struct{ Name, State string }
}

// Publish publishes a folder, which all of the given number of hosts have to prove.
func (w *World) Publish(author, alias, dir string, copies int) Published {
	w.t.Helper()
	var p Published
	w.Run(&p, author, "publish", dir, "--site", alias, "--copies", fmt.Sprint(copies), "--p2p", loopback)
	proved := 0
	for _, h := range p.Hosts {
		if h.State == "proved" {
			proved++
		}
	}
	if proved != copies {
		w.t.Fatalf("%d hosts proved %s, want %d: %+v", proved, alias, copies, p)
	}
	return p
}

// Forget takes a home away for good; its process has to have ended.
func (w *World) Forget(home string) {
	w.t.Helper()
	if err := os.RemoveAll(w.Home(home)); err != nil {
		w.t.Fatal(err)
	}
}

// Folder writes a folder; the keys are slash paths.
func (w *World) Folder(name string, files map[string][]byte) string {
	w.t.Helper()
	dir := w.Home(name)
	for p, b := range files {
		file := filepath.Join(dir, filepath.FromSlash(p))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

// Copy writes the files of a tree into a folder.
func (w *World) Copy(name string, tree fs.FS) string {
	w.t.Helper()
	if err := os.CopyFS(w.Home(name), tree); err != nil {
		w.t.Fatal(err)
	}
	return w.Home(name)
}
