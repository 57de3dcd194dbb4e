package gateway

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// siteWorld has one site, blog, of 23 releases, and knows two holders of it.
func siteWorld(t *testing.T) (w *world, root cid.Cid, name string) {
	t.Helper()
	w = newWorld(t, nil)
	root = w.build(map[string]string{"index.html": "<title>Kelp</title>", "plain/<i>.txt": "x"})
	n := w.publish("blog", root)
	var last cid.Cid
	for i := range uint64(23) {
		last = w.release(merkle.Release{
			Root: root, Number: i + 1, Previous: last, Time: time.Now().Add(-time.Hour * time.Duration(23-i)), Message: fmt.Sprintf("change <%d>\nand more", i+1), Files: 2, Bytes: 1500,
		})
	}
	w.publishRelease("blog", root, last)
	w.sites.copies = Copies{Checked: true, Wanted: 2, Proved: 1, Holders: []Holder{
		{ID: "12D3KooWAlice", Label: "alice <inc>", Addr: "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWAlice", Proved: time.Now().Add(-3 * time.Minute)},
		{ID: "12D3KooWBob", Standby: true, Gone: true},
	}}
	return w, root, n.String()
}

// release stores a release block.
func (w *world) release(r merkle.Release) cid.Cid {
	w.t.Helper()
	b, err := merkle.EncodeRelease(r)
	must(w.t, err)
	s, err := w.store.Begin(w.t.Context(), "")
	must(w.t, err)
	defer s.Close()
	_, err = s.Put(w.t.Context(), b)
	must(w.t, err)
	must(w.t, s.Keep(w.t.Context(), "release", b.Cid(), slices.Values([]cid.Cid{b.Cid()})))
	return b.Cid()
}

func (w *world) publishRelease(alias string, root, release cid.Cid) {
	w.t.Helper()
	signer, err := w.keys.Signer(alias)
	must(w.t, err)
	best, err := w.records.Best(w.t.Context(), signer.Name())
	must(w.t, err)
	st, err := naming.Next(best, naming.Statement{Value: "/ipfs/" + root.String(), Release: release, ValidUntil: time.Now().Add(time.Hour)})
	must(w.t, err)
	rec, err := signer.Sign(st)
	must(w.t, err)
	must(w.t, w.records.Accept(w.t.Context(), rec))
	w.resolver.Accepted(rec)
}

func TestSitePageTellsReleasesHoldersAndHowToCheck(t *testing.T) {
	w, root, name := siteWorld(t)
	for _, at := range []string{"http://localhost:8080/-/site/" + name, "http://127.0.0.1:8080/-/site/" + name, "http://localhost:8080/-/site/blog"} {
		r := w.get(at)
		r.want(t, 200, "")
		for _, s := range []string{
			"<h1>Kelp</h1>", name, root.String(), "sequence 2", "1 of 2 wanted copies proved", "alice &lt;inc&gt;", "12D3KooWAlice", "3 minutes ago", "presumed lost", "standby",
			">23</a>", "change &lt;4&gt; and more", "3 older releases", "1.5 kB in 2 files", "ipfs dag import site.car", "--peer /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWAlice",
		} {
			if !strings.Contains(r.body, s) {
				t.Errorf("%s: %q is not on the page: %s", at, s, r.body[strings.Index(r.body, "<main"):])
			}
		}
		if strings.Contains(r.body, "change &lt;3&gt;") || strings.Contains(r.body, "<inc>") {
			t.Errorf("%s: too many releases, or not escaped", at)
		}
	}
}

func TestCommandsOfTheSitePageGetWhatTheySay(t *testing.T) {
	w, root, name := siteWorld(t)
	for _, host := range []string{"localhost:8080", "127.0.0.1:8080"} {
		page := w.get("http://" + host + "/-/site/" + name).body
		urls := regexp.MustCompile(`curl -fsSL -o (\S+) \\\s+(?:&#39;|')([^'&]+(?:&amp;[^'&]+)*)(?:&#39;|')`).FindAllStringSubmatch(page, -1)
		if len(urls) != 2 {
			t.Fatalf("%s: %d commands with curl, want 2: %s", host, len(urls), page)
		}
		for _, m := range urls {
			r := w.get(html.UnescapeString(m[2]))
			r.want(t, 200, "")
			switch m[1] {
			case "site.ipns-record":
				n, err := naming.ParseName(name)
				must(t, err)
				rec, err := naming.OpenRecord(n, []byte(r.body), time.Now())
				must(t, err)
				if got, _ := rec.Root(); !got.Equals(root) {
					t.Errorf("%s: the record leads to %s", host, got)
				}
			case "site.car":
				if !bytes.Contains([]byte(r.body), root.Bytes()) {
					t.Errorf("%s: the CAR does not name the root", host)
				}
			}
		}
	}
}

func TestNoAddressInARosterMakesACommandOfItsOwn(t *testing.T) {
	w, _, name := siteWorld(t)
	good := Holder{ID: "12D3KooWAlice", Addr: "/dns4/host-1.example/udp/4001/quic-v1/p2p/12D3KooWAlice"}
	holders, addrs := []Holder{}, []string{"/dns4/$(id)/tcp/1/p2p/12D3KooWEve", "/dns4/a;id/tcp/1", "/dns4/`id`/tcp/1", "/dns4/a b/tcp/1", "/dns4/a\nid/tcp/1", "-x", "/dns4/a'/tcp/1", "/dns4/a>b/tcp/1"}
	for _, addr := range addrs {
		holders = append(holders, Holder{ID: "12D3KooWEve", Addr: addr})
	}
	w.sites.copies = Copies{Holders: append(holders, good)}
	page := html.UnescapeString(w.get("http://localhost/-/site/" + name).body)
	for _, addr := range addrs {
		if strings.Contains(page, "--peer "+addr) {
			t.Errorf("%q: %s", addr, page[strings.Index(page, "Without this gateway"):])
		}
	}
	if strings.Count(page, "--peer "+good.Addr+" ") != 2 {
		t.Errorf("%s", page[strings.Index(page, "Without this gateway"):])
	}
}

func TestSitePageSaysWhereTheChainOfReleasesBreaks(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"index.html": "x"})
	name := w.publish("blog", root)
	away, err := merkle.EncodeRelease(merkle.Release{Root: root, Number: 1, Time: time.Now()})
	must(t, err)
	w.publishRelease("blog", root, w.release(merkle.Release{Root: root, Number: 2, Previous: away.Cid(), Time: time.Now(), Message: "second"}))
	r := w.get("http://localhost:8080/-/site/" + name.String())
	r.want(t, 200, "")
	if !strings.Contains(r.body, "second") || !strings.Contains(r.body, "release "+away.Cid().String()+" can&#39;t be had here") {
		t.Errorf("%s", r.body)
	}
}

func TestSitePageOfWhatIsNoSiteIsAnErrorThatSaysWhy(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Hosts = map[string]HostConfig{"gw.example": {Subdomains: true}} })
	w.publish("blog", w.build(blog))
	other, err := naming.OpenKeyring(t.TempDir())
	must(t, err)
	_, err = other.New("unknown")
	must(t, err)
	info, err := other.Info("unknown")
	must(t, err)
	for url, want := range map[string]int{
		"http://localhost:8080/-/site/":                             400,
		"http://localhost:8080/-/site/nonsense":                     400,
		"http://localhost:8080/-/site/blog/x":                       400,
		"http://gw.example/-/site/blog":                             400, // an alias is this machine's business
		"http://localhost:8080/-/site/" + info.Name.String():        504, // nobody could be asked
		"http://localhost:8080/-/site/" + info.Name.String() + "/x": 400,
		"http://localhost:8080/-/other":                             404,
	} {
		if r := w.get(url); r.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", url, r.StatusCode, want, r.body)
		}
	}
}

func TestSitePageOfADelegatedNameTellsWhoPublishesAndNamesNoOther(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"index.html": "<title>Kelp</title>"})
	deploy := w.publish("deploy", root)
	other := w.publish("other", w.build(map[string]string{"index.html": "<title>Elsewhere</title>"}))
	_, err := w.keys.New("front")
	must(t, err)
	signer, err := w.keys.Signer("front")
	must(t, err)
	st, err := naming.Next(naming.Record{}, naming.Statement{Value: "/ipns/" + deploy.String(), ValidUntil: time.Now().Add(time.Hour)})
	must(t, err)
	rec, err := signer.Sign(st)
	must(t, err)
	must(t, w.records.Accept(t.Context(), rec))
	r := w.get("http://localhost:8080/-/site/" + signer.Name().String())
	r.want(t, 200, "")
	for s, want := range map[string]bool{
		"<h1>Kelp</h1>": true, "Published by": true, deploy.String(): true, root.String(): true, "names no releases": true, other.String(): false, "Elsewhere": false,
	} {
		if strings.Contains(r.body, s) != want {
			t.Errorf("%q is on the page: %v", s, !want)
		}
	}
	if r := w.get("http://localhost:8080/-/site/" + deploy.String()); strings.Contains(r.body, "Published by") || strings.Contains(r.body, signer.Name().String()) {
		t.Error("the name that publishes says that another does, or for whom")
	}
}

func TestErrorPageLeadsToWhatIsKnownOfTheSite(t *testing.T) {
	w, l := newLossyWorld(t, 0)
	root := w.build(map[string]string{"plain/file.txt": "x"})
	name := w.publish("blog", root)
	page := resolve(t, w, root, "plain/file.txt")
	l.happens = func(_ context.Context, c cid.Cid) error {
		if c.Equals(page) {
			return &blockstore.BlockError{CID: c, Kind: blockstore.ErrUnavailable}
		}
		return nil
	}
	for _, at := range []string{"http://blog.localhost:8080", "http://" + name.String() + ".ipns.localhost:8080"} {
		if _, f := w.failure(at + "/plain/file.txt"); f.SitePage != "http://localhost:8080/-/site/"+name.String() {
			t.Errorf("%s: %q", at, f.SitePage)
		}
		if _, f := w.failure(at + "/plain/nothing"); f.SitePage != "" {
			t.Errorf("%s: a path that is not there leads to %q", at, f.SitePage)
		}
	}
}

// unsigned knows where names lead, as a preview does, without any record.
type unsigned struct{ root cid.Cid }

func (u unsigned) Follow(context.Context, naming.Name) ([]naming.Resolution, cid.Cid, error) {
	return nil, u.root, nil
}

func TestWhatNobodySignedIsServedAndHasNoPage(t *testing.T) {
	var names unsigned
	w := newWorld(t, func(c *Config) { c.Names = &names })
	names.root = w.build(blog)
	name := namingtest.Signer(t, "unsigned").Name().String()
	w.get("http://"+name+".ipns.localhost/plain/file.txt").want(t, 200, "")
	w.get("http://localhost/-/site/"+name).want(t, 404, "")
}

func TestSitePageOfANameWhoseTimeIsUpSaysSo(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	_, err := w.keys.New("blog")
	must(t, err)
	signer, err := w.keys.Signer("blog")
	must(t, err)
	end := time.Now().Add(-48 * time.Hour)
	st, err := naming.Next(naming.Record{}, naming.Statement{Value: "/ipfs/" + root.String(), ValidUntil: end})
	must(t, err)
	rec, err := signer.Sign(st)
	must(t, err)
	must(t, w.records.Accept(t.Context(), rec))
	name := signer.Name().String()
	for _, url := range []string{"http://localhost/-/site/" + name, "http://" + name + ".ipns.localhost/"} {
		for _, accept := range []string{"text/html", "application/json", "text/plain"} {
			r := w.get(url, "Accept", accept)
			r.want(t, 502, "")
			body := html.UnescapeString(r.body)
			for _, s := range []string{"until " + end.UTC().Format("2 January 2006"), "Tell the author", "/ipfs/" + root.String()} {
				if !strings.Contains(body, s) {
					t.Errorf("%s as %s: %q is not said: %s", url, accept, s, body)
				}
			}
			if accept != "application/json" && !strings.Contains(body, "This site's time is up") {
				t.Errorf("%s as %s: %s", url, accept, body)
			}
		}
	}
}

func TestSitePageOfANameThatMovedForGoodLeadsToTheNewOne(t *testing.T) {
	w := newWorld(t, nil)
	old, root := w.publish("old", w.build(blog)), w.build(map[string]string{"index.html": "<title>Moved</title>"})
	to := w.publish("new", root)
	seed, err := w.keys.Seed("old")
	must(t, err)
	recovery, err := seed.Recovery()
	must(t, err)
	signer, err := w.keys.Signer("old")
	must(t, err)
	best, err := w.records.Best(t.Context(), old)
	must(t, err)
	last, err := naming.SignLast(signer, recovery, best, to)
	must(t, err)
	must(t, w.records.Accept(t.Context(), last))
	w.resolver.Accepted(last)
	r := w.get("http://localhost/-/site/" + old.String())
	r.want(t, 200, "")
	for _, s := range []string{"Moved for good to", `href="/-/site/` + to.String() + `"`, "closed this name", root.String(), "<h1>Moved</h1>"} {
		if !strings.Contains(r.body, s) {
			t.Errorf("%q is not on the page: %s", s, r.body[strings.Index(r.body, "<main"):])
		}
	}
	if r := w.get("http://localhost/-/site/" + to.String()); strings.Contains(r.body, "Moved for good") {
		t.Error("the new name is said to have moved")
	}
}
