package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// ErrChanged says that a file or folder changed, grew or went away while it was being read.
var ErrChanged = errors.New("changed while it was being read")

// maxLinked bounds the entries that are reached through symbolic links: a few
// folders that link to each other can stand for any number of paths.
const maxLinked = 1 << 20

// UnpublishableError names everything in a folder that can't be published, so
// that one look is enough to mend it all. Nothing of the folder was kept.
type UnpublishableError struct {
	Paths []PathError // slash paths relative to the folder, sorted; at least one
}

func (e *UnpublishableError) Error() string {
	const shown = 20
	var b strings.Builder
	fmt.Fprintf(&b, "%d of the paths can't be published:", len(e.Paths))
	for i := range e.Paths[:min(len(e.Paths), shown)] {
		fmt.Fprintf(&b, " %v;", &e.Paths[i])
	}
	if n := len(e.Paths) - shown; n > 0 {
		fmt.Fprintf(&b, " and %d more", n)
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Unwrap lets errors.Is and errors.As see each of them.
func (e *UnpublishableError) Unwrap() []error {
	errs := make([]error, len(e.Paths))
	for i := range e.Paths {
		errs[i] = &e.Paths[i]
	}
	return errs
}

// ScanFolder tells what a build of the folder (or single file) would take and
// leave out, reading names and ignore files only. *UnpublishableError where a
// build would be refused.
func ScanFolder(ctx context.Context, dir string, opts BuildOptions) (Scan, error) {
	s, err := scan(ctx, dir, opts)
	if err != nil {
		return Scan{}, err
	}
	if err := s.unreadable(ctx); err != nil {
		return Scan{}, err
	}
	return Scan{Files: s.files.Load(), Bytes: s.bytes.Load(), Ignored: s.ignored}, nil
}

// scanner walks a folder on the disk, once, several folders at a time.
type scanner struct {
	symlinks  SymlinkMode
	maxLinked int64
	workers   int
	top       string // real path of the folder, or of the one file
	root      *entry

	group  *errgroup.Group
	files  atomic.Int64
	bytes  atomic.Int64
	linked atomic.Int64

	mu      sync.Mutex
	ignored []string
	bad     []PathError
}

func scan(ctx context.Context, dir string, opts BuildOptions) (*scanner, error) {
	s := &scanner{symlinks: opts.Symlinks, maxLinked: maxLinked, workers: opts.workers()}
	return s, s.scan(ctx, dir)
}

func (s *scanner) scan(ctx context.Context, dir string) error {
	if s.symlinks != "" && s.symlinks != SymlinksFollow && s.symlinks != SymlinksKeep {
		return fmt.Errorf("symlinks %q: %w", s.symlinks, ErrUnsupported)
	}
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if s.top, err = filepath.Abs(top); err != nil {
		return err
	}
	info, err := os.Stat(s.top)
	if err != nil {
		return err
	}
	s.root = &entry{name: info.Name(), real: s.top}
	switch {
	case info.IsDir():
		if err := s.tree(ctx); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		s.file(s.root, info)
	default:
		return &UnpublishableError{Paths: []PathError{{Path: dir, Err: notAFile(info.Mode())}}}
	}
	if len(s.bad) > 0 {
		return s.unreadable(ctx)
	}
	return nil
}

// tree scans all that is under the root, in this goroutine and others.
func (s *scanner) tree(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.group, ctx = errgroup.WithContext(ctx)
	s.group.SetLimit(max(s.workers, 1) - 1)
	s.root.folder = true
	err := s.folder(ctx, s.root, place{rules: newIgnoreRules(), trail: []string{s.top}})
	if err != nil {
		cancel()
	}
	// Whoever fails first stops the others, whose errors say no more than that.
	if others := s.group.Wait(); err == nil || errors.Is(err, context.Canceled) && others != nil {
		err = others
	}
	slices.Sort(s.ignored)
	return err
}

func (s *scanner) refuse(rel string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, PathError{Path: rel, Err: err})
}

func (s *scanner) ignore(rel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ignored = append(s.ignored, rel)
}

func (s *scanner) file(e *entry, info fs.FileInfo) {
	e.stamp = stampOf(info)
	s.files.Add(1)
	s.bytes.Add(e.stamp.size)
}

// place is where in the tree a folder is.
type place struct {
	rules ignoreRules
	parts []string // of its path from the top
	// trail is the real paths of the folders on the way here, this one last: a
	// symbolic link to any of them would never end.
	trail  []string
	linked bool // it was reached through a symbolic link
}

// below is the place of a folder in this one.
func (p place) below(name, real string) place {
	p.parts = append(slices.Clip(p.parts), name)
	p.trail = append(slices.Clip(p.trail), real)
	return p
}

// folder fills e.children.
func (s *scanner) folder(ctx context.Context, e *entry, p place) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// By its real path: the system follows only so many links in one path.
	e.real = p.trail[len(p.trail)-1]
	listing, err := os.ReadDir(e.real)
	if errors.Is(err, fs.ErrNotExist) {
		return &PathError{Path: e.where(), Err: ErrChanged}
	}
	if err != nil {
		s.refuse(e.where(), bareError(err))
		return nil
	}
	if err := s.countLinked(e, p, len(listing)); err != nil {
		return err
	}
	s.rules(e, &p, listing)
	e.children = make([]entry, 0, len(listing)) // never grown: others point into it
	parts := append(slices.Clip(p.parts), "")
	for _, d := range listing {
		parts[len(parts)-1] = d.Name()
		if err := s.child(ctx, e, d, parts, p); err != nil {
			return err
		}
	}
	return nil
}

// countLinked bounds what symbolic links can multiply.
func (s *scanner) countLinked(e *entry, p place, n int) error {
	if p.linked && s.linked.Add(int64(n)) > s.maxLinked {
		return &PathError{Path: e.where(), Err: fmt.Errorf("%w: symbolic links stand for more than %d paths", ErrLimit, s.maxLinked)}
	}
	return nil
}

// rules adds those of the folder's own ignore file.
func (s *scanner) rules(e *entry, p *place, listing []fs.DirEntry) {
	if !slices.ContainsFunc(listing, func(d fs.DirEntry) bool { return d.Name() == IgnoreFile }) {
		return
	}
	lines, err := readIgnoreFile(filepath.Join(e.real, IgnoreFile))
	if err != nil {
		s.refuse(path.Join(e.rel(), IgnoreFile), bareError(err))
	}
	p.rules = p.rules.with(lines, p.parts)
}

// child adds one entry of a folder's listing to the folder, or notes why not.
// parts is its path from the top, the caller's to use again.
func (s *scanner) child(ctx context.Context, parent *entry, d fs.DirEntry, parts []string, p place) error {
	c := entry{name: d.Name(), parent: parent}
	if p.rules.ignored(parts, d.IsDir()) {
		s.ignore(listed(&c, d.IsDir()))
		return nil
	}
	if !utf8.ValidString(c.name) {
		s.refuse(c.rel(), errors.New("the name is not valid UTF-8"))
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return &PathError{Path: c.rel(), Err: ErrChanged}
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if s.symlinks == SymlinksKeep {
			return s.keepLink(c)
		}
		if c.real, info, err = s.follow(c.path(), p.trail); err != nil {
			s.refuse(c.rel(), err)
			return nil
		}
		if info.IsDir() && p.rules.ignored(parts, true) {
			s.ignore(listed(&c, true))
			return nil
		}
		p.linked = true
	}
	switch {
	case info.IsDir():
		c.folder = true
	case info.Mode().IsRegular():
		s.file(&c, info)
	default:
		s.refuse(c.rel(), notAFile(info.Mode()))
		return nil
	}
	parent.children = append(parent.children, c)
	if c.folder {
		return s.descend(ctx, &parent.children[len(parent.children)-1], p)
	}
	return nil
}

// descend scans a folder, in a goroutine of its own if one is free.
func (s *scanner) descend(ctx context.Context, e *entry, p place) error {
	p = p.below(e.name, e.path())
	scan := func() error { return s.folder(ctx, e, p) }
	if s.group.TryGo(scan) {
		return nil
	}
	return scan()
}

// listed is how an ignored entry is listed.
func listed(e *entry, folder bool) string {
	if folder {
		return e.rel() + "/"
	}
	return e.rel()
}

// follow resolves a symbolic link, inside the folder only.
func (s *scanner) follow(link string, trail []string) (string, fs.FileInfo, error) {
	target, err := filepath.EvalSymlinks(link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, errors.New("a symbolic link to nothing")
	}
	if err != nil {
		return "", nil, fmt.Errorf("a symbolic link that can't be followed: %w", bareError(err))
	}
	if rel, err := filepath.Rel(s.top, target); err != nil || !filepath.IsLocal(rel) {
		return "", nil, errors.New("a symbolic link that leaves the folder")
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", nil, bareError(err)
	}
	if slices.Contains(trail, target) {
		return "", nil, errors.New("a symbolic link to a folder that holds it: it would never end")
	}
	return target, info, nil
}

func (s *scanner) keepLink(c entry) error {
	target, err := os.Readlink(c.path())
	if err != nil || target == "" {
		return &PathError{Path: c.rel(), Err: ErrChanged}
	}
	c.target = target
	s.files.Add(1)
	c.parent.children = append(c.parent.children, c)
	return nil
}

// unreadable opens every file and returns an UnpublishableError that names
// those that can't be opened beside what the scan refused; nil where there is nothing.
func (s *scanner) unreadable(ctx context.Context) error {
	bad := slices.Clone(s.bad)
	s.root.each(func(e *entry) {
		if e.isLink() || e.folder || ctx.Err() != nil {
			return
		}
		f, err := openFile(e.path())
		if err != nil {
			bad = append(bad, PathError{Path: e.where(), Err: bareError(err)})
			return
		}
		f.Close()
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(bad) == 0 {
		return nil
	}
	slices.SortFunc(bad, func(a, b PathError) int { return strings.Compare(a.Path, b.Path) })
	return &UnpublishableError{Paths: bad}
}

// openFile opens for reading without waiting, should the file have become a FIFO meanwhile.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// readRegular is the content of a regular file of at most limit bytes.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return data[:n], err
}

// bareError is the cause without the path, which the caller names itself.
func bareError(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func notAFile(m fs.FileMode) error {
	switch m.Type() {
	case fs.ModeNamedPipe:
		return errors.New("a FIFO")
	case fs.ModeSocket:
		return errors.New("a socket")
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		return errors.New("a device")
	}
	return fmt.Errorf("neither file nor folder (%v)", m.Type())
}
