package gateway

import (
	"archive/tar"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode/data"
	"github.com/ipfs/go-unixfsnode/data/builder"
)

func TestATarHoldsNothingThatUnpacksElsewhere(t *testing.T) {
	link := func(target string) []byte {
		node, err := builder.BuildUnixFS(func(b *builder.Builder) {
			builder.DataType(b, data.Data_Symlink)
			builder.Data(b, []byte(target))
		})
		must(t, err)
		return pbBlock(t, data.EncodeUnixFSData(node))
	}
	folder, err := builder.BuildUnixFS(func(b *builder.Builder) { builder.DataType(b, data.Data_Directory) })
	must(t, err)
	for _, name := range []string{"../evil", "..", ".", "/etc/evil", "a/../../evil", `..\evil`, "sub/../evil", "a//../../../evil", "\x00", ""} {
		blocks := handful{}
		file, err := blocks.put(cid.Raw, []byte("evil"))
		must(t, err)
		inner, err := blocks.put(cid.DagProtobuf, pbBlock(t, data.EncodeUnixFSData(folder), shardLink(t, name, file)))
		must(t, err)
		root, err := blocks.put(cid.DagProtobuf, pbBlock(t, data.EncodeUnixFSData(folder), shardLink(t, "inner", inner)))
		must(t, err)
		checkTar(t, blocks, root, name)
	}
	for _, target := range []string{"/etc/passwd", "../../evil"} { // a link may say so; what is unpacked behind it may not
		blocks := handful{}
		file, err := blocks.put(cid.Raw, []byte("evil"))
		must(t, err)
		away, err := blocks.put(cid.DagProtobuf, link(target))
		must(t, err)
		behind, err := blocks.put(cid.DagProtobuf, pbBlock(t, data.EncodeUnixFSData(folder), shardLink(t, "evil", file)))
		must(t, err)
		root, err := blocks.put(cid.DagProtobuf, pbBlock(t, data.EncodeUnixFSData(folder), shardLink(t, "a", away), shardLink(t, "a", behind)))
		must(t, err)
		checkTar(t, blocks, root, target)
	}
}

func checkTar(t *testing.T, blocks handful, root cid.Cid, why string) {
	t.Helper()
	h, err := New(Config{Blocks: blocks})
	must(t, err)
	w := httptest.NewRecorder()
	serveAborting(h, w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/ipfs/"+root.String()+"?format=tar", nil))
	in := tar.NewReader(w.Body)
	links := map[string]bool{}
	for {
		e, err := in.Next()
		if err != nil {
			return // what is no tar unpacks nowhere
		}
		clean := filepath.ToSlash(filepath.Clean(e.Name))
		if !filepath.IsLocal(e.Name) || clean != root.String() && !strings.HasPrefix(clean, root.String()+"/") {
			t.Errorf("%q: the archive holds %q", why, e.Name)
		}
		for dir := filepath.Dir(clean); dir != "."; dir = filepath.Dir(dir) {
			if links[dir] {
				t.Errorf("%q: the archive has %q behind a link", why, e.Name)
			}
		}
		links[clean] = e.Typeflag == tar.TypeSymlink
	}
}
