package e2e

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-sites/holdfast/naming"
)

// twoMachines is desk and lap, which have one key and know the same hosts. desk has published release 1.
func (w *world) twoMachines(hosts []*node) (first published) {
	w.t.Helper()
	w.know("desk", hosts...)
	w.know("lap", hosts...)
	first = w.publish("desk", w.numbered(1).dir, "-m", "from the desk")
	file := w.home("blog.key")
	w.must(nil, "desk", "key", "export", "blog", "-o", file)
	w.must(nil, "lap", "key", "import", "blog", file)
	return first
}

// messages is the history as a machine tells it, newest first.
func (w *world) messages(home string) (out []string) {
	w.t.Helper()
	var h struct{ Releases []struct{ Message string } }
	w.must(&h, home, append([]string{"history", "blog"}, loopback...)...)
	for _, r := range h.Releases {
		out = append(out, r.Message)
	}
	return out
}

func TestRebasePublishesOnTopOfTheOtherMachinesRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	hosts := w.hosts("alice", "bob")
	first := w.twoMachines(hosts)
	second := w.publish("lap", w.numbered(2).dir, "--rebase", "-m", "from the lap")
	if second.Number != 2 || second.Sequence <= first.Sequence {
		t.Errorf("release %d with sequence %d on top of 1 with %d", second.Number, second.Sequence, first.Sequence)
	}
	third := w.publish("desk", w.numbered(3).dir, "--rebase", "-m", "the desk again")
	if third.Number != 3 || third.Sequence <= second.Sequence {
		t.Errorf("release %d with sequence %d on top of 2 with %d", third.Number, third.Sequence, second.Sequence)
	}
	want := []string{"the desk again", "from the lap", "from the desk"}
	for _, home := range []string{"desk", "lap"} {
		if got := w.messages(home); !slices.Equal(got, want) {
			t.Errorf("%s tells the history %q, want %q", home, got, want)
		}
	}
	late := pageReader("", w.gateway("late", hosts[1]).Gateway, first.Name)
	if saw, err := late.look(); saw != 3 {
		t.Errorf("readers see release %d: %v", saw, err)
	}
}

// race has desk publish release 2 on top of 1, and lap release 3 on top of 1 between desk's look at what there is and
// desk's signature.
func (w *world) race(first published, lap ...string) (desk result, two site, third published) {
	w.t.Helper()
	two = w.numbered(2)
	held := make(chan struct{})
	var pub *running
	started := make(chan struct{})
	pub = w.begin(once("place", func() {
		<-started
		_ = pub.cmd.Process.Signal(syscall.SIGSTOP)
		close(held)
	}), "desk", append([]string{"publish", two.dir, "--site", "blog", "--if-root", first.Root, "-m", "from the desk", "--progress"}, loopback...)...)
	close(started)
	select {
	case <-held:
	case <-pub.done:
		w.t.Fatalf("desk's publish is over: %s%s", pub.out.String(), pub.errs.String())
	}
	third = w.publish("lap", w.numbered(3).dir, append([]string{"--if-root", first.Root, "-m", "from the lap"}, lap...)...)
	if strings.Contains(pub.errs.String(), "sign") {
		w.t.Fatal("desk has signed before it could be held")
	}
	pub.signal(syscall.SIGCONT)
	return pub.wait(), two, third
}

// agree fails unless all hosts keep the same record, which leads to the root.
func agree(t *testing.T, hosts []*node, name, root string) {
	t.Helper()
	n, err := naming.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for _, h := range hosts {
		status, raw, err := fetch(http.DefaultClient, h.Pins+"/routing/v1/ipns/"+name, naming.MediaType)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: status %d: %v", h.home, status, err)
		}
		rec, err := naming.OpenStored(n, raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := rec.Root(); got.String() != root {
			t.Errorf("%s keeps %s, want %s", h.home, got, root)
		}
		if first == nil {
			first = raw
		}
		if !bytes.Equal(first, raw) {
			t.Errorf("%s keeps another record than %s", h.home, hosts[0].home)
		}
	}
}

// toldOfRival fails unless a machine's status says that two have signed, and names both roots.
func (w *world) toldOfRival(home string, roots ...string) {
	w.t.Helper()
	var out struct{ Sites []struct{ Warnings []string } }
	w.must(&out, home, append([]string{"status", "blog", "--check"}, loopback...)...)
	if len(out.Sites) != 1 {
		w.t.Fatalf("status of %d sites", len(out.Sites))
	}
	for _, warning := range out.Sites[0].Warnings {
		if strings.Contains(warning, "two machines signed") && !slices.ContainsFunc(roots, func(r string) bool { return !strings.Contains(warning, r) }) {
			return
		}
	}
	w.t.Errorf("the status of %s doesn't tell of two machines: %q", home, out.Sites[0].Warnings)
}

func TestOfTwoMachinesThatSignAtOnceTheLongerLivedRecordWinsEverywhere(t *testing.T) {
	t.Parallel()
	t.Run("of the machine that was first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 3)
		hosts := w.hosts("alice", "bob")
		first := w.twoMachines(hosts)
		lost, _, won := w.race(first, "--lifetime", "17520h")
		newer := newerOf(t, lost)
		if newer["root"] != won.Root || newer["message"] != "from the lap" || newer["sequence"] != 2.0 {
			t.Errorf("desk is told of %v, want %+v", newer, won)
		}
		ours := w.root("desk", w.numbered(2).dir)
		if _, message, body := lost.failure(t); !strings.Contains(message, won.Root) || !strings.Contains(message, ours) || body["our_root"] != ours {
			t.Errorf("desk is not told both roots, %s and %s: %s", won.Root, ours, message)
		}
		agree(t, hosts, first.Name, won.Root)
		w.toldOfRival("desk", won.Root, ours)
		if saw, err := pageReader("", w.gateway("late", hosts...).Gateway, first.Name).look(); saw != 3 {
			t.Errorf("readers see release %d: %v", saw, err)
		}
	})
	t.Run("of the machine that was second", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, 3)
		hosts := w.hosts("alice", "bob")
		first := w.twoMachines(hosts)
		won, two, lost := w.race(first)
		if won.code != 0 {
			t.Fatalf("desk signed last, for longest, and ends with %d: %s", won.code, won.out)
		}
		root := w.root("desk", two.dir)
		agree(t, hosts, first.Name, root)
		w.toldOfRival("lap", root, lost.Root)
		newerOf(t, w.try("lap", append([]string{"publish", w.numbered(4).dir, "--site", "blog"}, loopback...)...))
		if saw, err := pageReader("", w.gateway("late", hosts...).Gateway, first.Name).look(); saw != 2 {
			t.Errorf("readers see release %d: %v", saw, err)
		}
	})
}

// root is a folder's root.
func (w *world) root(home, dir string) string {
	w.t.Helper()
	var built struct{ Root string }
	w.must(&built, home, "build", dir)
	return built.Root
}
