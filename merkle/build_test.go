package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// variedSite has a bit of everything that makes blocks: chunked files, equal
// files, empty ones, a sharded folder.
func variedSite(t testing.TB) string {
	files := map[string]string{
		"index.html":     "hello",
		"copy.html":      "hello",
		"empty":          "",
		"void/":          "",
		"a/b/c/deep.txt": "deep",
		"big.bin":        strings.Repeat("0123456789abcdef", 3<<16), // 3 MiB
		"same/big.bin":   strings.Repeat("0123456789abcdef", 3<<16),
	}
	top := tree(t, files)
	many := filepath.Join(top, "many")
	mkdir(t, many)
	page := filepath.Join(t.TempDir(), "page")
	writeFile(t, page, "page")
	for i := range 6000 {
		if err := os.Link(page, filepath.Join(many, fmt.Sprintf("page%04d.html", i))); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func TestSameTreeHasSameRootHoweverManyWorkers(t *testing.T) {
	top := variedSite(t)
	var roots []cid.Cid
	for _, workers := range []int{1, 2, 16} {
		roots = append(roots, build(t, newTestStore(), top, BuildOptions{Workers: workers}).Root)
	}
	if !roots[0].Equals(roots[1]) || !roots[0].Equals(roots[2]) {
		t.Errorf("roots differ: %v", roots)
	}
}

func TestBuildStoresChildrenBeforeParentsAndListsExactlyTheDAG(t *testing.T) {
	store := newTestStore()
	built := build(t, store, variedSite(t), BuildOptions{Workers: 4})

	place := make(map[cid.Cid]int)
	for i, c := range store.order {
		place[c] = i
	}
	listed := make(map[cid.Cid]int)
	for i, c := range built.CIDs {
		if _, twice := listed[c]; twice {
			t.Fatalf("%s is listed twice", c)
		}
		listed[c] = i
	}
	if last := built.CIDs[len(built.CIDs)-1]; !last.Equals(built.Root) {
		t.Errorf("the root is not the last")
	}
	var n Count
	for b, err := range Walk(context.Background(), store, []cid.Cid{built.Root}, WalkOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n.Blocks++
		n.Bytes += int64(b.Size())
		links, err := Links(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if place[l] > place[b.Cid()] {
				t.Errorf("%s was stored before its child %s", b.Cid(), l)
			}
			if listed[l] > listed[b.Cid()] {
				t.Errorf("%s is listed before its child %s", b.Cid(), l)
			}
		}
	}
	if n != built.DAG || int(n.Blocks) != len(built.CIDs) {
		t.Errorf("walked %+v, built says %+v and lists %d", n, built.DAG, len(built.CIDs))
	}
	if built.Added.Blocks != n.Blocks || built.Added.Bytes != n.Bytes {
		t.Errorf("added %+v, the DAG is %+v", built.Added, n)
	}
	if want := int64(6 + 6000); built.Files != want {
		t.Errorf("%d files, want %d", built.Files, want)
	}
	if want := int64(5 + 5 + 4 + 2*3<<20 + 6000*4); built.Bytes != want {
		t.Errorf("%d bytes, want %d", built.Bytes, want)
	}
}

func TestBuildingAgainAddsNothing(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"a": "a", "b/c": "c"})
	build(t, store, top, BuildOptions{})
	if again := build(t, store, top, BuildOptions{}); again.Added != (blockstore.Added{}) {
		t.Errorf("added %+v", again.Added)
	}
}

func TestBuildPutsInFewBatches(t *testing.T) {
	store := newTestStore()
	if built := build(t, store, variedSite(t), BuildOptions{Workers: 2}); store.puts > 4+int(built.Files)/1000 {
		t.Errorf("%d puts for %d files", store.puts, built.Files)
	}
}

func TestBuildFillsARealStoreThatKeepsIt(t *testing.T) {
	ctx := context.Background()
	store := blockstore.NewMemory()
	defer store.Close()
	session, err := store.Begin(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	built := build(t, session, variedSite(t), BuildOptions{})
	if err := session.Keep(ctx, "me", built.Root, slices.Values(built.CIDs)); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(ctx, store, built.Root, WalkOptions{})
	if err != nil || !r.Whole() || r.Count != built.DAG {
		t.Errorf("verify: %+v, %v; built %+v", r.Count, err, built.DAG)
	}
}

func TestProgressEndsAtTheScannedTotals(t *testing.T) {
	var mu sync.Mutex
	var last Progress
	built := build(t, newTestStore(), tree(t, map[string]string{"a": "12", "b/c": "3", "d": strings.Repeat("x", 2<<20)}), BuildOptions{
		Progress: func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			if p.TotalFiles != 3 || p.TotalBytes != 3+2<<20 || p.Files > 3 {
				t.Errorf("progress %+v", p)
			}
			last.Files, last.Bytes = max(last.Files, p.Files), max(last.Bytes, p.Bytes)
		},
	})
	if last.Files != built.Files || last.Bytes != built.Bytes {
		t.Errorf("last %+v, built %+v", last, built)
	}
}

func TestBuildNamesAFileThatChangesWhileItIsRead(t *testing.T) {
	large := strings.Repeat("x", 40<<20)
	for name, c := range map[string]struct {
		change func(t *testing.T, path string)
		large  bool
	}{
		"grows":                  {change: appendTo},
		"grows in mid-read":      {change: appendTo, large: true},
		"shrinks in mid-read":    {change: func(t *testing.T, p string) { os.Truncate(p, 30<<20) }, large: true},
		"disappears":             {change: func(t *testing.T, p string) { os.Remove(p) }},
		"its folder disappears":  {change: func(t *testing.T, p string) { os.RemoveAll(filepath.Dir(p)) }},
		"becomes a FIFO":         {change: func(t *testing.T, p string) { os.Remove(p); syscall.Mkfifo(p, 0o644) }},
		"becomes a link outside": {change: func(t *testing.T, p string) { os.Remove(p); os.Symlink("/etc/hostname", p) }},
		"is replaced": {change: func(t *testing.T, p string) {
			writeFile(t, p+".new", "victim")
			os.Rename(p+".new", p)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			text := "victim"
			if c.large {
				text = large
			}
			top := tree(t, map[string]string{"a-first": "1", "z/victim": text})
			victim := filepath.Join(top, "z", "victim")
			var once sync.Once
			_, err := Build(context.Background(), newTestStore(), top, BuildOptions{
				Workers: 1,
				Progress: func(p Progress) { // called from the worker, between reads
					if !c.large || p.Bytes > 1 {
						once.Do(func() { c.change(t, victim) })
					}
				},
			})
			pathErr, ok := errors.AsType[*PathError](err)
			if !ok || pathErr.Path != "z/victim" || !errors.Is(err, ErrChanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestBuildNamesAFolderThatGoesWhileItIsScanned(t *testing.T) {
	top := tree(t, map[string]string{"a": "a"})
	s := &scanner{root: &entry{name: "top", folder: true, real: top}}
	gone := &entry{name: "gone", parent: s.root, folder: true}
	p := place{rules: newIgnoreRules(), trail: []string{filepath.Join(top, "gone")}}
	err := s.folder(context.Background(), gone, p)
	pathErr, ok := errors.AsType[*PathError](err)
	if !ok || pathErr.Path != "gone" || !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
}

func appendTo(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	f.WriteString("more")
}

func TestBuildNamesEverythingUnpublishableAtOnce(t *testing.T) {
	top := tree(t, map[string]string{
		"fine.html":         "fine",
		"sub/dangling":      "->nowhere",
		"sub/outside":       "->/etc/hostname",
		"sub/up":            "->../../",
		"loop/again":        "->../loop",
		"loop/me":           "->me",
		".git/fifo-ignored": "fine",
	})
	for _, p := range []string{"fifo", ".git/fifo"} {
		if err := syscall.Mkfifo(filepath.Join(top, p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(top, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	writeFile(t, filepath.Join(top, "bad\xff\nname"), "x")
	if err := syscall.Mkfifo(filepath.Join(top, "sub", IgnoreFile), 0o644); err != nil {
		t.Fatal(err)
	}

	store := newTestStore()
	_, err = Build(context.Background(), store, top, BuildOptions{})
	all, ok := errors.AsType[*UnpublishableError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	var paths []string
	for _, p := range all.Paths {
		paths = append(paths, p.Path)
	}
	want := sorted([]string{"bad\xff\nname", "fifo", "loop/again", "loop/me", "sock", "sub/dangling", "sub/outside", "sub/up", "sub/" + IgnoreFile})
	if !slices.Equal(paths, want) {
		t.Errorf("named %q\nwant  %q", paths, want)
	}
	if !strings.Contains(err.Error(), `"bad\xff\nname"`) {
		t.Errorf("the odd name is not quoted: %v", err)
	}
	if store.puts != 0 {
		t.Errorf("%d puts", store.puts)
	}
	if _, err := ScanFolder(context.Background(), top, BuildOptions{}); !errors.As(err, &all) {
		t.Errorf("a scan of it says %v", err)
	}
}

func TestSymbolicLinksInsideTheFolderAreFollowed(t *testing.T) {
	linked := tree(t, map[string]string{
		"real/a.html": "a", "real/sub/b.html": "b",
		"a.html": "->real/a.html", "twin": "->real", "chain": "->twin", "real/sub/back": "->../a.html",
	})
	plain := tree(t, map[string]string{
		"real/a.html": "a", "real/sub/b.html": "b", "real/sub/back": "a",
		"a.html": "a", "twin/a.html": "a", "twin/sub/b.html": "b", "twin/sub/back": "a",
		"chain/a.html": "a", "chain/sub/b.html": "b", "chain/sub/back": "a",
	})
	got, want := build(t, newTestStore(), linked, BuildOptions{}), build(t, newTestStore(), plain, BuildOptions{})
	if !got.Root.Equals(want.Root) || got.Files != want.Files {
		t.Errorf("got %s with %d files, want %s with %d", got.Root, got.Files, want.Root, want.Files)
	}
}

func TestBuildStopsSymbolicLinksThatMultiply(t *testing.T) {
	files := map[string]string{"d00/leaf": "leaf"}
	for i := 1; i < 40; i++ { // 2^39 paths
		files[fmt.Sprintf("d%02d/x", i)] = fmt.Sprintf("->../d%02d", i-1)
		files[fmt.Sprintf("d%02d/y", i)] = fmt.Sprintf("->../d%02d", i-1)
	}
	s := &scanner{maxLinked: 1000}
	if err := s.scan(context.Background(), tree(t, files)); !errors.Is(err, ErrLimit) {
		t.Errorf("got %v", err)
	}
}

func TestALongChainOfLinksIsFollowed(t *testing.T) {
	files := map[string]string{"d00/leaf": "leaf"}
	for i := 1; i < 60; i++ { // the system follows 40 in one path
		files[fmt.Sprintf("d%02d/x", i)] = fmt.Sprintf("->../d%02d", i-1)
	}
	store := newTestStore()
	built := build(t, store, tree(t, files), BuildOptions{})
	if _, err := Resolve(context.Background(), store, built.Root, "d59"+strings.Repeat("/x", 59)+"/leaf"); err != nil {
		t.Error(err)
	}
}

func TestKeptSymbolicLinksAreUnixFSSymlinks(t *testing.T) {
	store := newTestStore()
	top := tree(t, map[string]string{"a": "a", "b": "->a", "c": "->../anywhere", "loop": "->loop"})
	built := build(t, store, top, BuildOptions{Symlinks: SymlinksKeep})
	for name, target := range map[string]string{"b": "a", "c": "../anywhere", "loop": "loop"} {
		c, err := Resolve(context.Background(), store, built.Root, name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := getNode(context.Background(), store, c)
		if err != nil || n.kind != kindSymlink || string(n.data) != target {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	if built.Files != 4 {
		t.Errorf("%d files", built.Files)
	}
}

func TestASingleFileIsItsOwnRootAlsoThroughALink(t *testing.T) {
	top := tree(t, map[string]string{"page": "hello world", "link": "->page"})
	for _, name := range []string{"page", "link"} {
		built := build(t, newTestStore(), filepath.Join(top, name), BuildOptions{})
		if got := built.Root.String(); got != "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e" {
			t.Errorf("%s: root %s", name, got)
		}
		if built.Files != 1 || built.DAG.Blocks != 1 || len(built.CIDs) != 1 {
			t.Errorf("%s: %+v", name, built)
		}
	}
}

func TestBuildRefusesWhatItCannotBuild(t *testing.T) {
	ctx, top := context.Background(), tree(t, map[string]string{"a": "a"})
	if _, err := Build(ctx, newTestStore(), filepath.Join(top, "none"), BuildOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
	if _, err := Build(ctx, newTestStore(), "/dev/null", BuildOptions{}); !errors.As(err, new(*UnpublishableError)) {
		t.Errorf("a device: %v", err)
	}
	if _, err := Build(ctx, newTestStore(), top, BuildOptions{Profile: "unixfs-v9"}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown profile: %v", err)
	}
	if _, err := Build(ctx, newTestStore(), top, BuildOptions{Symlinks: "eat"}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an unknown way with links: %v", err)
	}
	deep := filepath.Join(top, strings.Repeat("d/", DefaultMaxDepth+10))
	mkdir(t, deep)
	if _, err := Build(ctx, newTestStore(), top, BuildOptions{}); !errors.Is(err, ErrLimit) {
		t.Errorf("too deep for a walk: %v", err)
	}
}

func TestTheDeepestTreeThatBuildsCanBeWalked(t *testing.T) {
	top := t.TempDir()
	deep := filepath.Join(top, strings.Repeat("d/", DefaultMaxDepth-1))
	mkdir(t, deep)
	writeFile(t, filepath.Join(deep, "leaf"), "leaf")
	store := newTestStore()
	built := build(t, store, top, BuildOptions{})
	if r, err := Verify(context.Background(), store, built.Root, WalkOptions{}); err != nil || r.Count != built.DAG {
		t.Errorf("%+v, %v", r.Count, err)
	}
}

func TestBuildPassesOnWhatTheStoreSays(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"a": "a"})
	store.putErr = blockstore.ErrUnavailable
	if _, err := Build(context.Background(), store, top, BuildOptions{}); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledBuildStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	top := tree(t, map[string]string{"a": "a", "b": strings.Repeat("b", 8<<20)})
	_, err := Build(ctx, newTestStore(), top, BuildOptions{Progress: func(Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
