package e2e

import (
	"encoding/json"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestASecondProcessOnAHomeIsToldWhoHoldsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	gate := w.gateway("home")
	pid := strconv.Itoa(gate.Cmd.Process.Pid)
	held := func(what string, r result, by, pid string) {
		t.Helper()
		if r.code != 5 {
			t.Fatalf("%s: exit code %d, want 5: %s%s", what, r.code, r.out, r.stderr)
		}
		if kind, message, _ := r.failure(t); kind != "unavailable" || !strings.Contains(message, by) || !strings.Contains(message, pid) {
			t.Errorf("%s: %s: %q does not name %s, process %s", what, kind, message, by, pid)
		}
	}
	serve := append([]string{"serve", "--gateway", "127.0.0.1:0"}, loopback...)
	held("a second node", w.try("home", serve...), "holdfast serve", pid)
	gate.Kill()

	// A lock ends with its process, however that ended.
	gate.start()
	gate.stop()

	// Commands without a node keep each other out as well.
	host := w.hosts("alice")[0]
	w.know("home", host)
	s := w.cutSite(1)
	waiting := make(chan struct{})
	pub := w.begin(once("place", func() { close(waiting) }), "home", append([]string{"publish", s.dir, "--site", "blog", "--progress"}, loopback...)...)
	<-waiting
	pub.signal(syscall.SIGSTOP)
	pid = strconv.Itoa(pub.cmd.Process.Pid)
	held("a node beside a publish", w.try("home", serve...), "holdfast publish", pid)
	held("a build beside a publish", w.try("home", "build", s.dir), "holdfast publish", pid)
	// What needs no blocks needs no turn.
	w.must(nil, "home", "host", "list")
	pub.signal(syscall.SIGCONT)
	if r := pub.wait(); r.code != 0 {
		t.Fatalf("the publish ended with %d: %s%s", r.code, r.out, r.stderr)
	}
	if st := w.status("home", "--check"); len(st.Hosts) != 1 || st.Hosts[0].State != "proved" {
		t.Errorf("status %+v", st)
	}
}

// once tells of the first line about a step.
func once(step string, f func()) func(line string) {
	seen := false
	return func(line string) {
		if got, _, _ := strings.Cut(line, " "); got == step && !seen {
			seen = true
			f()
		}
	}
}

func TestCommandsWorkThroughTheNodeThatRunsOnTheHome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	hosts := w.hosts("alice", "bob")
	one, two, three := w.writeSite("one"), w.writeSite("two"), w.writeSite("three")

	r := w.try("home", "publish", one.dir, "--site", "blog", "--no-wait")
	if kind, message, _ := r.failure(t); r.code != 2 || kind != "usage" || !strings.Contains(message, "holdfast serve") {
		t.Errorf("--no-wait without a node: exit code %d, %s: %s", r.code, kind, message)
	}

	gate := w.gateway("home")
	w.know("home", hosts...)
	p := w.publish("home", one.dir)
	if len(p.proved()) != 2 || !p.Live {
		t.Errorf("through the node: %+v", p)
	}
	if p.URLs[0] != origin(gate.Gateway, "blog")+"/" {
		t.Errorf("the first URL is %s, want the alias at %s", p.URLs[0], gate.Gateway)
	}
	servedWhole(t, gate.Gateway, "blog", one)
	if st := w.status("home"); st.Root != p.Root || len(st.Hosts) != 2 {
		t.Errorf("status %+v, want %s at two hosts", st, p.Root)
	}

	var handed struct{ Alias, State string }
	w.must(&handed, "home", "publish", two.dir, "--site", "blog", "--no-wait")
	if handed.Alias != "blog" {
		t.Errorf("handed over: %+v", handed)
	}
	until(t, "what was handed over is live", func() bool {
		st := w.status("home")
		return st.Number == 2 && st.Live
	})
	servedWhole(t, gate.Gateway, "blog", two)

	// A client that goes away takes its publish along, and the node lives on.
	placing := make(chan struct{})
	pub := w.begin(once("ask", func() { close(placing) }), "home", "publish", three.dir, "--site", "blog", "--progress")
	<-placing
	pub.kill()
	servedWhole(t, gate.Gateway, "blog", two)
	if third := w.publish("home", three.dir); third.Number != 3 || len(third.proved()) != 2 {
		t.Errorf("run again: %+v", third)
	}
	servedWhole(t, gate.Gateway, "blog", three)
	for _, h := range hosts {
		until(t, "nothing is left at "+h.home, func() bool { return len(w.pins(h.ready)) == 1 })
	}

	// A node that is killed under its client.
	four := w.writeSite("four")
	placing = make(chan struct{})
	pub = w.begin(once("place", func() { close(placing) }), "home", "publish", four.dir, "--site", "blog", "--progress")
	<-placing
	gate.Kill()
	cut := pub.wait()
	if kind, message, _ := cut.failure(t); cut.code != 5 || kind != "unavailable" || !strings.Contains(message, "went away") {
		t.Errorf("a publish whose node was killed: exit code %d, %s: %s", cut.code, kind, message)
	}
	if p := w.publish("home", four.dir); p.Number != 4 {
		t.Errorf("run again, without a node: %+v", p)
	}
}

func TestCtrlCDuringAPublishLeavesThingsWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	host := w.hosts("alice")[0]
	w.know("author", host)
	old, next := w.cutSite(1), w.cutSite(2)
	p := w.publish("author", old.dir)
	for _, step := range []string{"build", "ask", "place", "prove", "sign"} {
		var pub *running
		interrupted := make(chan struct{})
		started := make(chan struct{})
		pub = w.begin(once(step, func() {
			<-started
			_ = pub.cmd.Process.Signal(os.Interrupt)
			close(interrupted)
		}), "author", append([]string{"publish", next.dir, "--site", "blog", "--progress"}, loopback...)...)
		close(started)
		<-interrupted
		r := pub.wait()
		// On a busy machine it may get there before it hears of the interrupt.
		signing := strings.Contains(r.stderr, "\nsign ")
		if r.code == 0 && !signing {
			t.Errorf("%s: exit code 0: %s", step, r.out)
		}
		if r.code != 0 {
			if _, message, _ := r.failure(t); !strings.Contains(message, "interrupted") {
				t.Errorf("%s: %s", step, message)
			}
		}
		if root := w.status("author").Root; !signing && root != p.Root {
			t.Errorf("%s: the site is at %s, want %s still", step, root, p.Root)
		}
	}
	q := w.publish("author", next.dir)
	if q.Number != 2 || len(q.proved()) != 1 {
		t.Errorf("run again: %+v", q)
	}
	wantOnlyNamePin(t, w.pins(host.ready), q.Name)
	gate := w.gateway("gate", host)
	servedWhole(t, gate.Gateway, q.Name+".ipns", next)
}

func TestTheEnvironmentNamesTheHomeAndTheFlagWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	keys := func(home string, args ...string) (aliases []string) {
		t.Helper()
		cmd := w.command(t.Context(), "unused", args...)
		cmd.Args = append(cmd.Args[:1], cmd.Args[3:]...) // without --home
		cmd.Env = append(cmd.Env, "HOLDFAST_HOME="+w.home(home))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v: %s", cmd.Args, err, out)
		}
		var list struct{ Keys []struct{ Alias string } }
		if err := json.Unmarshal(out, &list); err != nil {
			t.Fatal(err)
		}
		for _, k := range list.Keys {
			aliases = append(aliases, k.Alias)
		}
		return aliases
	}
	keys("one", "key", "new", "blog")
	keys("one", "key", "new", "docs", "--home", w.home("two"))
	if got := strings.Join(keys("one", "key", "list"), " "); got != "blog" {
		t.Errorf("the home of the environment has keys %q, want blog", got)
	}
	if got := strings.Join(keys("one", "key", "--home", w.home("two"), "list"), " "); got != "docs" {
		t.Errorf("the home of the flag has keys %q, want docs", got)
	}
}

func TestAPortThatIsTakenIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().String()
	_, port, _ := net.SplitHostPort(taken)
	for what, args := range map[string][]string{
		"gateway": {"serve", "--gateway", taken},
		"pins":    {"serve", "--host", "--pins", taken},
		"p2p":     {"serve", "--gateway", "127.0.0.1:0", "--p2p", "/ip4/127.0.0.1/tcp/" + port},
	} {
		if what != "p2p" {
			args = append(args, loopback...)
		}
		r := w.try("home", args...)
		if r.code == 0 {
			t.Fatalf("%s: exit code 0", what)
		}
		if _, message, _ := r.failure(t); r.code != 5 || !strings.Contains(message, port) || !strings.Contains(message, "in use") {
			t.Errorf("%s: exit code %d: %s", what, r.code, message)
		}
	}
	// The home is free again.
	w.gateway("home").stop()
}
