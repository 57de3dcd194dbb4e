// Package interop lets other implementations of the formats that Holdfast speaks read what it publishes.
package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/test/program"
	"github.com/holdfast-sites/holdfast/test/world"
)

func TestMain(m *testing.M) { program.Main(m) }

// heliaAnswer is what helia.mjs prints.
type heliaAnswer struct {
	Records []struct {
		Value    string
		Sequence uint64
	}
	Unknown  string
	Blocks   int
	OverHTTP []string
}

func TestHeliaFetchesAPublishedSiteFromAHost(t *testing.T) {
	script := world.NPM(t.Context(), t, "helia.mjs", "@helia/utils", "@helia/block-brokers", "@helia/unixfs", "libp2p")
	w := world.New(t)
	hosts := w.Hosts("author", "alice", "bob")

	// One folder is past the size from which it is a HAMT of many blocks, one file of many chunks.
	files := map[string][]byte{
		"index.html":               []byte("<h1>first light</h1>"),
		"a b & c #1 100%?.html":    []byte("an odd name"),
		"ünïcode/日本語.txt":          []byte("utf-8"),
		".well-known/security.txt": []byte("Contact: nobody"),
		"deep/a/b/c/d/e/leaf.js":   []byte("1"),
		"empty.txt":                {},
		"chunk.bin":                bytes.Repeat([]byte("0123456789abcdef"), 1<<16),
		"big.bin":                  bytes.Repeat([]byte("holdfast "), 400_000),
	}
	for i := range 1200 {
		files[fmt.Sprintf("all/%04d-%s.txt", i, strings.Repeat("n", 190))] = fmt.Appendf(nil, "page %d", i)
	}
	src := w.Folder("site", files)
	p := w.Publish("author", "blog", src, len(hosts))
	w.Forget("author")
	other := w.Publish("stranger", "other", w.Folder("other", map[string][]byte{"index.html": nil}), 0) // nobody here was told of it
	gate := w.Gateway("gate", hosts[1])

	into := w.Home("by-helia")
	in, err := json.Marshal(map[string]any{
		"name": p.Name, "unknown": other.Name, "into": into,
		"routers": []string{hosts[0].Pins, hosts[1].Pins, gate.Gateway},
		"host":    hosts[0].Addrs[0], "gateway": gate.Gateway,
	})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	script.Stdin, script.Stderr = bytes.NewReader(in), &stderr
	out, err := script.Output()
	if err != nil {
		t.Fatalf("helia.mjs: %v\n%s", err, &stderr)
	}
	var got heliaAnswer
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("helia.mjs prints %q: %v", out, err)
	}

	for i, r := range got.Records {
		if r.Value != "/ipfs/"+p.Root || r.Sequence != p.Sequence {
			t.Errorf("router %d says %+v, want root %s with sequence %d", i, r, p.Root, p.Sequence)
		}
	}
	if len(got.Records) != 3 || got.Unknown != "NotFoundError" {
		t.Errorf("%d routers know the name, want 3; of a name that nobody published the first says %s", len(got.Records), got.Unknown)
	}
	if got.Blocks < len(files) || len(got.OverHTTP) != 1 {
		t.Errorf("%d blocks by bitswap, want one a file at least; by HTTP %v, want the empty block", got.Blocks, got.OverHTTP)
	}
	sameTree(t, into, files)
}

// sameTree fails unless dir holds these files, byte for byte, and no other.
func sameTree(t *testing.T, dir string, want map[string][]byte) {
	t.Helper()
	found := 0
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found++
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(p)))
		if err != nil {
			return err
		}
		if expected, ok := want[p]; !ok || !bytes.Equal(b, expected) {
			t.Errorf("%q came as %d bytes that differ from the source's %d", p, len(b), len(expected))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != len(want) {
		t.Errorf("%d files came, want %d", found, len(want))
	}
}
