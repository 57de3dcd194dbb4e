package preflight

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// site is a folder and the store that it is built into.
type site struct {
	t     testing.TB
	dir   string
	store *counting
}

// counting counts what is read.
type counting struct {
	blockstore.Store
	gets map[cid.Cid]int
}

func (c *counting) Get(ctx context.Context, id cid.Cid) (blockstore.Block, error) {
	if c.gets != nil {
		c.gets[id]++
	}
	return c.Store.Get(ctx, id)
}

func newSite(t testing.TB, files ...string) *site {
	s := &site{t, t.TempDir(), &counting{Store: blockstore.NewMemory()}}
	for i := 0; i < len(files); i += 2 {
		s.write(files[i], files[i+1])
	}
	return s
}

func (s *site) write(path, text string) {
	s.t.Helper()
	path = filepath.Join(s.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) root() cid.Cid {
	s.t.Helper()
	session, err := s.store.Begin(s.t.Context(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer session.Close()
	b, err := merkle.Build(s.t.Context(), session, s.dir, merkle.BuildOptions{Symlinks: merkle.SymlinksKeep})
	if err != nil {
		s.t.Fatal(err)
	}
	return b.Root
}

func (s *site) check(o Options) *Result {
	s.t.Helper()
	r, err := Check(s.t.Context(), s.store, s.root(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// brief writes findings as "kind page:line link → suggestion".
func brief(r *Result) []string {
	var out []string
	for _, f := range r.Report().Findings {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s:%d %s %s", f.Kind, f.Page, f.Line, f.Link, f.Suggestion)))
	}
	return out
}

func (s *site) wants(o Options, want ...string) *Result {
	s.t.Helper()
	r := s.check(o)
	if got := brief(r); !reflect.DeepEqual(got, want) {
		s.t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	return r
}

func TestEachKindOfSurpriseIsFoundOnceAndWhereItIs(t *testing.T) {
	newSite(t,
		"index.html", "<a href=docs/a.html>\n<a href=gone.html>\n<img src=Img/X.png><a href=docs>\n<a href=/docs/a.html><a href=gone.html#again>",
		"docs/a.html", `<a href="../index.html?x#y"><a href="/img/x.png"><script src="//cdn.example/x.js"></script><a href="b"><a href=".."><a href="../..">`,
		"docs/b.html", `<script src="http://localhost:35729/livereload.js"></script><a href="http://localhost:3000/">`,
		"img/x.png", "x",
		"404.html", `<a href="/index.html"><a href="/gone">`,
	).wants(Options{},
		"broken_link 404.html:1 /gone",
		"broken_link docs/a.html:1 b b.html",
		"broken_link index.html:2 gone.html",
		"wrong_case index.html:3 Img/X.png img/x.png",
		"no_index index.html:3 docs",
		"local_link docs/b.html:1 http://localhost:35729/livereload.js",
		"root_absolute docs/a.html:1 ../.. ../",
		"root_absolute docs/a.html:1 /img/x.png ../img/x.png",
		"root_absolute index.html:4 /docs/a.html docs/a.html",
	)
}

func TestAFaultlessSiteHasNoFindings(t *testing.T) {
	s := newSite(t,
		"index.html", `<base href="./docs/"><a href="a%20b.html"><a href="../"><a href="deep/"><a href="deep">`,
		"docs/a b.html", `<a href="é.html"><a href="%C3%A9.html"><a href="q%23x.html">`,
		"docs/é.html", "", "docs/q#x.html", "", "docs/deep/index.html", `<a href="link">`, "notes.txt", "<a href=nowhere>")
	if err := os.Symlink("index.html", filepath.Join(s.dir, "docs/deep/link")); err != nil {
		t.Skip(err)
	}
	s.wants(Options{})
}

func TestASiteWithoutAFirstPageIsTold(t *testing.T) {
	r := newSite(t, "a.html", "x").wants(Options{}, "no_index :0")
	if text := r.Report().Text(10); !strings.Contains(text, "no index.html at the top") {
		t.Error(text)
	}
}

func TestWhatARuleAnswersIsNotBroken(t *testing.T) {
	answers := func(path string) (string, bool) {
		switch {
		case strings.HasPrefix(path, "/old/"):
			return "", true
		case strings.HasPrefix(path, "/app/"):
			return "/app.html", true
		case strings.HasPrefix(path, "/lost/"):
			return "/lost.html", true
		}
		return "", false
	}
	s := newSite(t, "index.html", "<a href=old/x><a href=app/x/y><a href=lost/x><a href=new/x>", "app.html", "")
	r := s.wants(Options{Answers: answers}, "broken_link index.html:1 lost/x", "broken_link index.html:1 new/x")
	if err := os.Remove(filepath.Join(s.dir, "app.html")); err != nil {
		t.Fatal(err)
	}
	s.wants(Options{Answers: answers, Before: r},
		"broken_link index.html:1 app/x/y", "broken_link index.html:1 lost/x", "broken_link index.html:1 new/x")
}

func TestARuleMayAnswerWithAPageWithoutItsExtension(t *testing.T) {
	o := Options{Answers: func(path string) (string, bool) { return "/about", path == "/us" }, CleanURLs: true}
	s := newSite(t, "index.html", "<a href=us>", "about.html", "")
	o.Before = s.wants(o)
	if err := os.Remove(filepath.Join(s.dir, "about.html")); err != nil {
		t.Fatal(err)
	}
	s.wants(o, "broken_link index.html:1 us")
}

func TestALinkWithoutExtensionIsToldAsWhatItIs(t *testing.T) {
	s := newSite(t, "index.html", "<a href=about><a href=/about/><a href=posts><a href=nothing>", "about.html", "", "posts.html", "", "posts/one.html", "")
	r := s.wants(Options{CleanURLs: true}, "broken_link index.html:1 nothing", "clean_url index.html:1 about about.html", "clean_url index.html:1 posts posts.html")
	if err := os.Remove(filepath.Join(s.dir, "about.html")); err != nil {
		t.Fatal(err)
	}
	s.wants(Options{CleanURLs: true, Before: r}, "broken_link index.html:1 about", "broken_link index.html:1 nothing", "clean_url index.html:1 posts posts.html")
	s.wants(Options{}, "broken_link index.html:1 about", "broken_link index.html:1 nothing", "no_index index.html:1 posts")
}

func TestAFallbackPageAnswersForPages(t *testing.T) {
	s := newSite(t, "index.html", "<a href=some/where><a href=x.html><script src=x.js></script>", "200.html", "")
	r := s.wants(Options{}, "broken_link index.html:1 x.js")
	if err := os.Remove(filepath.Join(s.dir, "200.html")); err != nil {
		t.Fatal(err)
	}
	s.wants(Options{Before: r}, "broken_link index.html:1 some/where", "broken_link index.html:1 x.html", "broken_link index.html:1 x.js")
}

func TestWhatIsKnownOfTheRulesIsToldAndKept(t *testing.T) {
	s := newSite(t, "index.html", "", "_headers", "x")
	known := []Finding{{Kind: IgnoredField, Page: "_headers", Line: 3, Link: "Set-Cookie"}}
	r := s.wants(Options{Known: known}, "ignored_field _headers:3 Set-Cookie")
	s.write("other.html", "")
	r = s.wants(Options{Known: known, Before: r}, "ignored_field _headers:3 Set-Cookie")
	s.write("_headers", "y")
	s.wants(Options{Before: r})
}

func TestAFileIsLargeFromOneByteOverTheLimit(t *testing.T) {
	s := newSite(t, "index.html", "")
	for name, size := range map[string]int64{"fits.bin": MaxFile, "large.bin": MaxFile + 1} {
		s.write(name, "")
		if err := os.Truncate(filepath.Join(s.dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	s.wants(Options{}, "large_file large.bin:0")
}

func TestNothingOfAHostilePageReachesATerminal(t *testing.T) {
	r := newSite(t, "index.html", "<a href='\x1b[2J\u202etxt'><a href='"+strings.Repeat("x", 10_000)+"'>").check(Options{})
	text := r.Report().Text(10)
	if strings.ContainsAny(text, "\x1b\u202e") || len(text) > 3000 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}

func TestALinkThatIsWrongOnEveryPageIsToldOnce(t *testing.T) {
	s := newSite(t, "index.html", "<a href=gone.html><a href=gone.html#x><a href=lost.html>")
	for i := range 400 {
		s.write(fmt.Sprintf("p%d.html", i), "<a href=gone.html>")
	}
	r := s.check(Options{}).Report()
	text := r.Text(10)
	if r.Total != 402 || strings.Count(text, "\n") != 2 || !strings.Contains(text, `"gone.html" leads to nothing (on 400 other pages, too)`) {
		t.Errorf("%d: %s", r.Total, text)
	}
}

func TestFindingsOfAKindAreCountedBeyondThoseThatAreTold(t *testing.T) {
	var b strings.Builder
	for i := range maxReported + 7 {
		fmt.Fprintf(&b, "<a href=%d>", i)
	}
	r := newSite(t, "index.html", b.String()).check(Options{}).Report()
	if r.Total != maxReported+7 || len(r.Findings) != maxReported || r.Counts[BrokenLink] != r.Total {
		t.Errorf("%d of %d, %v", len(r.Findings), r.Total, r.Counts)
	}
	if text := r.Text(3); strings.Count(text, "\n") != 4 || !strings.Contains(text, "and 254 more") {
		t.Error(text)
	}
}

func TestAnUnchangedSiteIsNotReadAgain(t *testing.T) {
	s := newSite(t, "index.html", "<a href=gone>")
	r := s.check(Options{})
	root := s.root()
	s.store.gets = make(map[cid.Cid]int)
	again, err := Check(t.Context(), s.store, root, Options{Before: r})
	if err != nil || again != r || len(s.store.gets) != 0 {
		t.Errorf("%v, %d blocks read", err, len(s.store.gets))
	}
}

func TestOfAChangedSiteOnlyTheChangedPageIsRead(t *testing.T) {
	s := newSite(t, "index.html", "<a href=p/7.html>", "p/index.html", "")
	for i := range 500 {
		s.write(fmt.Sprintf("p/%d.html", i), fmt.Sprintf("%d <a href=%d.html>", i, (i+1)%500))
	}
	r := s.check(Options{})
	s.write("p/3.html", "<a href=4.html><a href=gone.html><a href=../index.html>")
	root := s.root()
	s.store.gets = make(map[cid.Cid]int)
	now, err := Check(t.Context(), s.store, root, Options{Before: r, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := brief(now); len(got) != 1 || got[0] != "broken_link p/3.html:1 gone.html" {
		t.Error(got)
	}
	if len(s.store.gets) > 6 { // the top and p of both roots, the page
		t.Errorf("%d blocks read", len(s.store.gets))
	}
}

// TestAChangeIsToldAsAFirstLookWouldTellIt edits a site at random and compares
// what is found from the last result with what is found anew.
func TestAChangeIsToldAsAFirstLookWouldTellIt(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			names := []string{"index.html", "a.html", "A.html", "b.html", "b", "d/index.html", "d/x.html", "D/y.html", "d/e/z.html", "d/e/index.html", "css/s.css", "d.html", "200.html"}
			refs := append([]string{"d", "d/", "../", "/a.html", "../d/x.html", "d/e", "/", "B.HTML", "x.html", "nothing"}, names...)
			s := newSite(t, "index.html", "")
			var before *Result
			for range 60 {
				for range 1 + random.IntN(3) {
					edit(s, random, names, refs)
				}
				clean := seed%2 == 1
				full, changed := s.check(Options{CleanURLs: clean}), s.check(Options{CleanURLs: clean, Before: before})
				if !reflect.DeepEqual(full.Report(), changed.Report()) {
					t.Fatalf("anew\n  %s\nas a change\n  %s", strings.Join(brief(full), "\n  "), strings.Join(brief(changed), "\n  "))
				}
				before = changed
			}
		})
	}
}

// edit writes or removes one file.
func edit(s *site, random *rand.Rand, names, refs []string) {
	name := names[random.IntN(len(names))]
	path := filepath.Join(s.dir, name)
	if random.IntN(3) == 0 || strings.HasPrefix(name, "b") {
		if err := os.RemoveAll(path); err != nil {
			s.t.Fatal(err)
		}
		if random.IntN(2) == 0 {
			return
		}
	}
	var b strings.Builder
	for range random.IntN(5) {
		fmt.Fprintf(&b, "<a href='%s'>\n", refs[random.IntN(len(refs))])
	}
	s.write(name, b.String())
}

func TestAResultIsRememberedOrForgottenButNeverMistaken(t *testing.T) {
	s := newSite(t, "index.html", "<a href=a.html><a href='no\x00thing'><a href=A.html>", "a.html", "<a href=/>")
	r := s.check(Options{})
	path := filepath.Join(t.TempDir(), "memory")
	if Load(path) != nil {
		t.Error("a result out of nothing")
	}
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	if got := Load(path); !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, want %+v", got, r)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		data[i] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if Load(path) != nil {
			t.Errorf("with byte %d flipped it is still taken", i)
		}
		data[i] ^= 1
		if _, err := decode(data[:i]); err == nil {
			t.Errorf("cut to %d bytes it is still taken", i)
		}
	}
}

func TestACheckWhosePredecessorCantBeReadStartsAnew(t *testing.T) {
	s := newSite(t, "index.html", "<a href=gone>")
	r := s.check(Options{})
	other := newSite(t, "index.html", "<a href=gone><a href=lost>")
	other.wants(Options{Before: r}, "broken_link index.html:1 gone", "broken_link index.html:1 lost")
}

func FuzzDecode(f *testing.F) {
	r := newSite(f, "index.html", "<a href=a.html><a href=nothing>", "a.html", "<a href=/>").check(Options{})
	f.Add(r.encode())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum must not keep the fuzzer out.
		r, err := decode(data)
		if err != nil && len(data) > 4 {
			r, err = decode(sealed(data))
		}
		if err != nil {
			return
		}
		if again, err := decode(r.encode()); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%v: %+v, want %+v", err, again, r)
		}
		r.Report()
	})
}
