package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
)

// openDisk opens the store on any file system. Where it is too full even for that, the
// reserve is given up; the next opening that finds room makes it again.
func openDisk(ctx context.Context, base vfs.FS, dir string, opts DiskOptions) (*disk, error) {
	d, err := openOnce(ctx, base, dir, opts)
	reserve := base.PathJoin(dir, "reserve")
	if errors.Is(err, syscall.ENOSPC) && base.Remove(reserve) == nil {
		d, err = openOnce(ctx, base, dir, opts)
	} else if err == nil && !opts.ReadOnly {
		holdReserve(base, reserve)
	}
	return d, err
}

// reserveBytes is what is given up when the disk is too full to open the
// store: without opening it nothing could be collected.
const reserveBytes = 1 << 20

// holdReserve makes the reserve. Where it can't, there is none.
func holdReserve(base vfs.FS, name string) {
	if _, err := base.Stat(name); err == nil {
		return
	}
	f, err := base.Create(name, "holdfast-reserve")
	if err != nil {
		return
	}
	_, err = f.Write(make([]byte, reserveBytes))
	if errors.Join(err, f.Close()) != nil {
		_ = base.Remove(name)
	}
}

func openOnce(ctx context.Context, base vfs.FS, dir string, opts DiskOptions) (_ *disk, err error) {
	if err := ctx.Err(); err != nil {
		return nil, ctx.Err()
	}
	d := newDisk(base, opts)
	if err := d.lockDir(base, dir, opts); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open blockstore %s: %w", d.dir, errors.Join(err, d.lock.Close()))
		}
	}()
	if err := d.audit(opts); err != nil {
		return nil, err
	}
	return d, d.open(ctx, opts)
}

func newDisk(base vfs.FS, opts DiskOptions) *disk {
	d := &disk{
		log: opts.Log, readOnly: opts.ReadOnly, health: newHealth(),
		collecting: newTurn(), resuming: newTurn(), keeping: newTurn(), settling: newTurn(), writing: newTurn(),
		untold: map[uint32]int64{}, durable: map[uint32]int64{},
		waiting:  waiting{next: map[string]place{}, now: map[string]place{}},
		sessions: map[string]*diskSession{}, origins: newOrigins(),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.fs = newGuardFS(base, d.health, d.log)
	return d
}

// lockDir makes the directory ours.
func (d *disk) lockDir(base vfs.FS, dir string, opts DiskOptions) (err error) {
	if d.dir, err = ownDir(base, dir, opts.ReadOnly); err != nil {
		return fmt.Errorf("open blockstore: %w", err)
	}
	holder := base.PathJoin(d.dir, "holder")
	if d.lock, err = pebble.LockDirectory(d.dir, base); err != nil {
		var pe *fs.PathError
		if !errors.As(err, &pe) { // not about the lock file: somebody has it
			err = fmt.Errorf("%w by %s: %w", ErrLocked, readShort(base, holder), err)
		}
		return fmt.Errorf("open blockstore %s: %w", d.dir, err)
	}
	// Only for people: nothing depends on it.
	if f, err := base.Create(holder, "holdfast-holder"); err == nil {
		name := opts.Holder
		if name == "" {
			name = filepath.Base(os.Args[0])
		}
		fmt.Fprintf(f, "%q (process %d)", name, os.Getpid())
		f.Close()
	}
	return nil
}

// readShort is the beginning of a file, as text for an error.
func readShort(base vfs.FS, name string) string {
	f, err := base.Open(name)
	if err != nil {
		return "somebody"
	}
	defer f.Close()
	b := make([]byte, 256)
	n, _ := f.Read(b)
	if n == 0 {
		return "somebody"
	}
	return strings.ToValidUTF8(string(b[:n]), "?")
}

// audit looks at the index before anything is changed in it: pebble takes a
// manifest file that ends early as one that was cut off by a crash, and
// deletes the files that it doesn't name.
func (d *disk) audit(opts DiskOptions) (err error) {
	d.journal, err = readJournal(d.fs, d.dir)
	if errors.Is(err, ErrCorrupt) {
		d.log.Warn("blockstore: going without the journal", "error", err)
		d.journal = newJournal()
		return nil // it is written anew
	}
	if err != nil || d.journal.changes == 0 {
		return err
	}
	db, err := d.openPebble(opts, true)
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		err = fmt.Errorf("%w: the index is gone: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := readLedger(db)
	if err == nil && l.changes < d.journal.changes {
		err = fmt.Errorf("%w: the index has change %d of what is kept, but change %d was made; nothing was changed", ErrCorrupt, l.changes, d.journal.changes)
	}
	return err
}

// checkJournal writes the journal anew where the index is ahead: a crash or an
// error came between the two, or the journal was damaged.
func (d *disk) checkJournal() error {
	l, err := readLedger(d.db)
	if err != nil || l.changes == d.journal.changes || d.readOnly {
		return err
	}
	j := newJournal()
	j.changes = l.changes
	err = scan(d.db, []byte{kindOwner}, func(rest, _ []byte) error {
		owner, root, ok := cutSized(rest)
		c, err := cid.Cast(root)
		if err != nil || !ok {
			return fmt.Errorf("%w: the index keeps a root under %x", ErrCorrupt, rest)
		}
		j.kept[keptRoot{owner, c}] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.write(d.fs.FS, d.dir); err != nil {
		return err
	}
	d.journal = j
	return nil
}

// ownDir gives the directory one spelling, since pebble tells locks within a
// process apart by their path.
func ownDir(base vfs.FS, dir string, readOnly bool) (string, error) {
	if err := refuseOldFormat(base, dir); err != nil {
		return "", err
	}
	if !readOnly {
		if err := makeDir(base, dir); err != nil {
			return "", err
		}
	} else if _, err := base.Stat(base.PathJoin(dir, "index")); err != nil {
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

// refuseOldFormat knows the layout that no release ever wrote: blocks in the
// index itself. Making an empty store beside it would look like a loss.
func refuseOldFormat(base vfs.FS, dir string) error {
	if _, err := base.Stat(base.PathJoin(dir, "db")); err != nil {
		return nil
	}
	if _, err := base.Stat(base.PathJoin(dir, "index")); err == nil {
		return nil
	}
	return fmt.Errorf("%s was made before the first release, in a format that is no longer read: move it away and publish again, or fetch with the program that made it", dir)
}

// makeDir makes dir and what is in it such that they survive a power cut.
func makeDir(base vfs.FS, dir string) error {
	made := false
	for _, inside := range []string{"segments", "index"} {
		d := base.PathJoin(dir, inside)
		if _, err := base.Stat(d); err == nil {
			continue
		}
		if err := base.MkdirAll(d, 0o700); err != nil {
			return err
		}
		made = true
	}
	if !made {
		return nil
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

func (d *disk) openPebble(opts DiskOptions, readOnly bool) (*pebble.DB, error) {
	type opened struct {
		db  *pebble.DB
		err error
	}
	result := make(chan opened, 1)
	go func() {
		db, err := d.tryPebble(opts, readOnly)
		result <- opened{db, err}
	}()
	select {
	case r := <-result:
		return r.db, r.err
	case <-d.health.ended: // pebble does not come back then, see guardFS.park
		_, err := d.health.now()
		return nil, err
	}
}

func (d *disk) tryPebble(opts DiskOptions, readOnly bool) (db *pebble.DB, err error) {
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
		ReadOnly:                    readOnly,
		ErrorIfNotExists:            readOnly,
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatTableFormatV6, // the first whose tables have a checksum in the footer; there is no way back from a later one
		Logger:                      engineLog{d.log, d.health},
		CacheSize:                   opts.CacheBytes,
		MaxOpenFiles:                500,
		MemTableSize:                memTableSize,
		MemTableStopWritesThreshold: 1 << 20, // commit has its own bound, which can be given up
		L0CompactionThreshold:       24,      // a publish leaves some eight small tables, and should not wait for a compaction each time
		L0StopWritesThreshold:       1 << 20, // it is never the bottleneck
		EventListener:               d.health.listener(d.log),
	}
	if o.CacheSize <= 0 {
		o.CacheSize = defaultCacheBytes
	}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err = pebble.Open(d.indexDir(), o)
	if damagedIndex(err) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db, err
}

// damagedIndex tells whether the index could not be opened because of what is in
// it. Tables that are gone, or of another length, pebble doesn't mark as corruption.
func damagedIndex(err error) bool {
	return pebble.IsCorruptionError(err) || err != nil &&
		(errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "object size mismatch"))
}

// unborn tells whether nothing was ever put into the store: a segment is begun
// only when the index stands.
func (d *disk) unborn() bool {
	if d.readOnly || d.journal.size > 0 {
		return false
	}
	names, err := d.fs.List(d.fs.PathJoin(d.dir, "segments"))
	return err == nil && len(names) == 0
}

// open opens what is in the directory, which is ours.
func (d *disk) open(ctx context.Context, opts DiskOptions) (err error) {
	if d.db, err = d.openPebble(opts, opts.ReadOnly); err != nil && d.unborn() {
		// A crash came while the store was being made.
		if err = d.fs.FS.RemoveAll(d.indexDir()); err == nil {
			err = makeDir(d.fs.FS, d.dir)
		}
		if err == nil {
			d.db, err = d.openPebble(opts, false)
		}
	}
	if err != nil {
		return err
	}
	d.segments, err = openSegments(d.fs.FS, d.fs.PathJoin(d.dir, "segments"), opts.segmentSize(), d.readOnly)
	if err == nil {
		err = errors.Join(d.loadDamage(), d.loadOrigins())
	}
	if err == nil {
		err = d.recover(ctx)
	}
	if err == nil && !d.rebuilding {
		err = d.checkJournal()
	}
	if err == nil {
		_, err = d.health.now()
	}
	if err != nil {
		if d.segments != nil {
			err = errors.Join(err, d.segments.close())
		}
		return errors.Join(err, d.closeIndex())
	}
	d.fs.opened.Store(true)
	return nil
}
