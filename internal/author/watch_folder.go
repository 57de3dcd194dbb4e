package author

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/holdfast-sites/holdfast/merkle"
)

const (
	// awayPoll is how often a folder that has gone is looked for.
	awayPoll = 100 * time.Millisecond
	// awayTold is how long it may be gone before that is told: generators make theirs anew.
	awayTold = 3 * time.Second
	// rootPoll is how often it is checked that the folder is the same as before: the
	// kernel says nothing where a link on the way to it was turned.
	rootPoll = time.Second
	// scanPoll is how often the whole folder is looked at where the kernel can't tell of changes.
	scanPoll = 2 * time.Second
	// scanAnyway is how often where it can: on network and shared file systems
	// it doesn't tell what others changed. The first look after changes that
	// were told of finds these once more, which costs a build that publishes nothing.
	scanAnyway = 5 * time.Minute
	// scanRest is the least time between two looks, as a multiple of what one
	// takes: a large folder may not keep a processor busy.
	scanRest = 10
)

// folderWatch notices that something in a folder has changed, by the kernel's
// events, and by looking where these can't be had. It never misses the last
// change; it may report one too many. All but changed belongs to serve.
type folderWatch struct {
	dir      string
	symlinks merkle.SymlinkMode
	note     func(string)
	told     bool          // that the kernel's events can't be had
	gone     time.Time     // when the folder was first missed; zero while it is there
	missed   bool          // that was told
	changed  chan struct{} // one place: a change not yet taken stands for all

	top    string      // dir without symbolic links
	info   os.FileInfo // of top; nil while the folder is away
	events *fsnotify.Watcher
	add    func(dir string) error // to events; nil: they can't be had
	dirs   map[string]watchedDir  // by real path

	seen    maphash.Hash  // of the scan that runs
	print   uint64        // of the last one
	scanned time.Time     // when it had ended
	took    time.Duration // it
	links   []watchedLink // symbolic links that the scan met
}

// watchedDir is a folder on the disk whose changes count.
type watchedDir struct {
	ignores merkle.Ignores
	// only are the names that count, since links lead to them, where the folder
	// is no part of the tree by itself; nil: all.
	only map[string]bool
}

// watchFolder looks at the folder, and is told of its changes from then on,
// until serve has returned.
func watchFolder(dir string, symlinks merkle.SymlinkMode, note func(string)) (*folderWatch, error) {
	f := &folderWatch{dir: dir, symlinks: symlinks, note: note, changed: make(chan struct{}, 1)}
	if err := f.open(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// open begins anew: nothing that an earlier watch knew counts.
func (f *folderWatch) open() (err error) {
	f.close()
	if f.top, err = filepath.EvalSymlinks(f.dir); err != nil {
		return err
	}
	if f.info, err = os.Stat(f.top); err != nil {
		return err
	}
	if f.events, err = fsnotify.NewWatcher(); err != nil {
		f.giveUp(err)
	} else {
		f.add = f.events.Add
	}
	f.scan()
	return nil
}

func (f *folderWatch) close() {
	if f.events != nil {
		f.events.Close()
	}
	f.events, f.add, f.info, f.dirs = nil, nil, nil, nil
}

// giveUp goes on without the kernel's events.
func (f *folderWatch) giveUp(why error) {
	if f.events != nil {
		f.events.Close()
	}
	f.events, f.add = nil, nil
	if f.told {
		return
	}
	f.told = true
	f.note(fmt.Sprintf("the system can't tell of changes (%v), so the folder is looked at every %s%s", why, scanPoll, advice(why)))
}

// advice is what lets the system tell of changes after all.
func advice(why error) string {
	switch {
	case runtime.GOOS == "linux" && errors.Is(why, syscall.ENOSPC):
		return "; raise the limit with `sysctl fs.inotify.max_user_watches=1048576`, then start again"
	case runtime.GOOS == "linux" && errors.Is(why, syscall.EMFILE):
		return "; raise the limit with `sysctl fs.inotify.max_user_instances=1024`, then start again"
	case errors.Is(why, syscall.EMFILE):
		return "; raise the number of open files with `ulimit -n`, then start again"
	}
	return ""
}

// serve watches until ctx ends.
func (f *folderWatch) serve(ctx context.Context) error {
	defer f.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var events <-chan fsnotify.Event
		var errs <-chan error
		if f.events != nil {
			events, errs = f.events.Events, f.events.Errors
		}
		select {
		case <-ctx.Done():
			return nil
		case ev := <-events:
			f.event(ev)
			if f.info != nil {
				continue // the timer goes on: changes must not put the look off
			}
		case err := <-errs:
			f.lost(err)
			continue
		case <-timer.C:
			f.look()
		}
		timer.Reset(f.nextLook())
	}
}

func (f *folderWatch) nextLook() time.Duration {
	if f.info == nil {
		return awayPoll
	}
	return rootPoll
}

func (f *folderWatch) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// again begins anew, in the belief that something has changed. A folder that
// isn't there is waited for.
func (f *folderWatch) again() {
	if f.open() != nil {
		f.close()
		return
	}
	if f.missed {
		f.note(f.dir + " is back")
	}
	f.gone, f.missed = time.Time{}, false
	f.signal()
}

// miss tells, once, that the folder is gone and doesn't come back at once.
func (f *folderWatch) miss(now time.Time) {
	if f.gone.IsZero() {
		f.gone = now
	}
	if !f.missed && now.Sub(f.gone) >= awayTold {
		f.missed = true
		f.note(f.dir + " is gone; what was made of it last stays, and it is looked at again when it is back")
	}
}

// lost is what the kernel's events are after an error: a full queue, or nobody knows what.
func (f *folderWatch) lost(err error) {
	if err != nil {
		f.again()
	}
}

// look compares the folder with what is known of it, without the kernel's events.
func (f *folderWatch) look() {
	now, err := os.Stat(f.dir)
	if err != nil || f.info == nil || !os.SameFile(now, f.info) {
		if err == nil && now.IsDir() {
			f.again()
		} else {
			if f.info != nil {
				f.close()
			}
			f.miss(time.Now())
		}
		return
	}
	every := scanAnyway
	if f.events == nil {
		every = scanPoll
	}
	if time.Since(f.scanned) < max(every, scanRest*f.took) {
		return
	}
	before := f.print
	if f.scan(); f.print != before {
		f.signal()
	}
}

// event is what the kernel told.
func (f *folderWatch) event(ev fsnotify.Event) {
	if ev.Op == 0 || f.info == nil {
		return
	}
	if ev.Name == f.top {
		if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
			f.close() // the watch has ended, even if the same folder comes back
			f.look()
		}
		return
	}
	_, wasDir := f.dirs[ev.Name]
	if wasDir && ev.Op == fsnotify.Write {
		return // the folder's own watch tells what it is about
	}
	d, known := f.dirs[filepath.Dir(ev.Name)]
	name := filepath.Base(ev.Name)
	switch {
	case !known:
		return // by an earlier name, or of a folder that has gone: whoever moved it was told of
	case name == merkle.IgnoreFile:
		f.again()
		return
	case d.only != nil && !d.only[name]:
		return
	}
	info, err := os.Lstat(ev.Name)
	isDir := err == nil && info.IsDir()
	if d.only == nil && d.ignores.Ignored(name, isDir || wasDir) {
		return
	}
	// By what is there now: of events that follow each other closely the
	// earlier ones are history.
	if wasDir {
		f.forget(ev.Name, ev.Has(fsnotify.Rename))
	}
	if isDir {
		below, _ := d.ignores.Below(name, ev.Name)
		f.walk(ev.Name, below)
	}
	if err == nil && info.Mode().Type() == fs.ModeSymlink && f.symlinks != merkle.SymlinksKeep {
		f.links = append(f.links, watchedLink{at: filepath.Dir(ev.Name), name: name, ignores: d.ignores})
	}
	f.followLinks()
	f.signal()
}

// forget ends the watch of a folder that isn't at its place any more. One that
// was moved took its folders along; of one that was removed these went first.
func (f *folderWatch) forget(at string, moved bool) {
	f.drop(at)
	if !moved {
		return
	}
	for dir := range f.dirs {
		if strings.HasPrefix(dir, at+string(filepath.Separator)) {
			f.drop(dir)
		}
	}
}

func (f *folderWatch) drop(at string) {
	delete(f.dirs, at)
	if f.events != nil {
		_ = f.events.Remove(at) // it may have ended by itself
	}
}
