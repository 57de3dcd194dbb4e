package author_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/replicate"
)

// versions publishes so many releases of the site "blog", each with a page of its own.
func (m *machine) versions(n int, change func(*author.PublishRequest)) (out []author.Published) {
	m.t.Helper()
	for i := range n {
		dir := m.folder("blog", "index.html", fmt.Sprint("version ", i+1), "same.txt", "the same in all")
		req := author.PublishRequest{Dir: dir, Alias: "blog", Message: fmt.Sprint("number ", i+1)}
		if change != nil {
			change(&req)
		}
		out = append(out, m.publish(req))
	}
	return out
}

func rollback(alias string, to int64) author.RollbackRequest {
	return author.RollbackRequest{PublishRequest: author.PublishRequest{Alias: alias}, To: to}
}

func TestARollbackIsANewReleaseOfAnOldRoot(t *testing.T) {
	a, h1, h2 := startAuthor(t), startHost(t, "alice"), startHost(t, "bob")
	t1 := h1.token()
	ask[author.HostInfo](a, "host add", author.HostRequest{Where: h1.info.Pins, Token: t1})
	a.add(h2, "")
	p := a.versions(3, nil)
	back := ask[author.Published](a, "rollback", rollback("blog", 0))
	if back.Number != 4 || back.Root != p[1].Root || !back.Live || back.Sequence != p[2].Sequence+1 || len(back.Hosts) != 2 {
		t.Errorf("%+v", back)
	}
	if following, plain := pinsAt(t, h1, t1); len(following) != 1 || len(plain) != 0 || following[0].Info["root"] != back.Root {
		t.Errorf("at the host: %v, %v", following, plain)
	}
	r := ask[node.Releases](a, "history", author.HistoryRequest{Site: "blog"})
	if len(r.Releases) != 4 || r.HostsAsked != 2 || r.HostsAnswered != 2 {
		t.Fatalf("%+v", r)
	}
	first := r.Releases[0]
	if first.Message != "rollback to release 2" || !first.Current || first.Tool != "test" {
		t.Errorf("%+v", first)
	}
	// The hosts keep two, and the root that their pins began with.
	for i, want := range []bool{true, true, true, false} {
		if e := r.Releases[i]; e.Here != want || (e.Hosts == 2) != (want || e.Number == 1) {
			t.Errorf("%+v, kept here %v", e, want)
		}
	}
	v := ask[author.VerifiedHistory](a, "history verify", author.HistoryRequest{Site: "blog"})
	if v.Releases != 4 || v.Root != back.Root || v.Release != back.Release {
		t.Errorf("%+v", v)
	}
	a.refused(control.Usage, "shows now", "rollback", rollback("blog", 2))
	a.refused(control.NotFound, "the newest release is 4", "rollback", rollback("blog", 9))
	a.refused(control.NotFound, "no such key", "rollback", rollback("other", 0))
	if s := ask[node.Sites](a, "status", author.StatusRequest{Alias: "blog"}).Sites[0]; s.Number != 4 || s.Root != back.Root {
		t.Errorf("%+v", s)
	}
	// The site goes on from there.
	if next := a.versions(1, nil)[0]; next.Number != 5 || next.Root != p[0].Root {
		t.Errorf("%+v", next)
	}
}

func TestARollbackFetchesWhatAnotherMachineOfTheAuthorLacks(t *testing.T) {
	a, h := startAuthor(t), startHost(t, "alice")
	a.add(h, "")
	p := a.versions(2, nil)
	key, err := os.ReadFile(filepath.Join(a.dir, "home", "keys", "blog.key"))
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, func(c *node.Config) {
		keys := filepath.Join(c.Home, "keys")
		if err := errors.Join(os.MkdirAll(keys, 0o700), os.WriteFile(filepath.Join(keys, "blog.key"), key, 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	b.add(h, "")
	a.stop()
	req := rollback("blog", 1)
	e := b.refused(control.Conflict, "another machine", "rollback", req)
	if !strings.Contains(fmt.Sprint(e.Details), p[1].Root) {
		t.Errorf("%v", e.Details)
	}
	req.IfRoot = p[1].Root
	if back := ask[author.Published](b, "rollback", req); back.Number != 3 || back.Root != p[0].Root || !back.Live {
		t.Errorf("%+v", back)
	}
	if r := ask[node.Releases](b, "history", author.HistoryRequest{Site: "blog"}); len(r.Releases) != 3 || r.Gap != nil {
		t.Errorf("%+v", r)
	}
}

func TestARollbackToWhatNobodyKeepsSaysSo(t *testing.T) {
	a := start(t, func(c *node.Config) { c.Timeouts.Idle = node.Duration(time.Second) })
	h := startHost(t, "alice")
	a.add(h, "")
	none := time.Duration(0)
	p := a.versions(4, func(r *author.PublishRequest) { r.Keep, r.Grace = 1, &none })
	for _, m := range []*machine{a, h} {
		ask[node.Collected](m, "gc", node.CollectRequest{})
	}
	a.refused(control.Unavailable, "keeps all of it any more", "rollback", rollback("blog", 3))
	if s := ask[node.Sites](a, "status", author.StatusRequest{Alias: "blog"}).Sites[0]; s.Root != p[3].Root || s.Number != 4 {
		t.Errorf("%+v", s)
	}
	r := ask[node.Releases](a, "history", author.HistoryRequest{Site: "blog"})
	if e := r.Releases[1]; e.Here || e.Hosts != 0 {
		t.Errorf("%+v", e)
	}
}

func TestADiffTellsWhatChangedAndWhatWasRenamed(t *testing.T) {
	a := startAuthor(t)
	dir := a.folder("blog", "index.html", "one", "a/old.txt", strings.Repeat("x", 3_000_000), "gone.txt", "12345", "empty", "")
	first := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Copies: new(int)})
	for _, name := range []string{"a", "gone.txt", "empty"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	a.folder("blog", "index.html", "one and two", "b/new.txt", strings.Repeat("x", 3_000_000), "also empty", "", "fresh", "123")
	second := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Copies: new(int)})

	d := ask[author.Diff](a, "diff", author.DiffRequest{Site: "blog"})
	if d.From != (author.Side{Root: first.Root, Number: 1}) || d.To != (author.Side{Root: second.Root, Number: 2}) {
		t.Errorf("%+v %+v", d.From, d.To)
	}
	var got []string
	for _, f := range d.Files {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s%s%s", f.Change, f.Path, number(f.Before), number(f.After), f.Was)))
	}
	want := "added also empty -0 | renamed b/new.txt 3000000 3000000 a/old.txt | removed empty 0 - | added fresh -3 | removed gone.txt 5 - | modified index.html 3 11"
	if s := strings.Join(got, " | "); strings.Join(strings.Fields(s), " ") != want {
		t.Errorf("%s\nwant %s", s, want)
	}
	if d.Added != 2 || d.Removed != 2 || d.Changed != 1 || d.Renamed != 1 || d.Growth != 3-5+8 {
		t.Errorf("%+v", d)
	}
	// However it is asked for, it is the same; the other way round it is the opposite.
	for _, req := range []author.DiffRequest{
		{Site: "blog", From: "1"}, {Site: "blog", From: "1", To: "2"}, {Site: "blog", From: "-1"}, {Site: second.Name, From: "1"},
		{Site: "blog", From: first.Root, To: second.Root}, {Site: first.Root, From: "blog"}, {Site: "/ipfs/" + first.Root, From: "/ipns/" + second.Name},
	} {
		if same := ask[author.Diff](a, "diff", req); len(same.Files) != len(d.Files) || same.Growth != d.Growth || same.From.Root != first.Root || same.To.Root != second.Root {
			t.Errorf("%+v: %+v", req, same)
		}
	}
	if back := ask[author.Diff](a, "diff", author.DiffRequest{Site: "blog", From: "2", To: "1"}); back.Growth != -d.Growth || back.Renamed != 1 {
		t.Errorf("%+v", back)
	}
	if part := ask[author.Diff](a, "diff", author.DiffRequest{Site: "blog", Limit: 2}); len(part.Files) != 2 || part.Unlisted != 5 || part.Added+part.Removed+part.Changed != 7 {
		t.Errorf("%+v", part)
	}
	a.refused(control.NotFound, "the newest release is 2", "diff", author.DiffRequest{Site: "blog", From: "7"})
	a.refused(control.Usage, "no site", "diff", author.DiffRequest{Site: first.Root, From: "1"})
}

func number(n *int64) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n, " ")
}

// blocksOf is what a folder consists of.
func blocksOf(t *testing.T, dir string) map[cid.Cid]bool {
	t.Helper()
	s, err := blockstore.NewMemory().Begin(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := merkle.Build(t.Context(), s, dir, merkle.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[cid.Cid]bool)
	for _, c := range b.CIDs {
		out[c] = true
	}
	return out
}

// has asks a machine's gateway for what it has at hand.
func (m *machine) has(c cid.Cid) bool {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.info.Gateway+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Cache-Control", "only-if-cached")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPreconditionFailed {
		m.t.Fatalf("%s: %s", c, resp.Status)
	}
	return resp.StatusCode == http.StatusOK
}

func withGateway(c *node.Config) { c.Gateway.Listen = "127.0.0.1:0" }

func TestAPageThatIsOpenFindsItsPartsAtEveryGatewayForTheGrace(t *testing.T) {
	a := start(t, withGateway)
	host := start(t, func(c *node.Config) {
		c.Host, c.Pins.Listen, c.Pins.Name, c.P2P.AllowPrivate = true, "127.0.0.1:0", "alice", true
		withGateway(c)
	})
	a.add(host, "")
	reader := start(t, func(c *node.Config) { withGateway(c); c.Peers = host.info.Addrs[:1] })
	dir := a.folder("blog", "index.html", "one", "app.1.js", "old script", "old.html", "old page")
	p := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Keep: 1})
	site := func(m *machine, path, dest string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.info.Gateway+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = p.Name + ".ipns.localhost"
		req.Header.Set("Sec-Fetch-Dest", dest)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for _, name := range []string{"app.1.js", "old.html"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	a.folder("blog", "index.html", "two", "app.2.js", "new script")
	a.publish(author.PublishRequest{Dir: dir, Alias: "blog", Keep: 1})
	for _, m := range []*machine{a, host, reader} {
		ask[node.Collected](m, "gc", node.CollectRequest{})
		if status, text := site(m, "/", "document"); status != http.StatusOK || text != "two" {
			t.Errorf("the newest page: %d %q", status, text)
		}
		if status, text := site(m, "/app.1.js", "script"); status != http.StatusOK || text != "old script" {
			t.Errorf("the open page's script: %d %q", status, text)
		}
		if status, text := site(m, "/old.html", "document"); status != http.StatusNotFound {
			t.Errorf("a page that is gone: %d %q", status, text)
		}
	}
}

func TestAReleaseWithoutGraceTakesBackWhatWasPublishedBefore(t *testing.T) {
	a := start(t, withGateway)
	hosts := []*machine{}
	for _, name := range []string{"alice", "bob"} {
		hosts = append(hosts, start(t, func(c *node.Config) {
			c.Host, c.Pins.Listen, c.Pins.Name, c.P2P.AllowPrivate = true, "127.0.0.1:0", name, true
			withGateway(c)
		}))
	}
	t1 := hosts[0].token()
	ask[author.HostInfo](a, "host add", author.HostRequest{Where: hosts[0].info.Pins, Token: t1})
	a.add(hosts[1], "")

	// The secret is in the release that the hosts' pins began with, and in the next.
	dir := a.folder("blog", "index.html", "one", "secret.txt", "a secret", "stays.txt", "stays")
	taken := blocksOf(t, dir)
	p := a.publish(author.PublishRequest{Dir: dir, Alias: "blog"})
	a.folder("blog", "index.html", "two", "also/secret.txt", "another secret")
	for c := range blocksOf(t, dir) {
		taken[c] = true
	}
	a.publish(author.PublishRequest{Dir: dir, Alias: "blog"})
	for _, s := range []string{"secret.txt", "also"} {
		if err := os.RemoveAll(filepath.Join(dir, s)); err != nil {
			t.Fatal(err)
		}
	}
	a.folder("blog", "index.html", "three")
	for c := range blocksOf(t, dir) {
		delete(taken, c)
	}
	for c := range taken {
		if !hosts[0].has(c) {
			t.Fatalf("the test looks for %s, which was never there", c)
		}
	}
	last := a.publish(author.PublishRequest{Dir: dir, Alias: "blog", NoGrace: true})
	if !last.Live || last.Number != 3 || strings.Contains(strings.Join(last.Warnings, "\n"), "may still hold") {
		t.Errorf("%+v", last)
	}
	following, plain := pinsAt(t, hosts[0], t1)
	if len(following) != 1 || len(plain) != 0 || following[0].Info[replicate.InfoKept] != last.Root || following[0].Pin.CID.String() != last.Root {
		t.Errorf("at the host: %v, %v", following, plain)
	}
	for _, m := range append(hosts, a) {
		ask[node.Collected](m, "gc", node.CollectRequest{})
		for c := range taken {
			if m.has(c) {
				t.Errorf("%s is still to be had", c)
			}
		}
		if !m.has(cid.MustParse(last.Root)) {
			t.Error("the new root went too")
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.info.Gateway+"/secret.txt", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = p.Name + ".ipns.localhost"
		req.Header.Set("Sec-Fetch-Dest", "image")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("the secret: %s", resp.Status)
		}
	}
	// The history is still all there, at a host too.
	if v := ask[author.VerifiedHistory](a, "history verify", author.HistoryRequest{Site: "blog"}); v.Releases != 3 {
		t.Errorf("%+v", v)
	}
	b := startAuthor(t)
	b.add(hosts[0], "")
	a.stop()
	if v := ask[author.VerifiedHistory](b, "history verify", author.HistoryRequest{Site: p.Name}); v.Releases != 3 {
		t.Errorf("%+v", v)
	}
}

func TestABrokenHistoryAndOneOutOfReachHaveKindsOfTheirOwn(t *testing.T) {
	for err, want := range map[error]control.Kind{
		&author.ChainError{Number: 3, Err: fmt.Errorf("%w: why", merkle.ErrMalformed)}:                              control.Corrupt,
		&author.ChainError{Number: 3, Err: &blockstore.BlockError{Kind: blockstore.ErrCorrupt}}:                     control.Corrupt,
		&author.ChainError{Number: 3, Err: fmt.Errorf("%w: %w", blockstore.ErrUnavailable, blockstore.ErrNotFound)}: control.Unavailable,
	} {
		if got := node.KindOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}
