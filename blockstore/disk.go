package blockstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrLocked says that somebody else, in this process or another one, has
	// the store's directory open.
	ErrLocked = errors.New("blockstore is in use")
	// ErrReadOnly says that the store was opened for reading only.
	ErrReadOnly = errors.New("blockstore is read-only")
)

// DiskOptions steers OpenDisk. The zero value is right for most.
type DiskOptions struct {
	// ReadOnly opens for inspection: nothing on disk changes but the lock
	// file, and whatever would write fails with ErrReadOnly.
	ReadOnly bool
	// Log receives what the storage engine has to say. Nil means nobody does.
	Log *slog.Logger
	// Holder is how a second opener is told who has the store open. Empty means
	// the program's name.
	Holder string
	// CacheBytes bounds the cache of the index. Zero means 32 MiB. Blocks are
	// cached by the operating system.
	CacheBytes int64

	segmentBytes int64 // segments' size, for tests; 0: segmentSize
}

func (o DiskOptions) segmentSize() int64 {
	if o.segmentBytes > 0 {
		return o.segmentBytes
	}
	return segmentSize
}

const (
	defaultCacheBytes = 32 << 20

	// Changes to the index gather in memory in tables of this size, which are then
	// written out; up to maxFlushing of them may wait for that.
	memTableSize = 4 << 20
	maxFlushing  = 3
)

// disk is the store in one directory:
//
//	segments/   the blocks, see segment.go
//	index/      a pebble database: where each block is, and who keeps what, see disk_keys.go
//	kept        the journal of who keeps what, see journal.go
//	reserve     room for opening the store on a full disk
//	LOCK        held by whoever has the store open; holder says who
//
// The index has no write-ahead log: its barrier flushes what is in memory. Tables are flushed in
// the order in which they were written, so that what a crash leaves is always
// a prefix of the commits: whoever commits B after A never finds B without A.
type disk struct {
	dir      string
	db       *pebble.DB
	fs       *guardFS
	lock     *pebble.Lock
	log      *slog.Logger
	readOnly bool
	running  running
	health   *health
	segments *segments

	rebuilding bool // the index is empty, and what is kept not restored yet

	// Turns that one call has at a time. Where several are needed, they are taken in this order.
	collecting turn
	resuming   turn // nobody takes up a session whose shields are being dropped
	keeping    turn // guards journal
	settling   turn
	writing    turn // guards the fields below and the writer's of segments

	dirty    bool              // something was applied since the last rotation
	gathered int64             // bytes of it
	flushing []<-chan struct{} // one for each rotation that is not on disk yet, oldest first
	untold   map[uint32]int64  // lengths of segments on stable storage that the index was not told yet
	healed   []Damage          // of which a good copy waits

	waitingMu  sync.RWMutex
	waiting    waiting
	durable    map[uint32]int64 // length of each segment as the index knows it; guarded by waitingMu
	told       atomic.Uint64    // settlings that the index was told of
	losses     atomic.Uint64    // settlings that lost blocks; counted by whoever has the writing turn
	background sync.Mutex       // held while a settling runs in the background

	journal journal

	originsMu sync.RWMutex
	origins   origins // changed by whoever has the writing turn, too

	// Writers hold sweep for reading from the moment they look whether a block
	// is present until they have told who needs it; Collect holds it to begin and
	// while it deletes a batch. So a writer has told its shield before
	// the marking begins, or its blocks get into fresh before they can be swept.
	sweep   sync.RWMutex
	freshMu sync.Mutex
	fresh   *marked // nil when no collection runs

	damaged sync.Map // multihash (string) -> Damage

	sessionsMu sync.Mutex
	sessions   map[string]*diskSession // those that are open
}

// OpenDisk opens the store in dir, making it where it does not exist (unless
// read-only). One process at a time may have it open: ErrLocked, which says who.
//
// Every block that is read is hashed and compared with its CID, on every read:
// a store that has gone bad on disk answers ErrCorrupt or ErrUnavailable, never
// with wrong bytes. Put replaces a block that was found so. An index that has lost what was kept makes opening fail with
// ErrCorrupt, and nothing is changed then; see [RebuildIndex].
//
// Memory: the cache, the index's tables (12 MiB at most), and some 200 bytes for each block
// that waits to be told to the index, which are at most 128 MiB of blocks. When
// a write fails (a full disk), reading goes on, and Put and Sync fail with the
// reason until writing works again. When what was put could not be synced, the
// sessions that put it fail for good: close them and put it again.
func OpenDisk(ctx context.Context, dir string, opts DiskOptions) (Store, error) {
	d, err := openDisk(ctx, vfs.Default, dir, opts)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// closeIndex ends pebble. After a failure that it calls fatal its own idea of
// its files is wrong, and what it does when it closes relies on that: it is
// left as it stands then, as by a crash, its background work waiting for ever.
func (d *disk) closeIndex() error {
	if d.health.isFatal() {
		return nil
	}
	d.fs.hurry()
	closed := make(chan error, 1)
	go func() { closed <- d.db.Close() }()
	select {
	case err := <-closed:
		return err
	case <-d.health.ended:
		_, err := d.health.now()
		return err
	}
}

func (d *disk) indexDir() string { return d.fs.PathJoin(d.dir, "index") }

// Close implements [Store]. Shields of sessions that are still open stay for
// them to resume.
func (d *disk) Close() error {
	if !d.running.close() {
		return nil
	}
	var flushed error
	if !d.readOnly {
		flushed = d.barrier(context.Background())
	}
	return errors.Join(flushed, d.segments.close(), d.closeIndex(), d.lock.Close())
}

// Size implements [Store]: the bytes of the segments, the index and the journal.
// The reserve is not counted, since it is there to be given up, nor are the few
// bytes of LOCK and holder.
func (d *disk) Size(ctx context.Context) (int64, error) {
	if err := d.enter(ctx); err != nil {
		return 0, err
	}
	defer d.running.leave()
	n := d.segments.total() + int64(d.db.Metrics().DiskSpaceUsage())
	// Not journal.size, which may be changing.
	if info, err := d.fs.Stat(d.fs.PathJoin(d.dir, journalName)); err == nil {
		n += info.Size()
	}
	return n, nil
}

// enter begins a call.
func (d *disk) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return d.running.enter()
}

// enterWrite begins a call that changes something.
func (d *disk) enterWrite(ctx context.Context) error {
	if d.readOnly {
		return ErrReadOnly
	}
	return d.enter(ctx)
}
