package gateway

import (
	"path"
	"strings"
	"testing"
)

func TestEscapedDotsStayWithinTheSite(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	w.publish("blog", root)
	for at, status := range map[string]int{
		"http://blog.localhost/docs%2F..%2Fstyle.css":                              200,
		"http://blog.localhost/docs/%2e%2e/style.css":                              200,
		"http://blog.localhost/docs/%2e/%2e%2E%2fstyle.css":                        200,
		"http://blog.localhost/%2e%2e/style.css":                                   400,
		"http://blog.localhost/docs%2f..%2f..%2fstyle.css":                         400,
		"http://127.0.0.1/ipfs/" + root.String() + "/docs%2f..%2fstyle.css":        200,
		"http://127.0.0.1/ipfs/" + root.String() + "/docs%2f..%2f..%2fstyle.css":   400,
		"http://127.0.0.1/ipfs/" + root.String() + "/%2e%2e/%2e%2e/etc/passwd":     400,
		"http://127.0.0.1/ipfs/%2e%2e/ipfs/" + root.String() + "/style.css":        400,
		"http://127.0.0.1/ipfs/" + root.String() + "/docs/%2e%2e/%2e%2e/style.css": 400,
	} {
		w.get(at).want(t, status, "")
	}
}

func FuzzWithoutDots(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/..", "/a/.", "/a/./", "/a//../b", "/ipfs/x/../y", "/ipfs/x/a/../b", "/ipfs/../x", "/ipns/./x", "/...", "/a/..b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean, ok := withoutDots(s)
		if !ok {
			if clean != s {
				t.Fatalf("%q becomes %q without need", s, clean)
			}
			return
		}
		for seg := range strings.SplitSeq(clean, "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q keeps a dot segment: %q", s, clean)
			}
		}
		if strings.HasPrefix(s, "/") != strings.HasPrefix(clean, "/") {
			t.Fatalf("%q becomes %q", s, clean)
		}
		if !strings.Contains(s, "//") && path.Clean(s) != path.Clean(clean) {
			t.Fatalf("%q becomes %q", s, clean)
		}
		ns, id, _ := splitNamespace(s)
		if gotNS, gotID, _ := splitNamespace(clean); id != "" && id != "." && id != ".." && (gotNS != ns || gotID != id) {
			t.Fatalf("%q leaves its content for %q", s, clean)
		}
	})
}
