package blockstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
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
	// CacheBytes bounds the cache of recently read blocks. Zero means 16 MiB.
	CacheBytes int64
}

const (
	defaultCacheBytes = 16 << 20

	// Writes gather in memory in tables of this size, which are then written
	// out; up to maxFlushing of them may wait for that. Larger ones make an
	// import no faster, and the store keeps one or two when it idles.
	memTableSize = 8 << 20
	maxFlushing  = 3

	// Values from this size on are written once, to files of their own, and
	// stay there when the index is compacted.
	separateFrom = 1 << 10
)

// disk is the store in one directory: a pebble database in db/ and the ledger
// (see ledger.go) beside it.
//
// There is no write-ahead log. It would write every block twice; instead the
// barrier flushes what is in memory (see [disk.barrier]). Tables are flushed in
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

	// Whoever commits has the turn, which also guards the fields after it.
	writing  turn
	dirty    bool              // something was applied since the last rotation
	gathered int64             // bytes of it
	flushing []<-chan struct{} // one for each rotation that is not on disk yet, oldest first

	keeping    turn // one Keep or Release at a time; guards changes
	changes    uint64
	collecting turn // one Collect at a time

	// Writers hold sweep for reading from the moment they look whether a block
	// is present until their shield is committed; Collect holds it to begin and
	// while it deletes a batch. So a writer has committed its shield before
	// the marking begins, or its blocks get into fresh before they can be swept.
	sweep   sync.RWMutex
	freshMu sync.Mutex
	fresh   *marked // nil when no collection runs

	damaged sync.Map // multihashes (string) of blocks that were found damaged: Put writes them anew

	sessionsMu sync.Mutex
	sessions   map[string]bool // those that are open
}

// OpenDisk opens the store in dir, making it where it does not exist (unless
// read-only). One process at a time may have it open: ErrLocked.
//
// Every block that is read is hashed and compared with its CID, on every read:
// a store that has gone bad on disk answers ErrCorrupt or ErrUnavailable, never
// with wrong bytes. Put replaces a block that was found so. An index that has lost what was kept makes opening fail with
// ErrCorrupt, and nothing is changed then.
//
// Memory: the cache, at most 32 MiB of blocks that are waiting to be written,
// and little else. When a write fails (a full disk), reading goes on; what
// was put and not acknowledged by Sync is written again until it succeeds or the store is
// closed, and meanwhile Put and Sync fail with the reason.
func OpenDisk(ctx context.Context, dir string, opts DiskOptions) (Store, error) {
	d, err := openDisk(ctx, vfs.Default, dir, opts)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openDisk(ctx context.Context, base vfs.FS, dir string, opts DiskOptions) (_ *disk, err error) {
	if err := ctx.Err(); err != nil {
		return nil, ctx.Err()
	}
	d := &disk{
		log: opts.Log, readOnly: opts.ReadOnly, health: newHealth(),
		writing: newTurn(), keeping: newTurn(), collecting: newTurn(),
		sessions: map[string]bool{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.fs = newGuardFS(base, d.health, d.log)
	if d.dir, err = ownDir(base, dir, opts.ReadOnly); err != nil {
		return nil, fmt.Errorf("open blockstore: %w", err)
	}
	if d.lock, err = pebble.LockDirectory(d.dbDir(), base); err != nil {
		var pe *fs.PathError
		if !errors.As(err, &pe) { // not about the lock file: somebody has it
			err = fmt.Errorf("%w: %w", ErrLocked, err)
		}
		return nil, fmt.Errorf("open blockstore %s: %w", d.dir, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open blockstore %s: %w", d.dir, errors.Join(err, d.lock.Close()))
		}
	}()
	if err := d.audit(opts); err != nil {
		return nil, err
	}
	if d.db, err = d.openPebble(opts, opts.ReadOnly); err != nil {
		return nil, err
	}
	d.changes, err = readChanges(d.db)
	if err == nil {
		_, err = d.health.now()
	}
	if err != nil {
		d.fs.hurry()
		return nil, errors.Join(err, d.db.Close())
	}
	d.fs.opened.Store(true)
	return d, nil
}

// audit looks at the database before anything is changed in it: pebble takes a
// manifest file that ends early as one that was cut off by a crash, and
// deletes the files that it doesn't name.
func (d *disk) audit(opts DiskOptions) (err error) {
	want, err := readLedger(d.fs, d.dir)
	if errors.Is(err, ErrCorrupt) {
		d.log.Warn("blockstore: going without the ledger", "error", err)
		return nil // the next change writes it anew
	}
	if err != nil || want == 0 {
		return err
	}
	db, err := d.openPebble(opts, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	got, err := readChanges(db)
	if err == nil && got < want {
		err = fmt.Errorf("%w: the index has change %d of what is kept, but change %d was made; nothing was changed", ErrCorrupt, got, want)
	}
	return err
}

func readChanges(db *pebble.DB) (uint64, error) {
	v, closer, err := db.Get(keyChanges)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: the number of the last change is %d bytes long", ErrCorrupt, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// ownDir gives the directory one spelling, since pebble tells locks within a
// process apart by their path.
func ownDir(base vfs.FS, dir string, readOnly bool) (string, error) {
	if !readOnly {
		if err := makeDir(base, dir); err != nil {
			return "", err
		}
	} else if _, err := base.Stat(base.PathJoin(dir, "db")); err != nil {
		return "", err
	}
	if base != vfs.Default {
		return dir, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// makeDir makes dir and dir/db such that they survive a power cut.
func makeDir(base vfs.FS, dir string) error {
	db := base.PathJoin(dir, "db")
	if _, err := base.Stat(db); err == nil {
		return nil
	}
	if err := base.MkdirAll(db, 0o700); err != nil {
		return err
	}
	for _, changed := range []string{base.PathDir(dir), dir} {
		if err := syncDir(base, changed); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(base vfs.FS, dir string) error {
	f, err := base.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *disk) dbDir() string { return d.fs.PathJoin(d.dir, "db") }

func (d *disk) openPebble(opts DiskOptions, readOnly bool) (db *pebble.DB, err error) {
	// Pebble checks what it reads, but where a damaged file gets past that it
	// may panic; that is no reason to take the process down.
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("%w: %w", ErrCorrupt, r)
		case error:
			err = r
		default:
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	o := &pebble.Options{
		FS:                          d.fs,
		Lock:                        d.lock,
		ReadOnly:                    readOnly,
		ErrorIfNotExists:            readOnly,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		Logger:                      engineLog{d.log, d.health},
		CacheSize:                   opts.CacheBytes,
		MaxOpenFiles:                500,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 1 << 20, // commit has its own bound, which can be given up
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       1 << 20, // L0 holds keys and small blocks only: it is never the bottleneck
		EventListener:               d.health.listener(d.log),
	}
	if o.CacheSize <= 0 {
		o.CacheSize = defaultCacheBytes
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled:     true,
			MinimumSize: separateFrom,
			// Blocks are read one by one, in the order of no key: values that
			// lie scattered over many files cost nothing, rewriting them would.
			// So compactions never do, and reclaim does.
			MaxBlobReferenceDepth: 1 << 20,
			TargetGarbageRatio:    1,
		}
	}
	db, err = pebble.Open(d.dbDir(), o)
	if pebble.IsCorruptionError(err) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db, err
}

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
	d.fs.hurry()
	return errors.Join(flushed, d.db.Close(), d.lock.Close())
}

// Size implements [Store]: the bytes of all files.
func (d *disk) Size(ctx context.Context) (int64, error) {
	if err := d.enter(ctx); err != nil {
		return 0, err
	}
	defer d.running.leave()
	return int64(d.db.Metrics().DiskSpaceUsage()), nil
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
