package preflight

import "testing"

func TestReferencesLeadWhereBrowsersGo(t *testing.T) {
	for _, c := range []struct {
		page, base, ref string
		target          string
		how             leads
	}{
		{"a/b.html", "", "c.html", "a/c.html", inside},
		{"a/b.html", "", "./c/../d/?x=1#y", "a/d", inside},
		{"a/b.html", "", "../c.html", "c.html", inside},
		{"a/b.html", "", "..", "", inside},
		{"a/b.html", "", "../../c.html", "c.html", toTop},
		{"a/b.html", "", "/c.html", "c.html", toTop},
		{"a/b.html", "", "/", "", toTop},
		{"a/b.html", "", `\c\d.html`, "c/d.html", toTop},
		{"a/b.html", "", `img\x.png`, "a/img/x.png", inside},
		{"a/b.html", "", "%63%2fd%zz%4", "a/c/d%zz%4", inside},
		{"a/b.html", "", "%2e%2e/c", "c", inside},
		{"a/b.html", "", " c\n.html\t", "a/c.html", inside},
		{"a/b.html", "", "c:d", "", nowhere},
		{"a/b.html", "", "./c:d", "a/c:d", inside},
		{"a/b.html", "", "1:2", "a/1:2", inside},
		{"a/b.html", "", "?q=/c", "", nowhere},
		{"a/b.html", "", "#c", "", nowhere},
		{"a/b.html", "", "", "", nowhere},
		{"a/b.html", "", "//other.example/x", "", nowhere},
		{"a/b.html", "", `\\other.example/x`, "", nowhere},
		{"a/b.html", "", "https://other.example/", "", nowhere},
		{"a/b.html", "", "mailto:a@b", "", nowhere},
		{"a/b.html", "", "javascript:void 0", "", nowhere},
		{"a/b.html", "", "data:,x", "", nowhere},
		{"a/b.html", "", "/ipfs/bafy/x", "", nowhere},
		{"a/b.html", "", "file:///home/me/x.png", "", astray},
		{"a/b.html", "", "http://localhost:1313/x.css", "", astray},
		{"a/b.html", "", "http://127.0.0.1/x.css", "", astray},
		{"a/b.html", "../c/", "d.html", "c/d.html", inside},
		{"a/b.html", "../c", "d.html", "d.html", inside},
		{"a/b.html", "/c/", "d.html", "c/d.html", toTop},
		{"a/b.html", "https://other.example/", "d.html", "", nowhere},
		{"a/b.html", "?x", "d.html", "a/d.html", inside},
	} {
		var r resolver
		r.reset(c.page, []byte(c.base))
		target, how := r.resolve([]byte(c.ref), true)
		if string(target) != c.target || how != c.how {
			t.Errorf("%q from %s (base %q): %q, %d, want %q, %d", c.ref, c.page, c.base, target, how, c.target, c.how)
		}
	}
}

func TestASuggestionLeadsToWhatItIsFor(t *testing.T) {
	for _, c := range []struct {
		page, target string
		isFolder     bool
		want         string
	}{
		{"a/b.html", "a/c.html", false, "c.html"},
		{"a/b.html", "c.html", false, "../c.html"},
		{"a/b/c.html", "a/d/e f#.png", false, "../d/e%20f%23.png"},
		{"b.html", "a", true, "a/"},
		{"a/b.html", "a", true, "../a/"},
		{"a/b.html", "", true, "../"},
		{"b.html", "", true, "./"},
		{"b.html", "c:d", false, "./c:d"},
	} {
		got := relative(c.page, c.target, c.isFolder)
		var r resolver
		r.reset(c.page, nil)
		if back, _ := r.resolve([]byte(got), false); got != c.want || string(back) != c.target {
			t.Errorf("from %s to %s: %q, which leads to %q, want %q", c.page, c.target, got, back, c.want)
		}
	}
}
