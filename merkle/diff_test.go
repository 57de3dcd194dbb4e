package merkle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

func diff(t *testing.T, s *testStore, a, b cid.Cid) (out []string) {
	t.Helper()
	changes, err := collect(Diff(context.Background(), s, a, b))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.Before.Defined() == (c.Kind == Added) || c.After.Defined() == (c.Kind == Removed) {
			t.Errorf("%+v", c)
		}
		out = append(out, string(c.Kind)[:1]+" "+c.Path)
	}
	return out
}

func TestDiffNamesTheFilesThatDiffer(t *testing.T) {
	s := newTestStore()
	root := func(files map[string]string) cid.Cid { return build(t, s, tree(t, files), BuildOptions{}).Root }
	base := map[string]string{"a": "1", "b/c": "2", "b/d": "3", "z": "4", "was-file": "5", "was-folder/x": "6", "was-folder/y": "7", "gets-empty/x": "8", "was-empty/": ""}
	a := root(base)
	b := root(map[string]string{"a": "1", "b/c": "2 changed", "b/e": "new", "z": "4", "was-file/in": "x", "was-file/too": "x", "was-folder": "now a file", "gets-empty/": "", "was-empty/x": "", "new-empty/": "", "B": "upper"})
	want := []string{
		"a B", "m b/c", "r b/d", "a b/e", "r gets-empty/x", "a gets-empty/", "a new-empty/", "a was-empty/x", "r was-empty/",
		"r was-file", "a was-file/in", "a was-file/too", "r was-folder/x", "r was-folder/y", "a was-folder",
	}
	if got := diff(t, s, a, b); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := diff(t, s, a, a); len(got) != 0 {
		t.Errorf("with itself: %q", got)
	}
}

func TestDiffOfRootsThatAreFiles(t *testing.T) {
	s := newTestStore()
	one, two := s.raw(t, "one"), s.raw(t, "two")
	if got := diff(t, s, one, two); !slices.Equal(got, []string{"m "}) {
		t.Errorf("two files: %q", got)
	}
	if got := diff(t, s, one, s.folder(t, link{"x", two, 1})); !slices.Equal(got, []string{"r ", "a x"}) {
		t.Errorf("file to folder: %q", got)
	}
}

// numbered is a folder of n linked files of which changed differ.
func numbered(t *testing.T, n int, changed ...int) string {
	top, page, other := t.TempDir(), filepath.Join(t.TempDir(), "page"), filepath.Join(t.TempDir(), "other")
	writeFile(t, page, "page")
	writeFile(t, other, "other")
	for i := range n {
		from := page
		if slices.Contains(changed, i) {
			from = other
		}
		if err := os.Link(from, filepath.Join(top, fmt.Sprintf("page-with-a-long-name-%05d.html", i))); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func TestDiffOfShardedFoldersReadsOnlyChangedShards(t *testing.T) {
	s := newTestStore()
	a := build(t, s, numbered(t, 20000), BuildOptions{})
	b := build(t, s, numbered(t, 20000, 7, 19999), BuildOptions{})
	before := s.gets
	got := diff(t, s, a.Root, b.Root)
	if want := []string{"m page-with-a-long-name-00007.html", "m page-with-a-long-name-19999.html"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if reads := s.gets - before; reads > 20 {
		t.Errorf("%d blocks of %d read", reads, a.DAG.Blocks)
	}
}

// largeSite is a folder of 33 000 pages: 300 folders of 60, and one of 15 000
// that is sharded. Page changed of each kind is another one.
func largeSite(t *testing.T, s *testStore, changed int) cid.Cid {
	page, other := s.raw(t, "page"), s.raw(t, "other")
	pages := func(from, n int) (links []link) {
		for i := range n {
			l := link{fmt.Sprintf("page-with-a-long-name-%05d.html", from+i), page, 4}
			if from+i == changed {
				l.to = other
			}
			links = append(links, l)
		}
		return links
	}
	var top []link
	for i := range 300 {
		inner := s.folder(t, link{"deeper", s.folder(t, pages(60*i, 60)...), 1})
		top = append(top, link{fmt.Sprintf("section-%03d", i), inner, 1})
	}
	return s.folder(t, append(top, link{"wide", s.shards(t, pages(18_000, 15_000)), 1})...)
}

func TestDiffOfLargeSitesThatDifferInOneFileReadsAHandfulOfBlocks(t *testing.T) {
	s := newTestStore()
	before := largeSite(t, s, -1)
	for changed, want := range map[int]string{
		7_777:      "m section-129/deeper/page-with-a-long-name-07777.html",
		33_000 - 1: "m wide/page-with-a-long-name-32999.html",
	} {
		after := largeSite(t, s, changed)
		reads := s.gets
		if got := diff(t, s, before, after); !slices.Equal(got, []string{want}) {
			t.Errorf("got %q, want %q", got, want)
		}
		// Both sides of each folder or shard on the way, and of the page itself.
		if reads = s.gets - reads; reads > 10 {
			t.Errorf("%s: %d blocks of %d read", want, reads, len(s.blocks))
		}
	}
}

func TestDiffAcrossTheStepToShards(t *testing.T) {
	s := newTestStore()
	plain := build(t, s, numbered(t, 500), BuildOptions{}).Root
	sharded := build(t, s, numbered(t, 5000, 3), BuildOptions{}).Root
	for _, c := range []struct {
		a, b cid.Cid
		kind string
	}{{plain, sharded, "a"}, {sharded, plain, "r"}} {
		got := diff(t, s, c.a, c.b)
		if len(got) != 1+4500 || got[0] != "m page-with-a-long-name-00003.html" || got[1] != c.kind+" page-with-a-long-name-00500.html" {
			t.Errorf("%d changes, first %q", len(got), got[:min(len(got), 3)])
		}
	}
}

func TestDiffOfRandomShardedFoldersEqualsAComparisonOfNames(t *testing.T) {
	s := newTestStore()
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		var a, b, want []string
		for _, name := range manyNames(1500) {
			switch r.IntN(10) {
			case 0:
				a, want = append(a, name), append(want, "r "+name)
			case 1:
				b, want = append(b, name), append(want, "a "+name)
			default:
				a, b = append(a, name), append(b, name)
			}
		}
		slices.SortFunc(want, func(x, y string) int { return strings.Compare(x[2:], y[2:]) })
		if got := diff(t, s, shardOf(t, s, a...), shardOf(t, s, b...)); !slices.Equal(got, want) {
			t.Fatalf("%d changes, want %d", len(got), len(want))
		}
	}
}

func TestDiffNamesThePathOfAMissingBlock(t *testing.T) {
	s := newTestStore()
	a := s.folder(t, link{"x", s.folder(t, link{"y", s.raw(t, "1"), 1}), 1})
	gone := s.folder(t, link{"y", s.raw(t, "2"), 1})
	b := s.folder(t, link{"x", gone, 1})
	s.errs[gone] = blockstore.ErrNotFound
	_, err := collect(Diff(context.Background(), s, a, b))
	pathErr, ok := errors.AsType[*PathError](err)
	if !ok || pathErr.Path != "x" || !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestDiffOfEndlessTreesStopsWhenLeft(t *testing.T) {
	s := newTestStore()
	a, b := doubling(t, s, 40, s.raw(t, "1")), doubling(t, s, 40, s.raw(t, "2"))
	n := 0
	for _, err := range Diff(context.Background(), s, a, b) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1000 {
			break
		}
	}
}
