package author

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/holdfast-sites/holdfast/merkle"
)

// tree is a folder on the disk, and what is done to it. Paths are slash paths in it.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T, files ...string) tree {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{t, filepath.Join(dir, "public")}
	tr.mkdir(".")
	for _, f := range files {
		tr.write(f)
	}
	return tr
}

func (tr tree) path(p string) string { return filepath.Join(tr.dir, filepath.FromSlash(p)) }

func (tr tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr tree) mkdir(p string) { tr.t.Helper(); tr.must(os.MkdirAll(tr.path(p), 0o755)) }

func (tr tree) write(p string, text ...string) {
	tr.t.Helper()
	tr.must(os.MkdirAll(filepath.Dir(tr.path(p)), 0o755))
	tr.must(os.WriteFile(tr.path(p), []byte(strings.Join(append(text, "x"), "\n")), 0o644))
}

func (tr tree) rename(from, to string)   { tr.t.Helper(); tr.must(os.Rename(tr.path(from), tr.path(to))) }
func (tr tree) remove(p string)          { tr.t.Helper(); tr.must(os.RemoveAll(tr.path(p))) }
func (tr tree) symlink(target, p string) { tr.t.Helper(); tr.must(os.Symlink(target, tr.path(p))) }

// stepped is a watch whose events the test hands on itself, so that it knows
// when all that belong to a step have been seen.
type stepped struct {
	tree
	f     *folderWatch
	notes []string
	steps int
}

func (tr tree) watch() *stepped {
	tr.t.Helper()
	w := &stepped{tree: tr}
	f, err := watchFolder(tr.dir, "", func(s string) { w.notes = append(w.notes, s) })
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(f.close)
	w.f = f
	return w
}

// step does something to the folder and tells whether it counted as a change.
// The last event of a step is that of an ignored file.
func (w *stepped) step(do func()) (changed bool) {
	w.t.Helper()
	do()
	w.steps++
	last := w.path(strings.Repeat("z", w.steps) + ".swp")
	if err := os.WriteFile(last, nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	for began := w.f.events; ; {
		select {
		case ev := <-w.f.events.Events:
			w.f.event(ev)
			if ev.Name == last || w.f.events != began { // a watch that begins anew sees none of the old events
				return w.changed()
			}
		case err := <-w.f.events.Errors:
			w.t.Fatal(err)
		case <-time.After(time.Minute):
			w.t.Fatal("no event of ", last)
		}
	}
}

func (w *stepped) changed() bool {
	select {
	case <-w.f.changed:
		return true
	default:
		return false
	}
}

func (w *stepped) want(changed bool, what string, do func()) {
	w.t.Helper()
	if got := w.step(do); got != changed {
		w.t.Errorf("%s: a change is %v", what, got)
	}
}

// watched are the folders that the kernel tells of, as slash paths.
func (w *stepped) watched() (dirs []string) {
	for _, p := range w.f.events.WatchList() {
		rel, err := filepath.Rel(w.dir, p)
		w.must(err)
		dirs = append(dirs, filepath.ToSlash(rel))
	}
	slices.Sort(dirs)
	return dirs
}

func TestEverySaveIsAChangeWhateverTheEditorsDance(t *testing.T) {
	w := newTree(t, "sub/a.html").watch()
	w.want(true, "written in place", func() { w.write("sub/a.html", "1") })
	w.want(true, "vim", func() {
		w.write("sub/4913")
		w.remove("sub/4913")
		w.rename("sub/a.html", "sub/a.html~")
		w.write("sub/a.html", "2")
		w.remove("sub/a.html~")
	})
	w.want(true, "written beside it and renamed over it", func() {
		w.write("sub/.goutputstream-XY", "3")
		w.rename("sub/.goutputstream-XY", "sub/a.html")
	})
	w.want(true, "hard link as a backup", func() {
		w.must(os.Link(w.path("sub/a.html"), w.path("sub/a.html~")))
		w.write("sub/a.html", "4")
	})
	w.want(true, "emptied", func() { w.must(os.Truncate(w.path("sub/a.html"), 0)) })
	w.want(true, "removed", func() { w.remove("sub/a.html") })
	w.want(true, "back", func() { w.write("sub/a.html") })
}

func TestWhatIsNotPublishedIsNoChange(t *testing.T) {
	w := newTree(t, "index.html", ".git/HEAD", "docs/a.html", "drafts/a.html")
	w.write(merkle.IgnoreFile, "/drafts/", "*.log")
	s := w.watch()
	s.want(false, "swap file", func() { w.write("docs/.a.html.swp"); w.remove("docs/.a.html.swp") })
	s.want(false, "backup", func() { w.write("docs/a.html~") })
	s.want(false, "ignored folder", func() { w.write("drafts/b.html"); w.write(".git/index") })
	s.want(false, "by the ignore file", func() { w.write("docs/a.log") })
	s.want(false, "a new ignored folder", func() { w.write("docs/.git/HEAD") })
	s.want(false, "reading", func() {
		if _, err := os.ReadFile(w.path("docs/a.html")); err != nil {
			t.Fatal(err)
		}
	})
	if got := s.watched(); !slices.Equal(got, []string{".", "docs"}) {
		t.Errorf("watched are %q", got)
	}
}

func TestANewIgnoreFileIsAChangeAndHoldsAtOnce(t *testing.T) {
	w := newTree(t, "docs/a.html").watch()
	w.want(true, "new rules", func() { w.write("docs/"+merkle.IgnoreFile, "*.log") })
	w.want(false, "ignored from now on", func() { w.write("docs/a.log") })
	w.want(true, "rules gone", func() { w.remove("docs/" + merkle.IgnoreFile) })
	w.want(true, "not ignored any more", func() { w.write("docs/a.log") })
}

func TestNewFoldersAreWatchedAtOnce(t *testing.T) {
	w := newTree(t, "index.html").watch()
	w.want(true, "made in one go", func() { w.write("a/b/c/page.html") })
	w.want(true, "a file deep in them", func() { w.write("a/b/c/page.html", "2") })
	w.want(true, "moved in from elsewhere", func() {
		other := newTree(t, "d/e/page.html")
		w.must(os.Rename(other.path("d"), w.path("d")))
	})
	w.want(true, "a file deep in what was moved in", func() { w.write("d/e/page.html", "2") })
	if got, want := w.watched(), []string{".", "a", "a/b", "a/b/c", "d", "d/e"}; !slices.Equal(got, want) {
		t.Errorf("watched are %q, want %q", got, want)
	}
}

func TestAFolderIsWatchedUnderItsNewNameAndForgottenWhenItIsGone(t *testing.T) {
	w := newTree(t, "a/b/page.html", "c/page.html").watch()
	w.want(true, "renamed", func() { w.rename("a", "x") })
	w.want(true, "a file deep in it", func() { w.write("x/b/page.html", "2") })
	w.want(true, "another takes the old name", func() { w.rename("c", "a") })
	w.want(true, "a file in that", func() { w.write("a/page.html", "2") })
	w.want(true, "removed", func() { w.remove("x") })
	w.want(true, "moved away", func() { w.must(os.Rename(w.path("a"), w.dir+"-away")) })
	w.want(false, "what is done to it there", func() {
		w.must(os.WriteFile(filepath.Join(w.dir+"-away", "page.html"), nil, 0o644))
	})
	if got := w.watched(); !slices.Equal(got, []string{"."}) || len(w.f.dirs) != 1 {
		t.Errorf("watched are %q, known %v", got, w.f.dirs)
	}
	w.want(true, "made anew", func() { w.write("x/b/page.html") })
	w.want(true, "a file deep in it", func() { w.write("x/b/page.html", "2") })
}

func TestWhatALinkLeadsToCounts(t *testing.T) {
	w := newTree(t, "index.html", "_parts/page.html", "_parts/other.html", "_all/sub/a.html", "docs/a.html")
	w.write(merkle.IgnoreFile, "/_*")
	w.symlink("_parts/page.html", "page.html")
	w.symlink("_all", "all")
	w.symlink("docs", "manual") // is watched anyway
	w.symlink("nowhere", "broken.html~")
	w.symlink("..", "docs/up") // a build refuses it
	s := w.watch()
	s.want(true, "a file", func() { w.write("_parts/page.html", "2") })
	s.want(false, "its neighbour", func() { w.write("_parts/other.html", "2") })
	s.want(true, "in a folder", func() { w.write("_all/sub/a.html", "2") })
	s.want(true, "in a folder that is watched anyway", func() { w.write("docs/a.html", "2") })
	s.want(true, "a link turned", func() { w.remove("page.html"); w.symlink("_parts/other.html", "page.html") })
	s.want(true, "what it leads to now", func() { w.write("_parts/other.html", "3") })
}

func TestWithoutWatchesTheFolderIsLookedAtAndTheLimitNamed(t *testing.T) {
	w := newTree(t, "a/page.html", "b/page.html").watch()
	w.f.add = func(string) error { return syscall.ENOSPC }
	w.mkdir("c")
	for w.f.events != nil {
		w.f.event(<-w.f.events.Events)
	}
	if len(w.notes) != 1 || !strings.Contains(w.notes[0], "every 2s") {
		t.Fatalf("notes: %q", w.notes)
	}
	if runtime.GOOS == "linux" && !strings.Contains(w.notes[0], "fs.inotify.max_user_watches") {
		t.Errorf("the limit is not named: %q", w.notes)
	}
	look := func() bool {
		w.f.scanned = time.Time{} // it is time
		w.f.look()
		return w.changed()
	}
	look() // what came after the last one
	w.f.look()
	if w.changed() || look() {
		t.Error("a change though nothing changed")
	}
	for what, do := range map[string]func(){
		"written": func() { w.write("a/page.html", "2") },
		"new":     func() { w.write("c/page.html") },
		"removed": func() { w.remove("b") },
		"renamed": func() { w.rename("a/page.html", "a/index.html") },
	} {
		if do(); !look() {
			t.Errorf("%s: no change is seen", what)
		}
	}
	if w.write("c/page.html~"); look() {
		t.Error("an ignored file is a change")
	}
	w.f.again()
	if w.f.events == nil || len(w.notes) != 1 {
		t.Errorf("a new beginning does not try again, or says so again: %q", w.notes)
	}
}

// serving is a watch that runs by itself.
func (tr tree) serving() *folderWatch {
	tr.t.Helper()
	f, err := watchFolder(tr.dir, "", func(string) {})
	if err != nil {
		tr.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.serve(tr.t.Context()) }()
	tr.t.Cleanup(func() { // the test's context has ended
		if err := <-done; err != nil {
			tr.t.Error(err)
		}
	})
	return f
}

func awaitChange(t *testing.T, f *folderWatch, what string) {
	t.Helper()
	select {
	case <-f.changed:
	case <-time.After(time.Minute):
		t.Fatalf("%s is not noticed", what)
	}
}

func TestAFolderThatIsMadeAnewIsWatchedOn(t *testing.T) {
	tr := newTree(t, "index.html", "sub/a.html")
	w := tr.watch()
	for range 3 {
		tr.remove(".")
		for w.f.info != nil {
			w.f.event(<-w.f.events.Events)
		}
		w.changed()
		if w.f.look(); w.changed() {
			t.Error("a folder that is away has changed")
		}
		tr.write("sub/a.html")
		if w.f.look(); !w.changed() {
			t.Error("its return is no change")
		}
		w.want(true, "a file in the new one", func() { tr.write("sub/b.html") })
	}
	next := newTree(t, "sub/c.html")
	w.want(true, "another in its place", func() {
		tr.must(os.Rename(tr.dir, tr.dir+".old"))
		tr.must(os.Rename(next.dir, tr.dir))
	})
	w.want(true, "a file in the other one", func() { tr.write("sub/c.html", "2") })
	w.want(true, "away and back", func() {
		tr.must(os.Rename(tr.dir, tr.dir+".away"))
		tr.must(os.Rename(tr.dir+".away", tr.dir))
	})
	w.want(true, "a file after that", func() { tr.write("sub/c.html", "3") })
}

func TestAWatchWaitsForItsFolder(t *testing.T) {
	tr := newTree(t, "index.html")
	f := tr.serving()
	tr.must(os.Rename(tr.dir, tr.dir+".away")) // no file in it changes
	tr.must(os.Mkdir(tr.dir, 0o755))
	awaitChange(t, f, "its return")
}

func TestAFolderThatIsGoneIsMissedOnceAndNotWhileItIsMadeAnew(t *testing.T) {
	tr := newTree(t, "index.html")
	w := tr.watch()
	for round := range 2 {
		tr.must(os.Rename(tr.dir, tr.dir+".away"))
		w.f.look()
		w.f.look()
		if len(w.notes) != 2*round {
			t.Errorf("told at once: %q", w.notes)
		}
		w.f.gone = w.f.gone.Add(-awayTold)
		w.f.look()
		w.f.look()
		if len(w.notes) != 2*round+1 || !strings.Contains(w.notes[2*round], tr.dir+" is gone") {
			t.Errorf("while it is away: %q", w.notes)
		}
		tr.must(os.Rename(tr.dir+".away", tr.dir))
		w.f.look()
		w.f.look()
		if len(w.notes) != 2*round+2 || !strings.Contains(w.notes[2*round+1], "is back") {
			t.Errorf("when it is back: %q", w.notes)
		}
	}
}

func TestAFolderBehindALinkIsWatchedWhereTheLinkLeadsNow(t *testing.T) {
	one, two := newTree(t, "index.html"), newTree(t, "index.html")
	link := tree{t, filepath.Join(t.TempDir(), "current")}
	one.must(os.Symlink(one.dir, link.dir))
	f := link.serving()
	one.write("index.html", "2")
	awaitChange(t, f, "a file in the first")
	one.must(os.Symlink(two.dir, link.dir+".next"))
	one.must(os.Rename(link.dir+".next", link.dir))
	awaitChange(t, f, "the link's turn")
	two.write("index.html", "2")
	awaitChange(t, f, "a file in the second")
}

func TestLostEventsAreMadeGoodByALook(t *testing.T) {
	tr := newTree(t, "index.html")
	w := tr.watch()
	w.f.add = func(string) error { return nil } // as if nobody had heard of the folder
	w.want(true, "a new folder", func() { tr.write("new/sub/page.html") })
	w.want(false, "a file in it", func() { tr.write("new/sub/page.html", "2") })
	w.f.lost(fsnotify.ErrEventOverflow)
	if !w.changed() {
		t.Error("the loss is no change")
	}
	w.want(true, "a file in the folder whose making was lost", func() { tr.write("new/sub/page.html", "3") })
}

func TestAMissingFolderIsRefused(t *testing.T) {
	if _, err := watchFolder(filepath.Join(t.TempDir(), "none"), "", nil); !os.IsNotExist(err) {
		t.Errorf("the error is %v", err)
	}
}
