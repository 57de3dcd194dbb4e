package conformance

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
)

func (g *gateway) pathDAG(t *testing.T) {
	for _, format := range []string{"json", "cbor"} {
		t.Run(format, func(t *testing.T) {
			g.convert(t, format)
			g.plainCodec(t, format)
			g.nativeDAG(t, format)
		})
	}
	t.Run("html", func(t *testing.T) { g.dagHTML(t) })
	t.Run("mismatch", func(t *testing.T) { g.mismatch(t) })
	t.Run("file", func(t *testing.T) { g.jsonFile(t) })
}

// disposition is how a browser is told to take a format.
func disposition(format string) string {
	if format == "json" {
		return "inline"
	}
	return "attachment"
}

// block is the bytes of a fixture's node.
func (f *fixtures) block(t *testing.T, n node) []byte {
	t.Helper()
	for _, x := range f.all {
		if b, ok := x.dag.blocks[n.cid]; ok {
			return b
		}
	}
	t.Fatalf("no block %s", n.cid)
	return nil
}

// convert asks for UnixFS in another codec, which is the client's to do
// (https://specs.ipfs.tech/ipips/ipip-0524/).
func (g *gateway) convert(t *testing.T, format string) {
	media := "application/vnd.ipld.dag-" + format
	for kind, n := range map[string]node{"file": g.helloPB, "folder": g.listing} {
		id := n.cid.String()
		g.runAll(t, []check{
			{name: kind + " by format", url: "/ipfs/" + id + "?format=dag-" + format, status: 406, has: []string{"?format=raw"}},
			{name: kind + " by Accept", url: "/ipfs/" + id, header: []string{"Accept", media}, status: 406},
			{name: kind + " by Accept among others", url: "/ipfs/" + id, header: []string{"Accept", "foo, " + media + ",bar"}, status: 406},
		})
	}
	asIs := map[string]string{"Content-Type": "~^text/plain"}
	g.runAll(t, []check{
		{name: "no conversion to the plain format", url: "/ipfs/" + g.helloPB.cid.String() + "?format=" + format, status: 200, want: asIs, body: "hello\n"},
		{name: "no conversion to the plain type", url: "/ipfs/" + g.helloPB.cid.String(), header: []string{"Accept", "application/" + format}, status: 200, want: asIs, body: "hello\n"},
	})
}

// plainCodec reads JSON and CBOR that are no DAG formats.
func (g *gateway) plainCodec(t *testing.T, format string) {
	n := g.plain[format]
	id, body, media := n.cid.String(), string(g.block(t, n)), "application/"+format
	want := map[string]string{"Content-Type": "~^" + media, "Content-Disposition": "~" + disposition(format) + `; filename="` + id + `.` + format + `"`}
	g.runAll(t, []check{
		{name: "as it is", url: "/ipfs/" + id, status: 200, want: want, body: body},
		{name: "as it is by format", url: "/ipfs/" + id + "?format=" + format, status: 200, want: want, body: body},
		{name: "as it is by Accept", url: "/ipfs/" + id, header: []string{"Accept", media}, status: 200, want: want, body: body},
		{name: "not read as a DAG format", url: "/ipfs/" + id + "?format=dag-" + format, status: 406},
	})
	g.parts(t, "as it is", "/ipfs/"+id, media, body)
	g.parts(t, "by format", "/ipfs/"+id+"?format="+format, media, body)
	g.parts(t, "by Accept", "/ipfs/"+id, media, body, "Accept", media)
}

// parts asks for one range of a body, and for several.
func (g *gateway) parts(t *testing.T, name, url, media, body string, header ...string) {
	ask := func(r string) []string { return append([]string{"Range", r}, header...) }
	rng := func(from, to int) string { return fmt.Sprintf("bytes %d-%d/%d", from, to, len(body)) }
	g.runAll(t, []check{
		{name: "a range, " + name, url: url, header: ask("bytes=7-9"), status: 206, body: body[7:10], want: map[string]string{"Content-Type": media, "Content-Range": rng(7, 9)}},
		{name: "several ranges, " + name, url: url, header: ask("bytes=7-9,1-3"), status: 206, want: map[string]string{"Content-Type": "~^multipart/byteranges"},
			has: []string{"Content-Type: " + media, "Content-Range: " + rng(7, 9), "Content-Range: " + rng(1, 3), body[7:10], body[1:4]}},
	})
}

// mismatch asks for documents in the codec of the other, which is the client's to make.
func (g *gateway) mismatch(t *testing.T) {
	for have, want := range map[string]string{"json": "cbor", "cbor": "json"} {
		url := "/ipfs/" + g.walked[have].cid.String()
		g.runAll(t, []check{
			{name: have + " by format", url: url + "?format=dag-" + want, status: 406},
			{name: have + " by Accept", url: url, header: []string{"Accept", "application/vnd.ipld.dag-" + want}, status: 406},
		})
	}
}

// jsonFile reads a file that happens to be JSON, and has no name that says so.
func (g *gateway) jsonFile(t *testing.T) {
	url, body, want := "/ipfs/"+g.json.cid.String(), string(g.block(t, g.json)), map[string]string{"Content-Type": "application/json"}
	g.runAll(t, []check{
		{name: "as it is", url: url, status: 200, body: body, want: want},
		{name: "by Accept", url: url, header: []string{"Accept", "application/json"}, status: 200, body: body, want: want},
		{name: "format counts before Accept", url: url + "?format=json", header: []string{"Accept", "application/vnd.ipld.raw"}, status: 200, body: body, want: want},
	})
}

// nativeDAG reads documents with links, and paths through them.
func (g *gateway) nativeDAG(t *testing.T, format string) {
	n := g.walked[format]
	id, body, media := n.cid.String(), string(g.block(t, n)), "application/vnd.ipld.dag-"+format
	url := "/ipfs/" + id
	filed := func(d, name string) map[string]string {
		return map[string]string{"Content-Disposition": "~" + d + `; filename="` + name + `"`, "X-Content-Type-Options": "nosniff"}
	}
	g.runAll(t, []check{
		{name: "the block", url: url, status: 200, body: body, want: map[string]string{"Content-Type": "~^" + media}},
		{name: "the block by format", url: url + "?format=dag-" + format, status: 200, body: body},
		{name: "the block by Accept", url: url, header: []string{"Accept", media}, status: 200, body: body, want: map[string]string{
			"Content-Type": media, "Content-Length": fmt.Sprint(len(body)), "Etag": "~" + id + ".dag-" + format, "Cache-Control": "~" + forever,
			"X-Ipfs-Path": legacy(url), "Ipfs-Uri": "ipfs://" + id, "X-Ipfs-Roots": id, "X-Content-Type-Options": "nosniff", "Content-Disposition": "~" + disposition(format) + `; filename="` + id + `.` + format + `"`}},
		{name: "with the plain type by format", url: url + "?format=" + format, status: 200, body: body, want: map[string]string{"Content-Type": "application/" + format}},
		{name: "with the plain type by Accept", url: url, header: []string{"Accept", "application/" + format}, status: 200, body: body, want: map[string]string{"Content-Type": "application/" + format}},
		{name: "with a name", url: query(url, "filename", "foobar."+format), header: []string{"Accept", media}, want: filed(disposition(format), "foobar."+format)},
		{name: "to download", url: query(url, "filename", "foobar."+format, "download", "true"), header: []string{"Accept", media}, want: filed("attachment", "foobar."+format)},
		{name: "HEAD", url: url, method: http.MethodHead, status: 200, want: map[string]string{"Content-Type": "~^" + media, "Content-Length": fmt.Sprint(len(body))}},
		{name: "HEAD by format", url: url + "?format=dag-" + format, method: http.MethodHead, status: 200,
			want: map[string]string{"Content-Type": media, "Etag": "~" + id + ".dag-" + format, "Content-Length": fmt.Sprint(len(body))}},
		{name: "HEAD, only-if-cached of what is nowhere", url: "/ipfs/" + missingCID, method: http.MethodHead, header: []string{"Cache-Control", "only-if-cached"}, status: 412},
		{name: "a path that ends within the document", url: url + "/foo?format=dag-" + format, status: 501, has: []string{"reading IPLD Kinds other than Links (CBOR Tag 42) is not implemented"}},
		{name: "a path along links", url: url + "/foo/link/bar?format=dag-" + format, status: 200, body: string(g.block(t, g.last[format]))},
		{name: "a link that isn't there", url: url + "/foo/i-do-not-exist", status: 404},
		{name: "by name", url: "/ipns/" + g.keys[format].name, status: 200, body: body},
		{name: "by name and format", url: "/ipns/" + g.keys[format].name + "?format=dag-" + format, status: 200, body: body},
		{name: "by name and Accept", url: "/ipns/" + g.keys[format].name, header: []string{"Accept", media}, status: 200, body: body,
			want: map[string]string{"Content-Type": media, "Etag": `"` + id + `.dag-` + format + `"`, "X-Ipfs-Path": legacy("/ipns/" + g.keys[format].name), "Ipfs-Uri": "ipns://" + g.keys[format].name, "X-Ipfs-Roots": id}},
	})
	g.parts(t, "as it is", url+"/", media, body)
	g.parts(t, "by Accept", url+"/", media, body, "Accept", media)
	g.parts(t, "by the plain type", url+"/", "application/"+format, body, "Accept", "application/"+format)
}

// dagHTML is documents for people.
func (g *gateway) dagHTML(t *testing.T) {
	for _, format := range []string{"json", "cbor"} {
		for path, keep := range map[string]string{
			"/ipfs/" + g.walked[format].cid.String() + "/": "~^$|^public, max-age=604800, stale-while-revalidate=2678400$",
			"/ipns/" + g.keys[format].name + "/":           "~^public, max-age=[1-9][0-9]{0,2}$",
		} {
			html := []string{"Accept", "text/html"}
			tag := g.ask(t, http.MethodGet, path, html...).Header.Get("Etag")
			g.run(t, check{url: path, header: html, status: 200, has: []string{"</html>"},
				want: map[string]string{"Etag": "~DagIndex-", "Content-Type": "~^text/html", "Content-Disposition": "", "Cache-Control": keep}})
			g.run(t, check{url: path, header: append(html, "If-None-Match", tag), status: 304, want: map[string]string{"Cache-Control": keep}})
		}
	}
}

func (g *gateway) pathTAR(t *testing.T) {
	id := g.odd.cid.String()
	want := map[string]string{"Content-Disposition": "~^attachment;", "Etag": `~^W/"` + id + `\.x-tar`, "Content-Type": "~^application/x-tar"}
	holds := func(name, content string) func(*testing.T, answer) {
		return func(t *testing.T, a answer) {
			if files, err := untar(a.body); err != nil || files[name] != content {
				t.Errorf("%s holds %q, want %q; files %v, %v", name, files[name], content, files, err)
			}
		}
	}
	g.runAll(t, []check{
		{name: "a file", url: "/ipfs/" + id + "?format=tar", status: 200, want: want, see: holds(id, oddText)},
		{name: "a file by Accept", url: "/ipfs/" + id, header: []string{"Accept", "application/x-tar"}, status: 200, want: want, see: holds(id, oddText)},
		{name: "a folder", url: "/ipfs/" + g.listing.cid.String() + "?format=tar", status: 200, see: holds(g.listing.cid.String()+"/ą/ę/file-źł.txt", oddText)},
		{name: "with a name", url: query("/ipfs/"+g.listing.cid.String(), "format", "tar", "filename", "testтест.tar"), status: 200,
			want: map[string]string{"Content-Disposition": `~attachment; filename="test____.tar"; filename\*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.tar`}},
		{name: "names that stay inside", url: "/ipfs/" + g.tarIn.cid.String() + "?format=tar", status: 200, see: holds(g.tarIn.cid.String()+"/foobar/file", "a file\n")},
	})
	t.Run("names that lead outside", func(t *testing.T) {
		a := g.ask(t, http.MethodGet, "/ipfs/"+g.tarOut.cid.String()+"?format=tar")
		if !bytes.Contains(a.body, []byte("relative UnixFS paths outside the root are no")) {
			t.Errorf("%s, %d bytes that don't say why", a.Status, len(a.body))
		}
		// The answer had begun; what counts is that nobody takes it for a whole one.
		if files, err := untar(a.body); err == nil {
			t.Errorf("a readable TAR of %d files", len(files))
		}
	})
}

func untar(raw []byte) (map[string]string, error) {
	files := make(map[string]string)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return files, err
		}
		if h.Typeflag == tar.TypeReg {
			files[h.Name] = string(content)
		}
	}
}
