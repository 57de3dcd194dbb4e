package e2e

import (
	"strings"
	"testing"
	"time"
)

// newerOf is what a conflict tells of the other machine's release.
func newerOf(t *testing.T, r result) map[string]any {
	t.Helper()
	if r.code != 4 {
		t.Fatalf("exit code %d, want 4: %s%s", r.code, r.out, r.stderr)
	}
	kind, _, body := r.failure(t)
	newer, ok := body["newer"].(map[string]any)
	if kind != "conflict" || !ok {
		t.Fatalf("kind %q with %v, want a conflict that names what is newer", kind, body)
	}
	return newer
}

func TestOfTwoMachinesWithOneKeyTheOneBehindIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	hosts := w.hosts("alice", "bob")
	w.know("desk", hosts...)
	w.know("lap", hosts...)
	publish := func(home string, s site, more ...string) result {
		return w.try(home, append(append([]string{"publish", s.dir, "--site", "blog"}, loopback...), more...)...)
	}
	one, two, three, four := w.writeSite("one"), w.writeSite("two"), w.writeSite("three"), w.writeSite("four")
	first := w.publish("desk", one.dir, "-m", "from the desk")
	file := w.home("blog.key")
	w.must(nil, "desk", "key", "export", "blog", "-o", file)
	var key struct{ Name string }
	w.must(&key, "lap", "key", "import", "blog", file)
	if key.Name != first.Name {
		t.Fatalf("the key came out as %s, want %s", key.Name, first.Name)
	}

	// The second machine has never seen the first one's release.
	newer := newerOf(t, publish("lap", two))
	if newer["root"] != first.Root || newer["release"] != first.Release || newer["sequence"] != 1.0 ||
		newer["number"] != 1.0 || newer["message"] != "from the desk" {
		t.Errorf("newer is %v, want %+v", newer, first)
	}
	at, err := time.Parse(time.RFC3339, newer["time"].(string))
	if err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("newer is of %v (%v)", newer["time"], err)
	}

	// It takes over knowingly, and then the first machine is the one behind.
	newerOf(t, publish("lap", two, "--if-root", "bafkqaaa"))
	second := w.publish("lap", two.dir, "--if-root", first.Root, "-m", "from the lap")
	if second.Number != 2 || second.Sequence <= first.Sequence {
		t.Errorf("release %d with sequence %d, want release 2 above %d", second.Number, second.Sequence, first.Sequence)
	}
	newer = newerOf(t, publish("desk", three))
	if newer["root"] != second.Root || newer["message"] != "from the lap" || newer["number"] != 2.0 {
		t.Errorf("newer is %v, want %+v", newer, second)
	}
	newerOf(t, publish("desk", three, "--if-root", first.Root))

	// What was refused left nothing behind.
	gate := w.gateway("gate", hosts...)
	servedWhole(t, gate.Gateway, first.Name+".ipns", two)
	third := w.publish("lap", three.dir)
	fourth := w.publish("desk", four.dir, "--if-root", third.Root)
	if third.Number != 3 || fourth.Number != 4 {
		t.Errorf("releases %d and %d, want 3 and 4", third.Number, fourth.Number)
	}
	late := w.gateway("late", hosts[1])
	servedWhole(t, late.Gateway, first.Name+".ipns", four)
}

func TestNothingIsSignedWhereTheWantedCopiesCantBeHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	s := w.writeSite("one")
	try := func(more ...string) result {
		return w.try("author", append(append([]string{"publish", s.dir, "--site", "blog"}, loopback...), more...)...)
	}
	refused := func(when string, r result, says string) {
		t.Helper()
		if r.code != 5 {
			t.Fatalf("%s: exit code %d, want 5: %s%s", when, r.code, r.out, r.stderr)
		}
		if kind, message, _ := r.failure(t); kind != "unavailable" || !strings.Contains(message, says) {
			t.Errorf("%s: %s: %s", when, kind, message)
		}
	}
	refused("no host is known", try(), "host add")
	if r := w.try("author", "status", "blog"); r.code != 3 {
		t.Errorf("status of what was not published ends with %d: %s", r.code, r.out)
	}

	alone := w.publish("author", s.dir, "--copies", "0")
	if alone.Sequence != 1 || len(alone.Hosts) != 0 || alone.Live || alone.SafeUntil != nil || len(alone.Warnings) == 0 {
		t.Errorf("a publish for this machine alone: %+v", alone)
	}

	hosts := w.hosts("alice", "bob")
	w.know("author", hosts...)
	refused("more copies than hosts", try("--copies", "3"), "2 hosts are known")
	placed := w.publish("author", s.dir)
	if len(placed.proved()) != 2 {
		t.Fatalf("proved by %v", placed.proved())
	}

	s = w.writeSite("two")
	hosts[1].Kill()
	refused("one of two hosts is dead", try(), "bob")
	hosts[0].Kill()
	refused("no host lives", try(), "--force-offline")
	st := w.status("author")
	if st.Root != placed.Root || st.Sequence != placed.Sequence {
		t.Errorf("after publishes that failed the site is at %s with sequence %d, want %s and %d", st.Root, st.Sequence, placed.Root, placed.Sequence)
	}

	for _, h := range hosts {
		h.comeBack()
		if pins := w.pins(h.ready); len(pins) != 1 {
			t.Errorf("%d pins at %s, want the one that follows the name", len(pins), h.home)
		}
	}
	if p := w.publish("author", s.dir); p.Number != 2 || len(p.proved()) != 2 {
		t.Errorf("with the hosts back: %+v", p)
	}
}
