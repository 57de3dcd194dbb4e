package preflight

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// oddPages are markup at its worst, and what a page links to in it.
var oddPages = []struct{ page, links string }{
	{`<a href=x>`, "x"},
	{`<A HREF='x y'>`, "x y"},
	{`<a title="a>b" href = "x" href=y/>`, "x"},
	{`<a title=a"b href=x>`, "x"},
	{`<a =href=x href=y>`, "y"},
	{`<a/href=x/y/>`, "x/y/"},
	{`<a href>`, ""},
	{`<a href=x`, ""},
	{`<a href="x`, ""},
	{`<a href="x"`, ""},
	{`<a href="a&amp;b&copy;.html">`, "a&b©.html"},
	{`<a href="?a=1&copy=2">`, "?a=1&copy=2"},
	{"<a href='a\r\nb'>", "a\nb"},
	{`</a href=x><b href=y>`, ""},
	{`<div data-x="<a href='no'>"><a href=yes></div>`, "yes"},
	{`<!-- <a href=no> --><a href=yes>`, "yes"},
	{`<!--><a href=yes>`, "yes"},
	{`<!---><a href=yes>-->`, "yes"},
	{`<!-- --!><a href=yes>-->`, "yes"},
	{`<!-- <a href=no>`, ""},
	{`<!DOCTYPE html><a href=yes>`, "yes"},
	{`<![CDATA[<a href=yes>]]>`, ""},
	{`<?php <a href=no> ?><a href=yes>`, "yes"},
	{`</><a href=yes></ <a href=no>`, "yes"},
	{`< a href=no><1 href=no>`, ""},
	{`<script src=s.js>"<a href=no>"</script><a href=yes>`, "s.js yes"},
	{`<script><!-- "<script></script><a href=no>" --></script><a href=yes>`, "yes"},
	{`<script>a</scripty></SCRIPT ><a href=yes>`, "yes"},
	{`<style></styl</style><a href=yes>`, "yes"},
	{`<title><a href=no></title><textarea><a href=no></textarea><a href=yes>`, "yes"},
	{`<noscript><img src=yes></noscript>`, "yes"},
	{`<plaintext></plaintext><a href=no>`, ""},
	{`<iframe src=f><a href=no></iframe>`, "f"},
	{`<img src=a srcset="b 1x, c,d 2x,e" sizes=1>`, "a b c,d e"},
	{`<source srcset=" , a, b,"><link rel=preload imagesrcset="c 1w">`, "a b c"},
	{`<video poster=p src=v><object data=o><div data=no src=no>`, "p v o"},
	{`<form action=f><input formaction=g><button formaction=h><svg><use xlink:href=u>`, "f g h u"},
	{`<meta http-equiv=Refresh content="0; URL='a b'"><meta content="0;url=no">`, "a b"},
	{`<meta http-equiv=refresh content="5"><meta http-equiv=refresh content="5;x"><meta content="1;url = y" http-equiv=refresh>`, "x y"},
	{"<a href='\x00'><a\x00 href=no>", "\ufffd"},
	{"<a href='\xff\xfe'>", "\xff\xfe"},
}

func linksOf(p *page) string {
	var refs []string
	for _, l := range p.links {
		if len(l.ref) > 0 {
			refs = append(refs, string(l.ref))
		}
	}
	return strings.Join(refs, " ")
}

func TestLinksAreFoundAsBrowsersFindThem(t *testing.T) {
	var p page
	for _, o := range oddPages {
		p.scan([]byte(o.page))
		if got := linksOf(&p); got != o.links {
			t.Errorf("%s: %q, want %q", o.page, got, o.links)
		}
		p.scanSlowly([]byte(o.page))
		if got := linksOf(&p); got != o.links {
			t.Errorf("the reference: %s: %q, want %q", o.page, got, o.links)
		}
	}
}

func TestAnyMixOfMarkupIsReadAsTheReferenceReadsIt(t *testing.T) {
	pieces := strings.Split("<|</|>|/>|<!--|-->|--!>|-|!|<!|<?|a|A |href|HREF=|src=|=|'|\"|/| |\n|\r\n|&amp;|&|;|copy|#39;|<a href=x>|</a>|<script|</script|<script>|</script>|<style>|</style |"+
		"<title>|</title>|<noscript>|<textarea>|</textarea>|<plaintext>|srcset=|,|<img |<base |<meta http-equiv=refresh content=|url=|\x00|\xff|é|<p|<xmp>|</xmp>|<iframe src=|</iframe>", "|")
	random := rand.New(rand.NewPCG(1, 2))
	for range 30_000 {
		var b strings.Builder
		for range 1 + random.IntN(20) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		sameAsReference(t, []byte(b.String()))
	}
}

func sameAsReference(t *testing.T, text []byte) {
	t.Helper()
	var quick, slow page
	quick.scan(text)
	slow.scanSlowly(text)
	if a, b := fmt.Sprintf("%v %q", quick.links, quick.base), fmt.Sprintf("%v %q", slow.links, slow.base); a != b {
		t.Errorf("%q:\n got %s\nwant %s", text, a, b)
	}
}

func TestTheFirstBaseCounts(t *testing.T) {
	var p page
	p.scan([]byte(`<base target=_top><base href="/a/"><base href="/b/">`))
	if string(p.base) != "/a/" {
		t.Errorf("%q", p.base)
	}
}

func TestAPageOfNothingButLinksIsBounded(t *testing.T) {
	var p page
	p.scan([]byte(`<img srcset="` + strings.Repeat("x,\n", maxLinks+10) + `">`))
	if len(p.links) != maxLinks {
		t.Errorf("%d links", len(p.links))
	}
}

// FuzzScan compares what is found quickly with what the reference finds.
func FuzzScan(f *testing.F) {
	for _, o := range oddPages {
		f.Add([]byte(o.page))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sameAsReference(t, text)
		var p page
		p.scan(text)
		for _, l := range p.links {
			var r resolver
			r.reset("a/b.html", p.base)
			if target, how := r.resolve(l.ref, l.loads); how == inside || how == toTop {
				if s := "/" + string(target) + "/"; strings.Contains(s, "//") && s != "//" {
					t.Errorf("%q leads to %q", l.ref, target)
				}
			}
		}
	})
}
