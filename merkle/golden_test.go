package merkle

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenTree is one tree of testdata/golden.json, which test/interop/golden.mjs
// makes with an implementation other than ours.
type goldenTree struct {
	Name    string
	Profile Profile
	Root    string
	Large   bool
	Entries []struct {
		Path   string
		Text   *string
		Size   int64
		Count  int
		Folder bool
	}
}

func TestRootsEqualThoseOfAnotherImplementation(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Trees []goldenTree }
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Trees) < 10 {
		t.Fatalf("only %d trees", len(golden.Trees))
	}
	for _, tree := range golden.Trees {
		t.Run(tree.Name, func(t *testing.T) {
			if tree.Large && testing.Short() {
				t.Skip("hashes a gibibyte, which takes seconds")
			}
			top := filepath.Join(t.TempDir(), "top")
			tree.write(t, top)
			store := newTestStore()
			if tree.Large {
				store.forget = true
			}
			built := build(t, store, top, BuildOptions{Profile: tree.Profile})
			if built.Root.String() != tree.Root {
				t.Errorf("root %s, want %s", built.Root, tree.Root)
			}
		})
	}
}

func (tree goldenTree) write(t *testing.T, top string) {
	t.Helper()
	for _, e := range tree.Entries {
		path := filepath.Join(top, filepath.FromSlash(e.Path))
		switch {
		case e.Folder:
			mkdir(t, path)
		case e.Count > 0:
			mkdir(t, path)
			for i := range e.Count {
				page := filepath.Join(path, fmt.Sprintf("page-%05d.html", i))
				if i < 10 {
					writeFile(t, page, fmt.Sprintf("page %d", i))
				} else {
					hardLink(t, filepath.Join(path, fmt.Sprintf("page-%05d.html", i%10)), page)
				}
			}
		case e.Text != nil:
			mkdir(t, filepath.Dir(path))
			writeFile(t, path, *e.Text)
		default:
			mkdir(t, filepath.Dir(path))
			writeNumbered(t, path, e.Size)
		}
	}
}

// hardLink gives a file another name, which is much cheaper than another file.
func hardLink(t *testing.T, old, name string) {
	t.Helper()
	if err := os.Link(old, name); err != nil {
		t.Fatal(err)
	}
}

// sparse makes a file of zeros that takes no room.
func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// writeNumbered makes a file of zeros, sparse, with each MiB's number in its first four bytes.
func writeNumbered(t *testing.T, path string, size int64) {
	t.Helper()
	sparse(t, path, size)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := int64(0); at < size; at += 1 << 20 {
		number := binary.LittleEndian.AppendUint32(nil, uint32(at>>20))
		if _, err := f.WriteAt(number[:min(4, size-at)], at); err != nil {
			t.Fatal(err)
		}
	}
}

// All fourteen vectors that IPIP-499 publishes: https://github.com/ipfs/specs/pull/499
func TestRootsEqualTheVectorsOfTheProfiles(t *testing.T) {
	for _, v := range []struct {
		profile Profile
		name    string
		text    string // in the file; or
		seed    string
		size    int64 // of the file; or
		files   int   // in the folder, with
		names   int   // bytes in each name but
		last    int   // bytes in the last name
		want    string
	}{
		{profile: V0_2015, name: "at-chunk", seed: "chunk-v0-seed", size: 262144, want: "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE"},
		{profile: V0_2015, name: "over-chunk", seed: "chunk-v0-seed", size: 262145, want: "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"},
		{profile: V0_2015, name: "at-links", seed: "v0-seed", size: 45613056, want: "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2"},
		{profile: V0_2015, name: "over-links", seed: "v0-seed", size: 45613057, want: "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW"},
		{profile: V0_2015, name: "dir-basic", seed: "hamt-unixfs-v0-2015", files: 4096, names: 30, last: 30, want: "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN"},
		{profile: V0_2015, name: "dir-hamt", seed: "hamt-unixfs-v0-2015", files: 4033, names: 31, last: 31, want: "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP"},
		{profile: V1_2025, name: "at-chunk", seed: "chunk-v1-seed", size: 1048576, want: "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"},
		{profile: V1_2025, name: "over-chunk", seed: "chunk-v1-seed", size: 1048577, want: "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"},
		{profile: V1_2025, name: "at-links", seed: "v1-2025-seed", size: 1 << 30, want: "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"},
		{profile: V1_2025, name: "over-links", seed: "v1-2025-seed", size: 1<<30 + 1, want: "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"},
		{profile: V1_2025, name: "dir-basic", seed: "hamt-unixfs-v1-2025", files: 4766, names: 11, last: 21, want: "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4"},
		{profile: V1_2025, name: "dir-hamt", seed: "hamt-unixfs-v1-2025", files: 4766, names: 11, last: 22, want: "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu"},
		{profile: V0_2015, name: "small", text: "hello world", want: "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"},
		{profile: V1_2025, name: "small", text: "hello world", want: "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"},
	} {
		t.Run(string(v.profile)+"/"+v.name, func(t *testing.T) {
			if v.size > 100<<20 && testing.Short() {
				t.Skip("hashes a gibibyte, which takes seconds")
			}
			if v.text != "" {
				if got := rootOfStream(t, strings.NewReader(v.text), int64(len(v.text)), v.profile); got != v.want {
					t.Errorf("root %s, want %s", got, v.want)
				}
				return
			}
			stream := keystream(v.seed)
			if v.size > 0 {
				if got := rootOfStream(t, stream, v.size, v.profile); got != v.want {
					t.Errorf("root %s, want %s", got, v.want)
				}
				return
			}
			const alphabet = "abcdefghijklmnopqrstuvwxyz01234567890-_"
			top, x := t.TempDir(), filepath.Join(t.TempDir(), "x")
			writeFile(t, x, "x")
			for i := range v.files {
				name := make([]byte, v.names)
				if i == v.files-1 {
					name = make([]byte, v.last)
				}
				io.ReadFull(stream, name)
				for j, b := range name {
					name[j] = alphabet[int(b)%len(alphabet)]
				}
				hardLink(t, x, filepath.Join(top, string(name)))
			}
			if built := build(t, newTestStore(), top, BuildOptions{Profile: v.profile}); built.Root.String() != v.want {
				t.Errorf("root %s, want %s", built.Root, v.want)
			}
		})
	}
}

// rootOfStream builds a file's DAG without a file, which would have to be written first.
func rootOfStream(t *testing.T, r io.ReaderAt, size int64, p Profile) string {
	t.Helper()
	settings, err := p.settings()
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{profile: settings, rawPrefix: rawPrefix(settings.CidBuilder()), scan: &scanner{}, workers: 2, sink: newSink()}
	b.sink.slabs = newSlabs(16)
	store, written := newTestStore(), make(chan error, 1)
	store.forget = true
	go func() { written <- b.sink.write(context.Background(), store) }()
	build := b.largeFile
	if b.oneLeaf(size) {
		build = b.smallFile
	}
	n, err := build(context.Background(), &packer{sink: b.sink}, r, &entry{stamp: stamp{size: size}})
	b.sink.close()
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	return n.cid.String()
}
