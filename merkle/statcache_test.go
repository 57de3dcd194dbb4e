package merkle

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// later is when all that the tests write now is old enough to be believed.
var later = time.Now().Add(time.Hour)

// buildLater builds when the files are old enough to be remembered.
func buildLater(t testing.TB, into blockstore.Session, path string, opts BuildOptions) Built {
	t.Helper()
	b, err := buildAt(context.Background(), into, path, opts, later)
	if err != nil {
		t.Fatal(err)
	}
	if b.CacheErr != nil {
		t.Fatal(b.CacheErr)
	}
	return b
}

// sameAs compares a build that could ask a cache with one that could not.
func sameAs(t *testing.T, got Built, top string, opts BuildOptions) {
	t.Helper()
	opts.Cache = ""
	want := build(t, newTestStore(), top, opts)
	if !got.Root.Equals(want.Root) || got.Files != want.Files || got.Bytes != want.Bytes || got.DAG != want.DAG || len(got.CIDs) != len(want.CIDs) {
		t.Errorf("built %s, %d files, %d bytes, %+v, %d CIDs\nwant  %s, %d files, %d bytes, %+v, %d CIDs",
			got.Root, got.Files, got.Bytes, got.DAG, len(got.CIDs), want.Root, want.Files, want.Bytes, want.DAG, len(want.CIDs))
	}
}

func TestAnUnchangedFolderIsBuiltWithoutReading(t *testing.T) {
	for _, profile := range []Profile{V1_2025, V0_2015} {
		t.Run(string(profile), func(t *testing.T) {
			store, top := newTestStore(), variedSite(t)
			opts := BuildOptions{Profile: profile, Cache: filepath.Join(t.TempDir(), "cache")}
			first := buildLater(t, store, top, opts)
			if first.Read != first.Files {
				t.Errorf("read %d of %d files at first", first.Read, first.Files)
			}
			written, _ := os.Stat(opts.Cache)
			puts := store.puts
			var last Progress
			opts.Progress = func(p Progress) { last = p } // from one goroutine: it is one batch
			opts.Workers = 1
			again := buildLater(t, store, top, opts)
			sameAs(t, again, top, opts)
			if again.Read != 0 || again.Added != (blockstore.Added{}) || store.puts != puts {
				t.Errorf("read %d files, added %+v in %d puts", again.Read, again.Added, store.puts-puts)
			}
			if last.Files != again.Files || last.Bytes != again.Bytes {
				t.Errorf("the last progress is %+v of %d files", last, again.Files)
			}
			if now, err := os.Stat(opts.Cache); err != nil || !os.SameFile(now, written) {
				t.Errorf("the cache was written again, with nothing new to say: %v", err)
			}
		})
	}
}

func TestASingleFileIsRememberedToo(t *testing.T) {
	store, page := newTestStore(), filepath.Join(tree(t, map[string]string{"page": "hello"}), "page")
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	first, again := buildLater(t, store, page, opts), buildLater(t, store, page, opts)
	if again.Read != 0 || !again.Root.Equals(first.Root) || again.Bytes != 5 {
		t.Errorf("%+v", again)
	}
}

func TestRereadTrustsNothingAndRemembersAll(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"a": "a", "b/c": "c"})
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	buildLater(t, store, top, opts)
	reread := opts
	reread.Reread = true
	if b := buildLater(t, store, top, reread); b.Read != 2 {
		t.Errorf("read %d files", b.Read)
	}
	if b := buildLater(t, store, top, opts); b.Read != 0 {
		t.Errorf("read %d files after it", b.Read)
	}
}

// A file that changes right after it was read may still bear the same times.
func TestAFileThatMayHaveChangedUnseenIsReadAgain(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"fresh": "a", "sub/fresh": "b"})
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	build(t, store, top, opts)
	if b := buildLater(t, store, top, opts); b.Read != 2 {
		t.Errorf("%d files read again", b.Read)
	}
	if b := buildLater(t, store, top, opts); b.Read != 0 {
		t.Errorf("%d files read for a third time", b.Read)
	}
}

func TestStampsSettleOnceTheClockHasMovedOn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := now.Add(-clockGrain).UnixNano()
	for _, c := range []struct {
		stamp   stamp
		settled bool
	}{
		{stamp{mtime: at - 1, ctime: at - 1}, true},
		{stamp{mtime: at - 1}, true}, // no ctime there
		{stamp{mtime: at, ctime: at - 1}, false},
		{stamp{mtime: at - 1, ctime: at}, false},
		{stamp{mtime: now.Add(time.Hour).UnixNano(), ctime: at - 1}, false},
	} {
		if c.stamp.settled(now) != c.settled {
			t.Errorf("%+v: settled %v", c.stamp, !c.settled)
		}
	}
}

func TestWhatTheStoreHasLostIsReadAgain(t *testing.T) {
	top := variedSite(t)
	site := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	store := newTestStore()
	whole := buildLater(t, store, top, site)
	for i, lost := range whole.CIDs {
		if i%25 != 0 && i < len(whole.CIDs)-3 { // some of everything
			continue
		}
		delete(store.blocks, lost)
		again := buildLater(t, store, top, site)
		if !again.Root.Equals(whole.Root) || again.DAG != whole.DAG {
			t.Fatalf("without %s: root %s, %+v", lost, again.Root, again.DAG)
		}
		for _, c := range again.CIDs {
			if _, ok := store.blocks[c]; !ok {
				t.Fatalf("without %s: the session lacks %s", lost, c)
			}
		}
	}
	clear(store.blocks)
	if again := buildLater(t, store, top, site); again.Read != whole.Files || again.Added.Blocks != whole.DAG.Blocks {
		t.Errorf("with an empty store: read %d of %d files, added %+v", again.Read, whole.Files, again.Added)
	}
}

func TestABlockOfAnotherSizeIsNotTheOneRemembered(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"a": "a"})
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	buildLater(t, store, top, opts)
	store.forget = true
	for c := range store.blocks {
		store.blocks[c] = blockstore.Block{}
	}
	if b := buildLater(t, store, top, opts); b.Read != 1 {
		t.Errorf("read %d files", b.Read)
	}
}

func TestTheCacheOfAnotherFolderOrProfileIsNotBelieved(t *testing.T) {
	a, b := tree(t, map[string]string{"page": "a"}), tree(t, map[string]string{"page": "b"})
	store, cache := newTestStore(), filepath.Join(t.TempDir(), "cache")
	builds := []struct {
		top  string
		opts BuildOptions
	}{
		{a, BuildOptions{}}, {b, BuildOptions{}}, {b, BuildOptions{Profile: V0_2015}}, {b, BuildOptions{Symlinks: SymlinksKeep}},
	}
	for _, c := range builds {
		c.opts.Cache = cache
		for _, read := range []int64{1, 0} {
			got := buildLater(t, store, c.top, c.opts)
			sameAs(t, got, c.top, c.opts)
			if got.Read != read {
				t.Errorf("%+v: read %d files, want %d", c.opts, got.Read, read)
			}
		}
	}
	named := BuildOptions{Profile: V1_2025, Symlinks: SymlinksKeep, Cache: cache}
	if got := buildLater(t, store, b, named); got.Read != 0 {
		t.Error("the default profile is another one when it is named")
	}
}

func TestABuildThatFailsLeavesTheCache(t *testing.T) {
	store, top := newTestStore(), tree(t, map[string]string{"a": "a", "b": "b"})
	opts := BuildOptions{Cache: filepath.Join(t.TempDir(), "cache")}
	buildLater(t, store, top, opts)
	before, _ := os.ReadFile(opts.Cache)
	writeFile(t, filepath.Join(top, "c"), "c")
	store.putErr = blockstore.ErrUnavailable
	if _, err := buildAt(context.Background(), store, top, opts, later); err == nil {
		t.Fatal("built")
	}
	if after, _ := os.ReadFile(opts.Cache); !bytes.Equal(before, after) {
		t.Error("it was written")
	}
}

func TestACacheThatCannotBeWrittenIsNoFailure(t *testing.T) {
	top := tree(t, map[string]string{"a": "a"})
	built := build(t, newTestStore(), top, BuildOptions{Cache: filepath.Join(t.TempDir(), "none", "cache")})
	if built.CacheErr == nil || built.Files != 1 {
		t.Errorf("%+v", built)
	}
}

func TestNothingIsLeftBesideTheCache(t *testing.T) {
	store, top, dir := newTestStore(), tree(t, map[string]string{"a": "a"}), t.TempDir()
	for i := range 3 {
		writeFile(t, filepath.Join(top, "a"), fmt.Sprint(i))
		buildLater(t, store, top, BuildOptions{Cache: filepath.Join(dir, "cache")})
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v", left)
	}
}

// Whatever happens to a folder between two builds, the second gives what one without a cache gives.
func TestACacheNeverChangesWhatIsBuilt(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			top := tree(t, map[string]string{"a": "a", "d/b": "b", "d/e/c": "c", "x/": "", "large": strings.Repeat("large", 1<<19)})
			store, tick := newTestStore(), int64(0)
			opts := BuildOptions{Symlinks: []SymlinkMode{SymlinksFollow, SymlinksKeep}[seed%2], Cache: filepath.Join(t.TempDir(), "cache")}
			for range 40 {
				for range rng.IntN(3) {
					tick++
					disturb(rng, top, tick)
				}
				if rng.IntN(5) == 0 && len(store.blocks) > 0 {
					for c := range store.blocks {
						delete(store.blocks, c)
						break
					}
				}
				now := later
				if rng.IntN(3) == 0 {
					now = time.Now()
				}
				got, err := buildAt(context.Background(), store, top, opts, now)
				if err != nil {
					t.Fatal(err)
				}
				sameAs(t, got, top, opts)
				if missing := store.lacks(got.CIDs); missing.Defined() {
					t.Fatalf("the session lacks %s", missing)
				}
			}
		})
	}
}

func (s *testStore) lacks(cids []cid.Cid) cid.Cid {
	for _, c := range cids {
		if _, ok := s.blocks[c]; !ok {
			return c
		}
	}
	return cid.Undef
}

// disturb makes, changes, renames or removes something. No two ticks give a
// file the same time, however coarse the clock.
func disturb(rng *rand.Rand, top string, tick int64) {
	names := []string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/c", "x", "x/y", "large", "link"}
	path := filepath.Join(top, names[rng.IntN(len(names))])
	other := filepath.Join(top, names[rng.IntN(len(names))])
	switch rng.IntN(7) {
	case 0, 1, 2:
		os.WriteFile(path, []byte{byte('a' + rng.IntN(3))}, 0o644)
		os.Chtimes(path, time.Time{}, time.Unix(1_000_000_000+tick, 0))
	case 3:
		os.RemoveAll(path)
	case 4:
		os.Rename(path, other)
	case 5:
		os.MkdirAll(path, 0o755)
	case 6:
		link := filepath.Join(top, "link")
		os.RemoveAll(link)
		os.Symlink([]string{"a", "d"}[rng.IntN(2)], link)
		os.WriteFile(filepath.Join(top, "a"), nil, 0o644)
		os.MkdirAll(filepath.Join(top, "d"), 0o755)
		if info, err := os.Stat(link); err != nil || info == nil {
			os.Remove(link)
		}
	}
	if _, err := os.Stat(filepath.Join(top, "link")); err != nil {
		os.Remove(filepath.Join(top, "link")) // it would lead nowhere
	}
}
