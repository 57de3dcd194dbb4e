package author_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func startOffline(t *testing.T) *machine {
	return start(t, func(c *node.Config) { c.Network = "offline" })
}

func TestAPublishTellsOfBrokenLinksAndAStrictOneSignsNothing(t *testing.T) {
	a := startOffline(t)
	dir := a.folder("blog", "index.html", "<a href=gone.html>\n<a href=Page.html>", "page.html", "<a href=/index.html>")
	req := author.PublishRequest{Dir: dir, Alias: "blog", Alone: true, Strict: true}
	e := a.refused(control.Failed, `"index.html" line 1: "gone.html" leads to nothing`, "publish", req)
	if e.Details["preflight"].(preflight.Report).Total != 3 {
		t.Errorf("%v", e.Details)
	}
	if s := ask[node.Sites](a, "status", author.StatusRequest{}).Sites; len(s) != 0 {
		t.Errorf("signed all the same: %+v", s)
	}
	req.Strict = false
	p := a.publish(req)
	want := map[preflight.Kind]int{preflight.BrokenLink: 1, preflight.WrongCase: 1, preflight.RootAbsolute: 1}
	if len(p.Preflight.Counts) != len(want) {
		t.Errorf("%+v", p.Preflight)
	}
	for k, n := range want {
		if p.Preflight.Counts[k] != n {
			t.Errorf("%s: %d, want %d", k, p.Preflight.Counts[k], n)
		}
	}
	for i, suggestion := range []string{"", "page.html", "index.html"} {
		if f := p.Preflight.Findings[i]; f.Suggestion != suggestion || f.Line == 0 || f.Message == "" {
			t.Errorf("%+v, want %q suggested", f, suggestion)
		}
	}

	a.folder("blog", "index.html", "<a href=page.html>", "page.html", "<a href=index.html>")
	req.Strict = true
	if p := a.publish(req); p.Preflight.Total != 0 || p.Number != 2 {
		t.Errorf("mended: %+v", p)
	}
}

func TestWhatTheSitesRulesAnswerIsNoBrokenLink(t *testing.T) {
	a := startOffline(t)
	p := a.publish(author.PublishRequest{Alias: "blog", Alone: true, Dir: a.folder("blog",
		"index.html", "<a href=old/1><a href=app/x><a href=lost/x><a href=teapot><a href=elsewhere>",
		"_redirects", "/old/:n /new/:n 301\n/app/* /index.html 200\n/lost/* /lost.html 200\n/teapot /index.html 404\n/elsewhere https://example.org/ 302\n")})
	var broken []string
	for _, f := range p.Preflight.Findings {
		broken = append(broken, f.Link)
	}
	if got := strings.Join(broken, " "); got != "lost/x teapot" {
		t.Errorf("broken: %s", got)
	}
}

func TestWhatTellsAnotherHostHowToServeTheSiteIsTold(t *testing.T) {
	a := startOffline(t)
	p := a.publish(author.PublishRequest{Alias: "blog", Alone: true, Dir: a.folder("blog", "index.html", "", "netlify.toml", "[[redirects]]", "sub/vercel.json", "{}")})
	if p.Preflight.Total != 1 || p.Preflight.Findings[0].Page != "netlify.toml" || p.Preflight.Findings[0].Kind != preflight.IgnoredFile {
		t.Errorf("%+v", p.Preflight)
	}
}

func TestARuleThatNothingComesToIsToldWhenTheSiteComesToHaveThePage(t *testing.T) {
	a := startOffline(t)
	files := []string{"index.html", "home", "_redirects", "/ /home 302\n/about /us 301\n/about /them\n/docs/* /x 301\n"}
	idle := func() (out []string) {
		p := a.publish(author.PublishRequest{Alias: "blog", Alone: true, Dir: a.folder("blog", files...)})
		for _, f := range p.Preflight.Findings {
			if f.Kind == preflight.IdleRule {
				out = append(out, f.Message)
			}
		}
		return out
	}
	taken := `"_redirects" line 1: the rule for "/" has no effect: there is a page or file at it, and rules count for what is not there`
	twice := `"_redirects" line 3: the rule for "/about" has no effect: an earlier rule answers for all that it is for`
	if got := idle(); !slices.Equal(got, []string{taken, twice}) {
		t.Errorf("%q", got)
	}
	files = append(files, "about.html", "about") // the rules stay the same, and are not read again for their own sake
	if got := idle(); len(got) != 3 || !strings.Contains(got[1], `line 2: the rule for "/about" has no effect: there is`) {
		t.Errorf("%q", got)
	}
}

func TestADamagedMemoryOfTheLastPreflightChangesNothing(t *testing.T) {
	a := startOffline(t)
	dir := a.folder("blog", "index.html", "<a href=gone>")
	req := author.PublishRequest{Dir: dir, Alias: "blog", Alone: true}
	name := a.publish(req).Name
	memory := filepath.Join(a.dir, "home", "cache", "preflight-"+name)
	if _, err := os.Stat(memory); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(memory, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := a.publish(req); p.Preflight.Total != 1 {
		t.Errorf("%+v", p.Preflight)
	}
	if preflight.Load(memory) == nil {
		t.Error("it was not written anew")
	}
	if err := os.RemoveAll(filepath.Dir(memory)); err != nil {
		t.Fatal(err)
	}
	if p := a.publish(req); p.Preflight.Total != 1 {
		t.Errorf("without a cache: %+v", p.Preflight)
	}
}

func TestABuildLooksForFlawsWhenItIsAsked(t *testing.T) {
	a := startOffline(t)
	dir := a.folder("blog", "index.html", "<a href=gone>")
	if b := ask[author.BuildResult](a, "build", author.BuildRequest{Path: dir}); b.Preflight != nil {
		t.Errorf("unasked: %+v", b.Preflight)
	}
	if b := ask[author.BuildResult](a, "build", author.BuildRequest{Path: dir, Check: true}); b.Preflight == nil || b.Preflight.Total != 1 {
		t.Errorf("%+v", b.Preflight)
	}
	a.refused(control.Failed, "gone", "build", author.BuildRequest{Path: dir, Strict: true})
	// One file has no neighbours to link to.
	if b := ask[author.BuildResult](a, "build", author.BuildRequest{Path: filepath.Join(dir, "index.html"), Strict: true}); b.Preflight.Total != 0 {
		t.Errorf("one file: %+v", b.Preflight)
	}
}
