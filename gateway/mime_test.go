package gateway

import (
	"mime"
	"strings"
	"testing"
)

func TestFilesHaveTheTypesThatBrowsersWant(t *testing.T) {
	w := newWorld(t, nil)
	want := map[string]string{
		"a.svg": "image/svg+xml", "a.wasm": "application/wasm", "a.mjs": "text/javascript; charset=utf-8", "a.woff2": "font/woff2", "a.avif": "image/avif",
		"a.webp": "image/webp", "a.jsonld": "application/ld+json", "a.webmanifest": "application/manifest+json", "a.md": "text/markdown; charset=utf-8",
		"a.css": "text/css; charset=utf-8", "A.HTML": "text/html; charset=utf-8", "a.txt": "text/plain; charset=utf-8", "a.json": "application/json",
		".well-known/apple-app-site-association": "application/json", ".well-known/security.txt": "text/plain; charset=utf-8", "LICENSE": "text/plain; charset=utf-8",
		"x.unheardof": "text/plain; charset=utf-8",
	}
	files := map[string]string{}
	for name := range want {
		files[name] = "{\"is\": \"content\"}\n"
		if strings.Contains(want[name], "plain") {
			files[name] = "just words"
		}
	}
	root := w.build(files)
	w.publish("types", root)
	for name, want := range want {
		r := w.get("http://types.localhost/" + name)
		r.want(t, 200, "")
		r.wantHeader(t, "Content-Type", want)
		r.wantHeader(t, "X-Content-Type-Options", "nosniff")
		w.get("http://127.0.0.1/ipfs/"+root.String()+"/"+name).wantHeader(t, "Content-Type", want)
	}
	w.get("http://127.0.0.1/ipfs/"+root.String()+"/LICENSE?filename=a.css").wantHeader(t, "Content-Type", "text/css; charset=utf-8")
}

func TestTypesAreWellFormed(t *testing.T) {
	for ext, typ := range mediaTypes {
		if got, _, err := mime.ParseMediaType(typ); err != nil || got != typ || ext != strings.ToLower(ext) || ext[0] != '.' {
			t.Errorf("%s: %s: %v", ext, typ, err)
		}
	}
}

func TestTheSystemsOwnTableOfTypesIsNotAsked(t *testing.T) {
	must(t, mime.AddExtensionType(".holdfast-test", "application/x-of-this-machine"))
	w := newWorld(t, nil)
	w.publish("blog", w.build(map[string]string{"a.holdfast-test": "plain words\n"}))
	w.get("http://blog.localhost/a.holdfast-test").wantHeader(t, "Content-Type", "text/plain; charset=utf-8")
}

func TestAFilenameInALinkMakesNoPageOfASitesText(t *testing.T) {
	w := newWorld(t, nil)
	text := "by anybody <script>alert(1)</script>"
	w.publish("blog", w.build(map[string]string{"index.html": "home", "up/note.txt": text, "up/bare": text, "up/a.html": "page"}))
	for path, want := range map[string]string{
		"/up/note.txt": "text/plain; charset=utf-8", "/up/bare": "text/plain; charset=utf-8", "/up/a.html": "text/html; charset=utf-8", "/up/a": "text/html; charset=utf-8",
	} {
		for _, name := range []string{"x.html", "x.svg", "x.xhtml", "x.js", "x.txt", ""} {
			w.get("http://blog.localhost"+path+"?filename="+name).wantHeader(t, "Content-Type", want)
		}
	}
	// Nor does a slash behind it, which is asked for as if it were a folder.
	r := w.get("http://blog.localhost/up/note.txt/?a=b")
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "/up/note.txt?a=b")
	w.get("http://127.0.0.1/ipns/"+w.sites.list[0].Name.String()+"/up/note.txt/").wantHeader(t, "Content-Type", "text/plain; charset=utf-8")
	w.get("http://127.0.0.1/ipns/"+w.sites.list[0].Name.String()+"/up/note.txt/?filename=").wantHeader(t, "Content-Type", "text/plain; charset=utf-8")

	r = w.get("http://blog.localhost/up/note.txt?filename=x.html&download=true")
	r.wantHeader(t, "Content-Disposition", `attachment; filename="x.html"; filename*=UTF-8''x.html`)
	// What has no name of its own gets one, as the specification says.
	w.get("http://"+resolve(t, w, w.sites.list[0].Root, "up/note.txt").String()+".ipfs.localhost/?filename=x.svg").wantHeader(t, "Content-Type", "image/svg+xml")
}
