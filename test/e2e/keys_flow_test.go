package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// page is a site of one page.
func (w *world) page(name, text string) site {
	w.t.Helper()
	return w.writeFiles(name, map[string][]byte{"index.html": []byte("<h1>" + text + "</h1>"), name + ".txt": []byte(text)})
}

// comesToShow waits until a gateway shows the site under a name.
func comesToShow(t *testing.T, gateway *node, name string, s site) {
	t.Helper()
	until(t, "the gateway shows "+s.dir, func() bool { return servesAll(gateway.Gateway, name+".ipns", s) == nil })
}

// secretly gives the passphrase of backups to all commands that follow.
func (w *world) secretly() {
	w.env = append(w.env, "HOLDFAST_BACKUP_PASSPHRASE=correct horse battery staple")
}

func TestASiteComesBackFromItsBackupOnAnEmptyMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.secretly()
	hosts := w.hosts("alice", "bob")
	w.know("desk", hosts...)
	one, two, three := w.page("one", "first"), w.page("two", "second"), w.page("three", "third")
	first := w.publish("desk", one.dir, "--copies", "2")
	var words struct{ Words string }
	w.must(&words, "desk", "key", "backup", "blog", "--words")
	file := w.home("blog.backup")
	w.must(nil, "desk", "key", "backup", "blog", "-o", file)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v, want mode 0600", info, err)
	}
	if _, err := os.Stat(filepath.Join(w.home("desk"), "keys", "blog.recovery")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the seed is still on the machine: %v", err)
	}
	if err := os.RemoveAll(w.home("desk")); err != nil { // lost for good
		t.Fatal(err)
	}

	var key struct{ Alias, Name string }
	w.must(&key, "new", "key", "restore", file)
	if key.Alias != "blog" || key.Name != first.Name {
		t.Fatalf("the backup gave %+v, want blog of %s", key, first.Name)
	}
	w.know("new", hosts...)
	newerOf(t, w.try("new", append([]string{"publish", two.dir, "--site", "blog"}, loopback...)...))
	second := w.publish("new", two.dir, "--rebase", "--copies", "2")
	if second.Name != first.Name || second.Number != 2 {
		t.Errorf("release %d of %s, want 2 of %s", second.Number, second.Name, first.Name)
	}

	// The words bring back the same site.
	if len(strings.Fields(words.Words)) != 24 {
		t.Fatalf("%d words", len(strings.Fields(words.Words)))
	}
	cmd := w.command(t.Context(), "paper", "key", "restore", "--words", "blog")
	cmd.Stdin = strings.NewReader(words.Words + "\n")
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), first.Name) {
		t.Fatalf("from the words: %s, %v", out, err)
	}
	w.know("paper", hosts...)
	third := w.publish("paper", three.dir, "--rebase", "--copies", "2")
	if third.Name != first.Name || third.Number != 3 {
		t.Errorf("release %d of %s, want 3 of %s", third.Number, third.Name, first.Name)
	}
	comesToShow(t, w.gateway("gate", hosts...), first.Name, three)
}

func TestADeployKeyPublishesUntilItIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	hosts := w.hosts("alice", "bob", "carol")
	gate := w.gateway("gate", hosts...)
	w.know("author", hosts...)
	w.know("ci", hosts...)
	own, built, again, late := w.page("own", "by the author"), w.page("built", "by the build machine"), w.page("again", "once more"), w.page("late", "too late")
	first := w.publish("author", own.dir)
	comesToShow(t, gate, first.Name, own)

	var deploy struct{ Name string }
	w.must(&deploy, "author", "key", "new", "ci")
	var changed struct {
		Value       string
		Hosts, Told int
	}
	w.must(&changed, "author", append([]string{"name", "delegate", "blog", "ci"}, loopback...)...)
	if changed.Value != "/ipns/"+deploy.Name || changed.Told != 3 {
		t.Fatalf("delegating gave %+v", changed)
	}
	servedWhole(t, gate.Gateway, first.Name+".ipns", own)
	file := w.home("ci.key")
	w.must(nil, "author", "key", "export", "ci", "-o", file)
	w.must(nil, "ci", "key", "import", "ci", file)

	// The build machine publishes, with the author's machine off, and the history goes on.
	byCI := func(s site) (p published) {
		w.must(&p, "ci", append([]string{"publish", s.dir, "--site", "ci", "--rebase"}, loopback...)...)
		return p
	}
	if p := byCI(built); p.Number != 2 || p.Name != deploy.Name {
		t.Errorf("release %d of %s, want 2 of %s", p.Number, p.Name, deploy.Name)
	}
	comesToShow(t, gate, first.Name, built)
	r := w.try("author", append([]string{"publish", own.dir, "--site", "blog"}, loopback...)...)
	if kind, message, body := r.failure(t); r.code != 4 || kind != "conflict" || body["delegate"] != deploy.Name || !strings.Contains(message, "name revoke blog") {
		t.Errorf("the author's publish: exit code %d, %s: %s", r.code, kind, message)
	}
	if st := w.status("author", "--check"); st.Root == first.Root || st.Number != 2 || len(st.Hosts) != 3 || st.Hosts[0].State != "proved" {
		t.Errorf("status of the delegated site: %+v", st)
	}

	// All hosts at once lose their memory but not their disk: both names are still there.
	for _, h := range hosts {
		h.Kill()
	}
	for _, h := range hosts {
		h.comeBack()
	}
	comesToShow(t, w.gateway("gate2", hosts...), first.Name, built)
	byCI(again)
	comesToShow(t, gate, first.Name, again)

	w.must(&changed, "author", append([]string{"name", "revoke", "blog", "--release", "1"}, loopback...)...)
	if changed.Value != "/ipfs/"+first.Root {
		t.Fatalf("revoking gave %+v, want root %s", changed, first.Root)
	}
	comesToShow(t, gate, first.Name, own)
	byCI(late)
	servedWhole(t, gate.Gateway, first.Name+".ipns", own)
	last := w.publish("author", late.dir)
	if last.Number != 2 {
		t.Errorf("release %d after release 1 was taken back, want 2", last.Number)
	}
}

func TestARotatedSiteGoesOnAndAThiefOfTheOldKeyCanNotMoveIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.secretly()
	hosts := w.hosts("alice", "bob")
	gate := w.gateway("gate", hosts...)
	w.know("author", hosts...)
	one, two := w.page("one", "before"), w.page("two", "after")
	first := w.publish("author", one.dir, "--copies", "2")
	comesToShow(t, gate, first.Name, one)
	file := w.home("blog.backup")
	w.must(nil, "author", "key", "backup", "blog", "-o", file)
	thief := w.signer("author") // he has the machine, and so the key; not the backup

	// The thief's own last record, with his recovery key or without one, is refused by all who know the site.
	evil := thief.Name()
	for what, s := range map[string]naming.Statement{
		"a last record of his":    {Value: "/ipfs/bafkqaaa", Sequence: naming.MaxSequence},
		"another recovery key":    {Value: "/ipfs/bafkqaaa", Sequence: 100, Recovery: naming.Commitment{1, 2, 3}},
		"no recovery key at all":  {Value: "/ipfs/bafkqaaa", Sequence: 100},
		"moved with his own keys": {Value: "/ipns/" + w.strangersName(), Sequence: naming.MaxSequence},
	} {
		s.ValidUntil = time.Now().AddDate(1, 0, 0)
		rec, err := thief.Sign(s)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, h := range hosts {
			if err := naming.NewRoutingClient(h.home, h.Pins, nil).Put(t.Context(), rec); err == nil {
				t.Errorf("%s took %s from the thief", h.home, what)
			}
		}
	}
	servedWhole(t, gate.Gateway, evil.String()+".ipns", one)

	// What he can do is to sign what everybody with the key could.
	rec, err := thief.Sign(naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: 50, Recovery: thief.Recovery(), ValidUntil: time.Now().AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if err := naming.NewRoutingClient(h.home, h.Pins, nil).Put(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}

	if r := w.try("author", append([]string{"key", "rotate", "blog", "--yes"}, loopback...)...); r.code != 2 {
		t.Errorf("without the backup: exit code %d: %s", r.code, r.out)
	}
	var moved struct {
		Name, OldName string `json:"-"`
		N             string `json:"name"`
		Old           string `json:"old_name"`
		Archive       string `json:"old_alias"`
	}
	w.must(&moved, "author", append([]string{"key", "rotate", "blog", "--backup", file, "--release", "1", "--yes"}, loopback...)...)
	if moved.Old != first.Name || moved.N == first.Name {
		t.Fatalf("rotating gave %+v", moved)
	}
	comesToShow(t, gate, first.Name, one)
	second := w.publish("author", two.dir, "--copies", "2")
	if second.Name != moved.N || second.Number != 2 {
		t.Errorf("release %d of %s, want 2 of %s", second.Number, second.Name, moved.N)
	}
	comesToShow(t, gate, first.Name, two) // the old address
	comesToShow(t, gate, moved.N, two)

	// The old key can't take it back, whatever it signs.
	for _, sequence := range []uint64{100, naming.MaxSequence - 1, naming.MaxSequence} {
		rec, err := thief.Sign(naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: sequence, ValidUntil: time.Now().AddDate(1, 0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hosts {
			if err := naming.NewRoutingClient(h.home, h.Pins, nil).Put(t.Context(), rec); err == nil {
				t.Errorf("%s took sequence %d from the thief after the rotation", h.home, sequence)
			}
		}
	}
	r := w.try("author", append([]string{"publish", one.dir, "--site", moved.Archive}, loopback...)...)
	if _, message, _ := r.failure(t); r.code == 0 || !strings.Contains(message, moved.N) {
		t.Errorf("publishing under the old key: exit code %d: %s", r.code, message)
	}

	// The author is gone, the hosts start anew: both addresses live.
	if err := os.RemoveAll(w.home("author")); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		h.Kill()
	}
	for _, h := range hosts {
		h.comeBack()
	}
	fresh := w.gateway("fresh", hosts...)
	comesToShow(t, fresh, first.Name, two)
	comesToShow(t, fresh, moved.N, two)
}

// strangersName is the name of a key that nobody knows.
func (w *world) strangersName() string {
	w.t.Helper()
	ring, err := naming.OpenKeyring(w.t.TempDir())
	if err != nil {
		w.t.Fatal(err)
	}
	k, err := ring.New("stranger")
	if err != nil {
		w.t.Fatal(err)
	}
	return k.Name.String()
}
