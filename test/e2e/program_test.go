// Package e2e runs the real program: real processes, real sockets, real sites.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
	"github.com/holdfast-sites/holdfast/test/program"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	flag.Parse()
	if at := flag.Lookup("test.parallel"); at.Value.String() == at.DefValue {
		_ = at.Value.Set("100") // a crowd lets tests in
	}
	program.Main(m)
}

const patience = program.Patience

// world is the processes and homes of one test.
type world struct {
	t      *testing.T
	dir    string
	env    []string           // of all commands, beside what this process has
	tokens map[string]string  // of the author at a host's base URL
	most   int                // nodes at once
	nodes  []*program.Process // all there were

	// enter is the command that runs another one where a home's node lives: in its own network. Nil: here.
	enter func(home string) []string
}

// newWorld waits until there is room for the test's nodes, of which it runs that many at once at most.
func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes; left out with -short")
	}
	t.Cleanup(everybody.enter(nodes))
	// Not t.TempDir: its long name would make socket paths too long.
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &world{t: t, dir: dir, most: nodes, tokens: make(map[string]string)}
}

func (w *world) home(name string) string { return filepath.Join(w.dir, name) }

func (w *world) command(ctx context.Context, home string, args ...string) *exec.Cmd {
	argv := append([]string{program.Path(w.t), "--home", w.home(home), "--json"}, args...)
	if w.enter != nil {
		argv = append(w.enter(home), argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "XDG_RUNTIME_DIR="+w.dir, "HOLDFAST_HOME=", "HOLDFAST_TOKEN="), w.env...)
	return cmd
}

// self is this test binary as another process, which plays a role.
func (w *world) self(env ...string) *exec.Cmd {
	w.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// result is how a command ended.
type result struct {
	code   int
	out    []byte
	stderr string
}

// failure reads the error that --json printed.
func (r result) failure(t *testing.T) (kind, message string, body map[string]any) {
	t.Helper()
	var v struct {
		Error map[string]any `json:"error"`
	}
	if err := json.Unmarshal(r.out, &v); err != nil || v.Error == nil {
		t.Fatalf("no error object on stdout: %s (stderr %s)", r.out, r.stderr)
	}
	kind, _ = v.Error["kind"].(string)
	message, _ = v.Error["message"].(string)
	return kind, message, v.Error
}

// try runs a command to its end.
func (w *world) try(home string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := w.command(ctx, home, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("holdfast %v: %v", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.Bytes(), errs.String()}
}

// must runs a command that has to succeed, and decodes its JSON.
func (w *world) must(into any, home string, args ...string) {
	w.t.Helper()
	r := w.try(home, args...)
	if r.code != 0 {
		w.t.Fatalf("holdfast %v: exit code %d\n%s\n%s", args, r.code, r.out, r.stderr)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(r.out, into); err != nil {
		w.t.Fatalf("holdfast %v: %v: %s", args, err, r.out)
	}
}

// node is a running `holdfast serve`.
type node struct {
	w    *world
	home string
	args []string
	*program.Process
	ready
}

type ready struct {
	Event   string   `json:"event"`
	Gateway string   `json:"gateway"`
	Pins    string   `json:"pins"`
	Peer    string   `json:"peer"`
	Addrs   []string `json:"addrs"`
}

// serve starts a node and waits until it is ready. It ends with the test.
func (w *world) serve(home string, args ...string) *node {
	w.t.Helper()
	n := &node{w: w, home: home, args: args}
	n.start()
	return n
}

func (n *node) start() {
	t := n.w.t
	t.Helper()
	args := append([]string{"serve"}, n.args...)
	if os.Getenv(logsIn) != "" {
		args = append(args, "--verbose")
	}
	n.startCommand(n.w.command(context.Background(), n.home, args...))
}

// logsIn is the environment variable that names a folder to which all processes write what they log.
const logsIn = "HOLDFAST_TEST_LOGS"

// alsoLogged is w, and a file of that process where logs are wanted.
func (n *node) alsoLogged(w io.Writer) io.Writer {
	dir := os.Getenv(logsIn)
	if dir == "" {
		return w
	}
	name := fmt.Sprintf("%s-%d-%s.log", strings.ReplaceAll(n.w.t.Name(), "/", "-"), os.Getpid(), n.home)
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.w.t.Cleanup(func() { f.Close() })
	return io.MultiWriter(w, f)
}

// startCommand starts a process and waits for the line that says that it is ready. It ends with the test.
func (n *node) startCommand(cmd *exec.Cmd) (line []byte) {
	t := n.w.t
	t.Helper()
	n.w.makeRoom()
	var errs syncBuffer
	cmd.Stderr = n.alsoLogged(&errs)
	p, line, err := program.Start(t, cmd)
	if p == nil {
		t.Fatal(err)
	}
	n.Process, n.w.nodes = p, append(n.w.nodes, p)
	if err == nil {
		err = json.Unmarshal(line, &n.ready)
	}
	if err != nil || n.Event != "ready" {
		t.Fatalf("%s did not become ready: %v: %s %s", n.home, err, line, errs.String())
	}
	return line
}

// makeRoom fails if more nodes are about to run than were told of.
func (w *world) makeRoom() {
	w.t.Helper()
	w.nodes = slices.DeleteFunc(w.nodes, (*program.Process).Ended)
	if len(w.nodes) >= w.most {
		w.t.Fatalf("%d nodes run already, and room was made for %d", len(w.nodes), w.most)
	}
}

// stop ends the node as an operator would.
func (n *node) stop() time.Duration {
	began := time.Now()
	_ = n.Cmd.Process.Signal(syscall.SIGTERM)
	<-n.Done
	return time.Since(began)
}

// comeBack starts the node again on its home and at the addresses it had.
func (n *node) comeBack() {
	n.w.t.Helper()
	addr, _, _ := strings.Cut(n.Addrs[0], "/p2p/")
	fixed := map[string]string{"--p2p": addr, "--pins": strings.TrimPrefix(n.Pins, "http://"), "--gateway": strings.TrimPrefix(n.Gateway, "http://")}
	for i := range n.args {
		if at := fixed[n.args[i]]; at != "" {
			n.args[i+1] = at
		}
	}
	n.start()
}

// running is a command that has not ended yet.
type running struct {
	w    *world
	cmd  *exec.Cmd
	out  bytes.Buffer
	errs syncBuffer
	done chan struct{} // closed when the process has ended and all it said was read
}

// begin starts a command. heard, which may be nil, is told each line of standard error at once.
// The command ends with the test.
func (w *world) begin(heard func(line string), home string, args ...string) *running {
	w.t.Helper()
	r := &running{w: w, cmd: w.command(context.Background(), home, args...), done: make(chan struct{})}
	r.cmd.Stdout = &r.out
	errs, err := r.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(r.done)
		for s := bufio.NewScanner(errs); s.Scan(); {
			if heard != nil {
				heard(s.Text())
			}
			fmt.Fprintln(&r.errs, s.Text())
		}
		_ = r.cmd.Wait()
	}()
	w.t.Cleanup(r.kill)
	return r
}

func (r *running) kill() {
	_ = r.cmd.Process.Kill()
	<-r.done
}

func (r *running) signal(s os.Signal) {
	r.w.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.w.t.Fatal(err)
	}
}

// wait is how the command ended, by itself.
func (r *running) wait() result {
	r.w.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.w.t.Fatalf("%v goes on after %s: %s", r.cmd.Args, patience, r.errs.String())
	}
	return result{r.cmd.ProcessState.ExitCode(), r.out.Bytes(), r.errs.String()}
}

// pins is what the author has pinned at a host, as the host's API tells.
func (w *world) pins(h ready) []replicate.PinStatus {
	w.t.Helper()
	all := []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed}
	res, err := replicate.NewClient(h.Pins, w.tokens[h.Pins], nil).List(w.t.Context(), replicate.Query{Status: all})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Results
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(s.b.String())
}

// hosts starts hosts that know each other.
func (w *world) hosts(names ...string) []*node {
	w.t.Helper()
	var out []*node
	for _, name := range names {
		args := []string{"--host", "--name", name, "--pins", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"}
		for _, h := range out {
			args = append(args, "--peer", h.Addrs[0])
		}
		out = append(out, w.serve(name, args...))
	}
	return out
}

// know adds the hosts to an author's home, each of an operator of its own.
func (w *world) know(author string, hosts ...*node) {
	w.t.Helper()
	for _, h := range hosts {
		w.knowAs(author, h.home, h)
	}
}

// knowAs adds hosts of one operator.
func (w *world) knowAs(author, operator string, hosts ...*node) {
	w.t.Helper()
	for _, h := range hosts {
		var tok struct{ Token string }
		w.must(&tok, h.home, "token", "create", author)
		w.add(author, h.Pins, tok.Token, operator)
	}
}

// add adds one host to an author's home.
func (w *world) add(author, url, token, operator string) {
	w.t.Helper()
	w.tokens[url] = token
	w.must(nil, author, append([]string{"host", "add", url, "--token", token, "--label", "operator=" + operator}, loopback...)...)
}

// gateway starts a reader's gateway that knows the given nodes.
func (w *world) gateway(name string, knows ...*node) *node {
	w.t.Helper()
	args := []string{"--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/0"}
	for _, h := range knows {
		args = append(args, "--peer", h.Addrs[0])
	}
	return w.serve(name, args...)
}

// published is the part of publish's JSON that tests look at.
type published struct {
	Alias, Name, Root, Release string
	Number, Sequence           uint64
	Files, Bytes               int64
	URLs                       []string `json:"urls"`
	Hosts                      []struct {
		ID, Name, State, Error string
		VerifiedAt             *time.Time `json:"verified_at"`
	}
	Live      bool
	SafeUntil *time.Time `json:"safe_until"`
	Warnings  []string
}

func (p published) proved() (names []string) {
	for _, h := range p.Hosts {
		if h.State == "proved" {
			names = append(names, h.Name)
		}
	}
	return names
}

// loopback keeps an author's node on this machine.
var loopback = []string{"--p2p", "/ip4/127.0.0.1/tcp/0"}

func (w *world) publish(author, dir string, more ...string) published {
	w.t.Helper()
	var p published
	w.must(&p, author, append(append([]string{"publish", dir, "--site", "blog"}, loopback...), more...)...)
	return p
}

// until polls what another process is about to do.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
