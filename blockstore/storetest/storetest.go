// Package storetest is what every [blockstore.Store] must hold, whatever it
// keeps its blocks in. An implementation calls [Run] from a test of its own.
package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Options says what the implementation under test is like.
type Options struct {
	// Fresh makes a new, empty store and returns what opens it. Opened again
	// after Close, a persistent store has what it had.
	Fresh func(t *testing.T) (open func() blockstore.Store)
	// Persistent is whether content survives Close.
	Persistent bool
}

// Run runs the suite.
func Run(t *testing.T, o Options) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, blockstore.Store)
	}{
		{"GetReturnsWhatWasPut", getReturnsWhatWasPut},
		{"GetTellsNotFoundFromRefused", getTellsNotFoundFromRefused},
		{"PutCountsOnlyWhatIsNew", putCountsOnlyWhatIsNew},
		{"PutKeepsNoReferenceToTheBytes", putKeepsNoReference},
		{"SizeLimits", sizeLimits},
		{"IdentityCIDsAnswerThemselves", identityCIDs},
		{"OneBlockUnderTwoCodecsIsStoredOnce", twoCodecs},
		{"GetManyKeepsTheOrderAndStopsAtTheFirstError", getMany},
		{"StatKeepsTheOrder", stat},
		{"EnumerateYieldsEveryBlockOnce", enumerate},
		{"EnumerateResumesAtAnyCursor", enumerateResumes},
		{"EnumerateMissesNothingWhileOthersWrite", enumerateWhileWriting},
		{"SessionsHaveOneHolder", sessionsHaveOneHolder},
		{"KeepRefusesWhatIsMissingAndNamesIt", keepRefusesMissing},
		{"KeepRefusesNonsense", keepRefusesNonsense},
		{"OwnersKeepTheSameRootIndependently", twoOwners},
		{"NamesMayBeAnything", oddNames},
		{"UsageCountsSharedBlocksOnce", usage},
		{"CollectFreesExactlyWhatNobodyNeeds", collectExactly},
		{"CollectDryRunFreesNothing", collectDryRun},
		{"CollectSparesWhatAnOpenSessionShields", collectSparesShields},
		{"CollectSparesWhatIsWrittenMeanwhile", collectWhileWriting},
		{"ConcurrentWritersOfTheSameBlocks", concurrentWriters},
		{"EndedContextsStopEverything", cancelled},
		{"AfterCloseEverythingIsErrClosed", closed},
		{"BoxoAdapter", boxoAdapter},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := o.Fresh(t)()
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.run(t, s)
		})
	}
	if o.Persistent {
		t.Run("ReopenedStoreHasEverything", func(t *testing.T) { reopened(t, o.Fresh(t)) })
		t.Run("LeftSessionIsResumedWithItsShield", func(t *testing.T) { resumed(t, o.Fresh(t)) })
	}
}

// Blocks makes n blocks of size bytes, the same for the same seed.
func Blocks(tb testing.TB, seed, n, size int) []blockstore.Block {
	tb.Helper()
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(size), byte(size >> 8), byte(size >> 16)})
	blks := make([]blockstore.Block, n)
	for i := range blks {
		data := make([]byte, size)
		r.Read(data)
		if size >= 4 {
			binary.BigEndian.PutUint32(data, uint32(i))
		}
		blks[i] = Raw(tb, data)
	}
	return blks
}

// Raw is the block of data under codec raw and SHA2-256.
func Raw(tb testing.TB, data []byte) blockstore.Block {
	tb.Helper()
	b, err := blockstore.NewBlock(cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}, data)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// CIDs of the blocks.
func CIDs(blks []blockstore.Block) []cid.Cid {
	cids := make([]cid.Cid, len(blks))
	for i, b := range blks {
		cids[i] = b.Cid()
	}
	return cids
}

// All is Keep's argument for the blocks.
func All(blks ...blockstore.Block) iter.Seq[cid.Cid] { return slices.Values(CIDs(blks)) }

func begin(t *testing.T, s blockstore.Store, id string) blockstore.Session {
	t.Helper()
	sess, err := s.Begin(t.Context(), id)
	if err != nil {
		t.Fatalf("Begin(%q): %v", id, err)
	}
	t.Cleanup(func() { sess.Close() })
	return sess
}

func put(t *testing.T, sess blockstore.Session, blks ...blockstore.Block) blockstore.Added {
	t.Helper()
	a, err := sess.Put(t.Context(), blks...)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	return a
}

// add puts blocks and leaves nothing but them behind: no shield, no owner.
func add(t *testing.T, s blockstore.Store, blks ...blockstore.Block) {
	t.Helper()
	sess := begin(t, s, "")
	put(t, sess, blks...)
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
}

// keep puts blocks and keeps them under the first of them.
func keep(t *testing.T, s blockstore.Store, owner string, blks ...blockstore.Block) {
	t.Helper()
	sess := begin(t, s, "")
	put(t, sess, blks...)
	if err := sess.Keep(t.Context(), owner, blks[0].Cid(), All(blks...)); err != nil {
		t.Fatalf("Keep: %v", err)
	}
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, s blockstore.Store, o blockstore.CollectOptions) blockstore.Collected {
	t.Helper()
	c, err := s.Collect(t.Context(), o)
	if err != nil {
		t.Fatalf("Collect: %v", err)
	}
	return c
}

// has fails the test unless exactly these of all blocks are there, right, and
// told about by every method.
func has(t *testing.T, s blockstore.Store, all []blockstore.Block, present func(i int) bool) {
	t.Helper()
	ctx := t.Context()
	infos, err := s.Stat(ctx, CIDs(all))
	if err != nil {
		t.Fatalf("Stat: %v", err)
	}
	for i, b := range all {
		got, err := s.Get(ctx, b.Cid())
		switch {
		case present(i) && err != nil:
			t.Fatalf("block %d: Get: %v", i, err)
		case present(i) && string(got.RawData()) != string(b.RawData()):
			t.Fatalf("block %d: wrong bytes", i)
		case !present(i) && !errors.Is(err, blockstore.ErrNotFound):
			t.Fatalf("block %d: Get: %v, want not found", i, err)
		}
		want := blockstore.Info{CID: b.Cid(), Present: present(i)}
		if present(i) {
			want.Size = int64(b.Size())
		}
		if infos[i] != want {
			t.Fatalf("block %d: Stat says %+v, want %+v", i, infos[i], want)
		}
	}
}

func always(int) bool { return true }
func never(int) bool  { return false }

// isBlockError fails the test unless err is a BlockError of this kind, and of no other, about c.
func isBlockError(t *testing.T, err, kind error, c cid.Cid) {
	t.Helper()
	var be *blockstore.BlockError
	if !errors.As(err, &be) {
		t.Fatalf("error %v, want a BlockError of kind %v", err, kind)
	}
	if be.CID != c {
		t.Errorf("error %v is about %s, want %s", err, be.CID, c)
	}
	for _, k := range []error{blockstore.ErrNotFound, blockstore.ErrUnavailable, blockstore.ErrCorrupt, blockstore.ErrRefused} {
		if errors.Is(err, k) != (k == kind) {
			t.Errorf("errors.Is(%v, %v) = %v", err, k, k != kind)
		}
	}
}

func listed(ctx context.Context, s blockstore.Store, from blockstore.Cursor) (entries []blockstore.Entry, err error) {
	for e, err := range s.Enumerate(ctx, from) {
		if err != nil {
			return entries, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func name(i int) string { return fmt.Sprint("writer ", i) }
