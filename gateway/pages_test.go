package gateway

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// palettes are the colours of the style sheet, light and dark.
func palettes(t *testing.T) map[string]map[string]string {
	t.Helper()
	blocks := regexp.MustCompile(`:root\{([^}]*)\}`).FindAllStringSubmatch(pageCSS, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d palettes, want light and dark", len(blocks))
	}
	out := map[string]map[string]string{}
	for i, scheme := range []string{"light", "dark"} {
		out[scheme] = map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z]+):#([0-9a-f]{6})`).FindAllStringSubmatch(blocks[i][1], -1) {
			out[scheme][m[1]] = m[2]
		}
	}
	return out
}

// contrast is the ratio of two colours, by WCAG 2.2.
func contrast(a, b string) float64 {
	luminance := func(hex string) (l float64) {
		var rgb [3]int
		_, _ = fmt.Sscanf(hex, "%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2])
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			c := float64(rgb[i]) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			l += weight * c
		}
		return l
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestColoursOfOurPagesKeepTheContrastOfWCAGAA(t *testing.T) {
	for scheme, c := range palettes(t) {
		for _, pair := range []struct {
			text, on string
			least    float64
		}{
			{"fg", "bg", 4.5}, {"fg", "box", 4.5}, {"dim", "bg", 4.5}, {"dim", "box", 4.5}, {"link", "bg", 4.5}, {"link", "box", 4.5},
			{"good", "bg", 4.5}, {"good", "box", 4.5}, {"bad", "bg", 4.5}, {"bad", "box", 4.5}, {"bg", "link", 4.5}, {"edge", "bg", 3}, {"edge", "box", 3},
		} {
			if got := contrast(c[pair.text], c[pair.on]); got < pair.least || c[pair.text] == "" || c[pair.on] == "" {
				t.Errorf("%s: %s on %s is %.2f to 1, want %.1f", scheme, pair.text, pair.on, got, pair.least)
			}
		}
	}
}

// ownPages is each page of ours as a world with one site of odd names shows it.
func ownPages(t *testing.T) map[string]reply {
	w, root, name := siteWorld(t)
	out := map[string]reply{}
	for what, url := range map[string]string{
		"landing": "http://localhost:8080/",
		"site":    "http://localhost:8080/-/site/" + name,
		"listing": "http://blog.localhost:8080/plain/",
		"failure": "http://blog.localhost:8080/plain/nothing",
	} {
		out[what] = w.get(url, "Accept", "text/html")
	}
	if s := out["site"]; s.StatusCode != 200 || !strings.Contains(s.body, root.String()) {
		t.Fatalf("the site's page: %d %s", s.StatusCode, s.body)
	}
	return out
}

func TestOurPagesAskForNothingRunNothingAndAreWellFormed(t *testing.T) {
	for what, r := range ownPages(t) {
		r.wantHeader(t, "Content-Type", "text/html; charset=utf-8")
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'sha256-") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", what, csp)
		}
		doc, err := html.Parse(strings.NewReader(r.body))
		must(t, err)
		titles, headings, ids := 0, 0, map[string]bool{}
		for n := range doc.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			switch n.Data {
			case "script", "img", "iframe", "object", "embed", "video", "audio", "base", "svg":
				t.Errorf("%s: holds <%s>", what, n.Data)
			case "title":
				titles++
			case "h1":
				headings++
			}
			for _, a := range n.Attr {
				switch {
				case strings.HasPrefix(a.Key, "on"), a.Key == "style":
					t.Errorf("%s: <%s %s>", what, n.Data, a.Key)
				case a.Key == "src", n.Data == "link" && a.Key == "href" && a.Val != "data:,":
					t.Errorf("%s: <%s> asks for %q", what, n.Data, a.Val)
				case a.Key == "id":
					ids[a.Val] = true
				case a.Key == "href" && strings.HasPrefix(strings.ToLower(a.Val), "javascript:"), a.Val == "#ZgotmplZ":
					t.Errorf("%s: <%s %s=%q>", what, n.Data, a.Key, a.Val)
				}
			}
		}
		if titles != 1 || headings != 1 || !strings.Contains(r.body, `<html lang="en">`) {
			t.Errorf("%s: %d titles and %d headings of the first order, want one each, and a language", what, titles, headings)
		}
		for _, m := range regexp.MustCompile(`<label for="([^"]*)"`).FindAllStringSubmatch(r.body, -1) {
			if !ids[m[1]] {
				t.Errorf("%s: a label for %q, which is not there", what, m[1])
			}
		}
	}
}

func TestOurPagesAreNotForScriptsAndFramesOfOtherOrigins(t *testing.T) {
	w, _, name := siteWorld(t)
	for _, path := range []string{"/", "/-/open?address=blog", "/-/site/" + name} {
		for _, site := range []string{"cross-site", "same-site"} {
			for _, mode := range []string{"no-cors", "cors"} {
				r := w.get("http://localhost:8080"+path, "Sec-Fetch-Site", site, "Sec-Fetch-Mode", mode, "Origin", "http://evil.localhost:8080")
				r.want(t, 403, "")
				r.wantHeader(t, "Access-Control-Allow-Origin", "")
			}
			if r := w.get("http://localhost:8080"+path, "Sec-Fetch-Site", site, "Sec-Fetch-Mode", "navigate"); r.StatusCode >= 400 {
				t.Errorf("%s: a link from elsewhere gets %d", path, r.StatusCode)
			}
		}
		r := w.do(http.MethodOptions, "http://localhost:8080"+path, "Origin", "http://evil.localhost:8080", "Access-Control-Request-Method", "GET")
		r.wantHeader(t, "Access-Control-Allow-Origin", "")
		if strings.Contains(w.get("http://blog.localhost:8080"+path).body, "What this node knows") {
			t.Errorf("%s is a page of ours on a site's origin", path)
		}
	}
	r := w.get("http://localhost:8080/-/site/" + name)
	r.wantHeader(t, "Cross-Origin-Resource-Policy", "same-origin")
	r.wantHeader(t, "Cache-Control", "no-store")
}

func TestTrustlessHostHasNoPagesOfOurs(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Hosts = map[string]HostConfig{"gw.example": {TrustlessOnly: true}} })
	name := w.publish("blog", w.build(blog))
	for _, path := range []string{"/", "/-/open?address=blog", "/-/site/" + name.String()} {
		w.get("http://gw.example"+path).want(t, 404, "")
	}
}

func TestLandingPageSaysTitleAgeSizeAndCopies(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(map[string]string{"index.html": "<!doctype html><title> My\n  &lt;b&gt; &amp; blog\u202e</title><h1>x"})
	name := w.publish("blog", root)
	w.sites.list[0] = Site{Alias: "blog", Name: name, Root: root, Published: time.Now().Add(-50 * time.Hour), Bytes: 2_500_000, Proved: 2, Wanted: 3}
	r := w.get("http://localhost:8080/")
	for _, s := range []string{"My &lt;b&gt; &amp; blog</a>", "2 days ago", "2.5 MB", "2 of 3 copies proved", "/-/site/" + name.String()} {
		if !strings.Contains(r.body, s) {
			t.Errorf("%q is not on the page: %s", s, r.body[strings.Index(r.body, "<main"):])
		}
	}
}

func TestTitleIsOneShortLineOfWhatPrints(t *testing.T) {
	for page, want := range map[string]string{
		"<title>a</title>": "a",
		"<TITLE lang=x>\n a \t b\u2028c &#x200B;</TITLE>": "a b c",
		"<html><head><meta charset=utf-8><title>é &copy;": "é ©",
		"<body><title>late</title>":                       "",
		"<svg><title>picture</title></svg>":               "",
		"no markup":                                       "",
		"<title></title>":                                 "",
		"<title>" + strings.Repeat("x", 300) + "</title>": strings.Repeat("x", maxTitle-1) + "…",
		"<title>" + strings.Repeat("x", maxTitleRead*2):   strings.Repeat("x", maxTitle-1) + "…",
	} {
		got, err := titleOf(strings.NewReader(page))
		if err != nil || got != want {
			t.Errorf("%.60q: %q, %v; want %q", page, got, err, want)
		}
	}
}

func FuzzTitle(f *testing.F) {
	f.Add("<title>a &amp; b</title>")
	f.Add("<!--<title>x</title>--><title>\x00\xff\u202e")
	f.Fuzz(func(t *testing.T, page string) {
		got, err := titleOf(strings.NewReader(page))
		if err != nil || len([]rune(got)) > maxTitle || quoteOdd(got) != got {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	f.Add("application/json;q=nan, text/html;q=-1;q=")
	f.Fuzz(func(t *testing.T, accept string) {
		if got := formOf(accept); got != formText && !strings.Contains(strings.ToLower(accept), "html") && !strings.Contains(strings.ToLower(accept), "json") {
			t.Errorf("%q is told as %d", accept, got)
		}
	})
}

func TestEveryKindHasAStatusAHeadingAndAdvice(t *testing.T) {
	for kind, status := range statuses {
		f := Failure{Kind: kind, Status: status}
		if status < 400 || f.heading() == "" || f.advice() == "" && kind != KindUnsupported {
			t.Errorf("%s: %d %q %q", kind, status, f.heading(), f.advice())
		}
	}
}

func TestRetryAfterIsToldInEveryForm(t *testing.T) {
	for accept, holds := range map[string]string{"text/html": "again in 7 s", "": "in 7 s", "application/json": `"kind":"busy"`} {
		rec := &recorded{header: http.Header{"Retry-After": {"7"}}}
		req, err := http.NewRequest(http.MethodGet, "/", nil)
		must(t, err)
		req.Header.Set("Accept", accept)
		writeFailure(rec, req, Failure{Kind: KindBusy, Step: StepRequest, Message: "full"})
		if rec.status != 503 || !strings.Contains(rec.body.String(), holds) || rec.header.Get("Retry-After") != "7" {
			t.Errorf("%q: %d %s", accept, rec.status, rec.body.String())
		}
	}
}

// recorded is an answer that nobody reads.
type recorded struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }

func TestSitesAreListedByWhatTheyAreCalled(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("a", w.build(map[string]string{"index.html": "<title>Zebras</title>"}))
	w.publish("z", w.build(map[string]string{"index.html": "<title>apples</title>"}))
	body := w.get("http://localhost/").body
	if apples, zebras := strings.Index(body, ">apples<"), strings.Index(body, ">Zebras<"); apples < 0 || zebras < apples {
		t.Errorf("apples at %d, zebras at %d: %s", apples, zebras, body)
	}
}
