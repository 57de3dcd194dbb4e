package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// countedGetter counts what is asked for.
type countedGetter struct {
	blockstore.Getter
	mu    sync.Mutex
	asked map[cid.Cid]int
}

func (g *countedGetter) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	g.mu.Lock()
	g.asked[c]++
	g.mu.Unlock()
	return g.Getter.Get(ctx, c)
}

func TestPathsLeadWhereResolveLeadsAndReadEachFolderOnce(t *testing.T) {
	s := newTestStore()
	files := map[string]string{"a/b/c.txt": "c", "a/d": "", "index.html": "home"}
	for i := range 5000 { // a sharded folder
		files[fmt.Sprintf("many/a-page-with-a-long-name-%d.html", i)] = fmt.Sprint(i)
	}
	root := build(t, s, tree(t, files), BuildOptions{}).Root
	g := &countedGetter{Getter: s, asked: map[cid.Cid]int{}}
	p := NewPaths(g, 64<<20)
	asked := []string{"", "a", "a/b", "/a//b/", "a/b/c.txt", "a/d", "many", "missing", "a/missing", "a/d/below", "many/none.html"}
	for i := range 300 {
		asked = append(asked, fmt.Sprintf("many/a-page-with-a-long-name-%d.html", i*16))
	}
	for _, path := range append(asked, asked...) {
		want, werr := Resolve(t.Context(), s, root, path)
		got, err := p.Walk(t.Context(), root, path)
		if fmt.Sprint(err) != fmt.Sprint(werr) || errors.Is(err, ErrNoPath) != errors.Is(werr, ErrNoPath) {
			t.Fatalf("%q: %v, want %v", path, err, werr)
		}
		if err != nil {
			continue
		}
		got, err = p.Open(t.Context(), got)
		if err != nil {
			t.Fatal(err)
		}
		trail := strings.Split(got.Trail(), ",")
		if !got.CID().Equals(want) || trail[len(trail)-1] != want.String() || trail[0] != root.String() ||
			len(trail) != 1+len(strings.FieldsFunc(path, func(r rune) bool { return r == '/' })) {
			t.Fatalf("%q: %v, want %s", path, trail, want)
		}
	}
	for c, n := range g.asked {
		if leaf := files["a/d"] == "" && c.Prefix().Codec == cid.Raw; n > 1 && !leaf {
			t.Errorf("%s was read %d times", c, n)
		}
	}
	p.Forget()
	if _, err := p.Walk(t.Context(), root, "a/b"); err != nil || g.asked[root] != 2 {
		t.Errorf("after Forget: %v, the root read %d times", err, g.asked[root])
	}
}

func TestPathsRefuseANameThatStandsTwice(t *testing.T) {
	s := newTestStore()
	one, two := s.raw(t, "1"), s.raw(t, "2")
	root := s.folder(t, link{"x", one, 1}, link{"x", two, 1}, link{"y", two, 1})
	p := NewPaths(s, 1<<20)
	for range 2 {
		if _, err := p.Walk(t.Context(), root, "x"); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v, want malformed", err)
		}
		if at, err := p.Walk(t.Context(), root, "y"); err != nil || !at.CID().Equals(two) {
			t.Errorf("%v, %v", at, err)
		}
	}
}

func TestRangesAreWrittenWithNothingReadBehindThem(t *testing.T) {
	s := newTestStore()
	data := make([]byte, 300<<10)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(data)
	built := build(t, s, tree(t, map[string]string{"f": string(data)}), BuildOptions{Profile: V0_2015}) // leaves of 256 KiB
	more := make([]byte, 3<<20)
	rng.Read(more)
	large := build(t, s, tree(t, map[string]string{"f": string(more)}), BuildOptions{Profile: V0_2015})
	for _, c := range []struct {
		root     cid.Cid
		content  []byte
		from, to int64
		most     int // blocks
	}{
		{built.Root, data, 0, int64(len(data)), 3},
		{built.Root, data, 5, 5, 1},
		{large.Root, more, 0, 1, 2},
		{large.Root, more, 256<<10 - 1, 256<<10 + 1, 3},
		{large.Root, more, 1 << 20, 1<<20 + 7, 2},
		{large.Root, more, 0, int64(len(more)), 13},
		{large.Root, more, int64(len(more)) - 1, int64(len(more)), 2},
	} {
		g := &countedGetter{Getter: s, asked: map[cid.Cid]int{}}
		p := NewPaths(s, 1<<20)
		at, err := p.Walk(t.Context(), c.root, "f")
		if err == nil {
			p.get = g
			at, err = p.Open(t.Context(), at)
		}
		if err != nil || !at.IsFile() || at.IsFolder() || at.Size() != int64(len(c.content)) {
			t.Fatalf("%v, %+v", err, at)
		}
		var out bytes.Buffer
		n, err := at.WriteRange(t.Context(), g, &out, c.from, c.to)
		if err != nil || n != c.to-c.from || !bytes.Equal(out.Bytes(), c.content[c.from:c.to]) {
			t.Errorf("%d to %d: %d bytes, %v", c.from, c.to, n, err)
		}
		if len(g.asked) > c.most {
			t.Errorf("%d to %d: %d blocks read, want %d at most", c.from, c.to, len(g.asked), c.most)
		}
		if _, err := at.WriteRange(t.Context(), g, &out, 0, int64(len(c.content))+1); err == nil {
			t.Error("a range beyond the file was written")
		}
	}
}

// atFirst calls f before the first write.
type atFirst struct{ f func() }

func (w *atFirst) Write(p []byte) (int, error) {
	if w.f != nil {
		w.f()
		w.f = nil
	}
	return len(p), nil
}

// TestASeekStartsWithinOneBlock: also where every block comes from far away, and whoever seeks
// wants to have the rest of the file, as players of videos do.
func TestASeekStartsWithinOneBlock(t *testing.T) {
	s := newTestStore()
	film := make([]byte, 6<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(film)
	built := build(t, s, tree(t, map[string]string{"f": string(film)}), BuildOptions{Profile: V0_2015}) // leaves of 256 KiB
	p := NewPaths(s, 1<<20)
	at, err := p.Walk(t.Context(), built.Root, "f")
	if err == nil {
		at, err = p.Open(t.Context(), at)
	}
	if err != nil {
		t.Fatal(err)
	}
	for from, most := range map[int64]int64{0: 3, 3 << 20: 1, 3<<20 + 17: 1, 6<<20 - 1: 1} {
		begun := &atomic.Int64{}
		g := getterFunc(func(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
			begun.Add(1)
			return s.Get(ctx, c)
		})
		var before int64
		if _, err := at.WriteRange(t.Context(), g, &atFirst{func() { before = begun.Load() }}, from, at.Size()); err != nil {
			t.Fatal(err)
		}
		if before < 1 || before > most {
			t.Errorf("from %d on: %d blocks were asked for before the first byte, want %d at most", from, before, most)
		}
	}
}

type getterFunc func(context.Context, cid.Cid) (blockstore.Block, error)

func (f getterFunc) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) { return f(ctx, c) }
