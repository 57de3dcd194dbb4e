package blockstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// health is whether the store can write. A flush that fails is tried again by
// pebble until it succeeds, and the trouble is over then. A failure that pebble
// itself calls fatal (its own manifest could not be written, so that nobody
// knows what is on disk) is for good: the store must be opened anew.
type health struct {
	mu      sync.Mutex
	err     error
	fatal   bool
	changed chan struct{} // closed when err is set
	ended   chan struct{} // closed when fatal is

	// A compaction that fails is tried again; the error is here for who waits
	// for one.
	stumbled chan error

	flushErr error // of the flush that just ended; only the listener uses it
}

func newHealth() *health {
	return &health{changed: make(chan struct{}), ended: make(chan struct{}), stumbled: make(chan error, 1)}
}

// now is a channel that is closed when trouble begins, or the trouble.
func (h *health) now() (trouble <-chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed, h.err
}

func (h *health) fail(err error, fatal bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fatal {
		return
	}
	if h.err == nil {
		close(h.changed)
	}
	if h.fatal = fatal; fatal {
		close(h.ended)
	}
	h.err = fmt.Errorf("blockstore can't write: %w", err)
}

func (h *health) recover() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil && !h.fatal {
		h.err, h.changed = nil, make(chan struct{})
	}
}

func (h *health) isFatal() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fatal
}

// listener learns from pebble's events. Pebble calls it with its own locks
// held: it must not call back.
func (h *health) listener(log *slog.Logger) *pebble.EventListener {
	return &pebble.EventListener{
		FlushEnd: func(i pebble.FlushInfo) {
			// Err is also set when there was nothing to flush; only a flush
			// that failed is followed by a BackgroundError of the same error.
			if h.flushErr = i.Err; i.Err == nil {
				h.recover()
			}
		},
		BackgroundError: func(err error) {
			log.Error("blockstore: background work failed", "error", err.Error()) // pebble's errors print a stack otherwise
			if h.flushErr != nil && errors.Is(err, h.flushErr) {
				h.fail(err, false)
				return
			}
			select {
			case h.stumbled <- err:
			default:
			}
		},
		// The default would end the process.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			log.Error("blockstore: damaged file", "path", i.Path, "error", i.Details)
		},
	}
}

// engineLog is pebble's logger: what it says is for debugging.
type engineLog struct {
	log    *slog.Logger
	health *health
}

func (l engineLog) say(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "blockstore: "+fmt.Sprintf(format, args...))
	}
}

func (l engineLog) Infof(format string, args ...any)  { l.say(slog.LevelDebug, format, args) }
func (l engineLog) Errorf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Fatalf is expected to end the process. Instead nothing is acknowledged, made
// or deleted from here on (see guardFS), so the files stay as a crash would leave
// them, and what can be read can still be read.
func (l engineLog) Fatalf(format string, args ...any) {
	fatal := fatalError{said: fmt.Sprintf(format, args...)}
	for _, a := range args {
		if err, ok := a.(error); ok {
			fatal.cause = err
		}
	}
	l.health.fail(fatal, true)
	l.say(slog.LevelError, format, args)
}

// fatalError is what pebble said, and the error that it said it of.
type fatalError struct {
	said  string
	cause error
}

func (e fatalError) Error() string { return e.said }
func (e fatalError) Unwrap() error { return e.cause }

// guardFS keeps pebble from changing anything once a failure was fatal, and
// from trying again and again without pause while a disk is full.
type guardFS struct {
	vfs.FS
	health  *health
	log     *slog.Logger
	failed  atomic.Bool
	opened  atomic.Bool
	hurried chan struct{}
	once    sync.Once
}

func newGuardFS(base vfs.FS, h *health, log *slog.Logger) *guardFS {
	return &guardFS{FS: base, health: h, log: log, hurried: make(chan struct{})}
}

// hurry ends all pauses, for Close.
func (g *guardFS) hurry() { g.once.Do(func() { close(g.hurried) }) }

// stopped is why nothing changes any more.
func (g *guardFS) stopped() error {
	_, err := g.health.now()
	return err
}

const retryPause = 200 * time.Millisecond

// mayMake comes before every file that is made. After a fatal failure pebble's
// idea of what is on disk can't be trusted, so whatever it wants to do in the
// background then waits for ever; neither opening nor closing waits for that (see
// disk.openPebble and disk.closeIndex). Where closing had begun before the failure,
// pebble gets the error, so that it comes to an end if it can.
func (g *guardFS) mayMake() error {
	if g.health.isFatal() {
		if g.opened.Load() {
			<-g.hurried
		}
		return g.park(g.stopped())
	}
	_, err := g.health.now()
	if err != nil || g.failed.Swap(false) {
		select {
		case <-g.hurried:
		case <-time.After(retryPause):
		}
	}
	return nil
}

func (g *guardFS) made(name string, f vfs.File, err error) (vfs.File, error) {
	switch {
	case err != nil && partOfManifest(name):
		return nil, g.park(err)
	case err != nil:
		g.failed.Store(true)
		return nil, err
	case strings.Contains(name, "MANIFEST-"):
		return &manifestFile{File: f, g: g, dir: g.PathDir(name)}, nil
	default:
		return f, nil
	}
}

func (g *guardFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.mayMake(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, cat)
	return g.made(name, f, err)
}

func (g *guardFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := g.mayMake(); err != nil {
		return nil, err
	}
	f, err := g.FS.OpenReadWrite(name, cat, opts...)
	return g.made(name, f, err)
}

func (g *guardFS) ReuseForWrite(from, to string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.mayMake(); err != nil {
		return nil, err
	}
	f, err := g.FS.ReuseForWrite(from, to, cat)
	return g.made(to, f, err)
}

func (g *guardFS) Link(from, to string) error {
	if g.health.isFatal() {
		return g.stopped()
	}
	return g.FS.Link(from, to)
}

func (g *guardFS) Rename(from, to string) error {
	if g.health.isFatal() {
		return g.stopped()
	}
	return g.FS.Rename(from, to)
}

func (g *guardFS) MkdirAll(dir string, perm os.FileMode) error {
	if g.health.isFatal() {
		return g.stopped()
	}
	return g.FS.MkdirAll(dir, perm)
}

func (g *guardFS) Remove(name string) error {
	if g.health.isFatal() {
		return nil // it may be needed after all
	}
	return g.FS.Remove(name)
}

func (g *guardFS) RemoveAll(name string) error {
	if g.health.isFatal() {
		return nil
	}
	return g.FS.RemoveAll(name)
}

// manifestFile must not name files that may not be there after a power cut.
type manifestFile struct {
	vfs.File
	g     *guardFS
	dir   string
	named bool // its own name is on stable storage
}

func (f *manifestFile) Write(p []byte) (int, error) {
	if f.g.health.isFatal() {
		return 0, f.g.park(f.g.stopped())
	}
	n, err := f.File.Write(p)
	return n, f.g.park(err)
}

// Sync makes the name durable, too, before pebble moves its marker to it: pebble syncs
// both names together, and of these a power cut may leave the marker alone.
func (f *manifestFile) Sync() error {
	err := f.File.Sync()
	if err == nil && !f.named {
		err = syncDir(f.g.FS, f.dir)
		f.named = err == nil
	}
	return f.g.park(err)
}

// park is for a change of pebble's manifest that fails while the index is being
// opened. Pebble expects that to end the process; left alive, it tries again without
// pause and never returns. So the goroutine that wanted the change never does, and
// whoever opens learns of it by health (see disk.openPebble).
func (g *guardFS) park(err error) error {
	if err == nil || g.opened.Load() {
		return err
	}
	g.health.fail(fatalError{said: "the index's manifest: " + err.Error(), cause: err}, true)
	select {}
}

// partOfManifest tells whether a file is made in the course of such a change.
func partOfManifest(name string) bool {
	return strings.Contains(name, "MANIFEST-") || strings.Contains(name, "marker.manifest")
}

// Lock implements vfs.FS. The whole store is locked; were the index locked by
// pebble too, only closing it could let go of that (see disk.closeIndex).
func (g *guardFS) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// OpenDir implements vfs.FS.
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return guardedDir{f, g.health}, err
}

// guardedDir hides from pebble that a directory could not be synced: it would
// panic. Nothing is acknowledged from then on.
type guardedDir struct {
	vfs.File
	health *health
}

func (d guardedDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.health.fail(err, true)
	}
	return nil
}

// Unwrap implements vfs.FS.
func (g *guardFS) Unwrap() vfs.FS { return g.FS }
