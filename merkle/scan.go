package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
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
	return Scan{Files: s.files, Bytes: s.bytes, Ignored: s.ignored}, nil
}

// entry is one file, folder or kept symbolic link of a scanned tree.
type entry struct {
	name     string
	rel      string      // slash path relative to the top
	real     string      // where a file is read that was reached through a link; else empty
	info     fs.FileInfo // of files
	target   string      // of kept symbolic links
	folder   bool
	children []*entry // of folders, sorted by name

	built node // filled by the builder
}

// where names the entry in errors.
func (e *entry) where() string {
	if e.rel == "" {
		return e.name
	}
	return e.rel
}

func (e *entry) isLink() bool { return e.target != "" }

// scanner walks a folder on the disk, once, in one goroutine.
type scanner struct {
	symlinks  SymlinkMode
	maxLinked int
	top       string // real path of the folder, or of the one file
	root      *entry

	files   int64
	bytes   int64
	linked  int
	ignored []string
	bad     []PathError
}

func scan(ctx context.Context, dir string, opts BuildOptions) (*scanner, error) {
	s := &scanner{symlinks: opts.Symlinks, maxLinked: maxLinked}
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
	s.root = &entry{name: info.Name()}
	switch {
	case info.IsDir():
		s.root.folder = true
		if err := s.folder(ctx, s.root, newIgnoreRules(), []string{s.top}, false); err != nil {
			return err
		}
		slices.Sort(s.ignored)
	case info.Mode().IsRegular():
		s.file(s.root, info)
	default:
		s.refuse(dir, notAFile(info.Mode()))
	}
	if len(s.bad) > 0 {
		return s.unreadable(ctx)
	}
	return nil
}

// path is where a file is read.
func (s *scanner) path(e *entry) string {
	if e.real != "" {
		return e.real
	}
	return filepath.Join(s.top, filepath.FromSlash(e.rel))
}

func (s *scanner) refuse(rel string, err error) {
	s.bad = append(s.bad, PathError{Path: rel, Err: err})
}

func (s *scanner) file(e *entry, info fs.FileInfo) {
	e.info = info
	s.files++
	s.bytes += info.Size()
}

// folder fills e.children. trail is the real paths of the folders on the way
// here, this one last: a symbolic link to any of them would never end.
func (s *scanner) folder(ctx context.Context, e *entry, rules ignoreRules, trail []string, linked bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// By its real path: the system follows only so many links in one path.
	at := trail[len(trail)-1]
	listing, err := os.ReadDir(at)
	if errors.Is(err, fs.ErrNotExist) {
		return &PathError{Path: e.where(), Err: ErrChanged}
	}
	if err != nil {
		s.refuse(e.where(), bareError(err))
		return nil
	}
	var parts []string
	if e.rel != "" {
		parts = strings.Split(e.rel, "/")
	}
	lines, err := readIgnoreFile(filepath.Join(at, IgnoreFile))
	if err != nil {
		s.refuse(path.Join(e.rel, IgnoreFile), bareError(err))
	}
	rules = rules.with(lines, parts)
	for _, d := range listing {
		if linked {
			if s.linked++; s.linked > s.maxLinked {
				return &PathError{Path: e.where(), Err: fmt.Errorf("%w: symbolic links stand for more than %d paths", ErrLimit, s.maxLinked)}
			}
		}
		c := &entry{name: d.Name(), rel: path.Join(e.rel, d.Name())}
		if err := s.child(ctx, e, c, d, append(parts[:len(parts):len(parts)], c.name), rules, trail, linked); err != nil {
			return err
		}
	}
	return nil
}

// child adds one entry of a folder's listing to the folder, or notes why not.
func (s *scanner) child(ctx context.Context, parent, c *entry, d fs.DirEntry, parts []string, rules ignoreRules, trail []string, linked bool) error {
	if rules.ignored(parts, d.IsDir()) {
		name := c.rel
		if d.IsDir() {
			name += "/"
		}
		s.ignored = append(s.ignored, name)
		return nil
	}
	if !utf8.ValidString(c.name) {
		s.refuse(c.rel, errors.New("the name is not valid UTF-8"))
		return nil
	}
	realPath := filepath.Join(trail[len(trail)-1], c.name)
	info, err := d.Info()
	if err != nil {
		return &PathError{Path: c.rel, Err: ErrChanged}
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if s.symlinks == SymlinksKeep {
			return s.keepLink(parent, c)
		}
		if realPath, info, err = s.follow(realPath, trail); err != nil {
			s.refuse(c.rel, err)
			return nil
		}
		if info.IsDir() && rules.ignored(parts, true) {
			s.ignored = append(s.ignored, c.rel+"/")
			return nil
		}
		linked = true
	}
	switch {
	case info.IsDir():
		c.folder = true
		if err := s.folder(ctx, c, rules, append(trail[:len(trail):len(trail)], realPath), linked); err != nil {
			return err
		}
	case info.Mode().IsRegular():
		if linked {
			c.real = realPath
		}
		s.file(c, info)
	default:
		s.refuse(c.rel, notAFile(info.Mode()))
		return nil
	}
	parent.children = append(parent.children, c)
	return nil
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

func (s *scanner) keepLink(parent, c *entry) error {
	target, err := os.Readlink(s.path(c))
	if err != nil || target == "" {
		return &PathError{Path: c.rel, Err: ErrChanged}
	}
	c.target = target
	s.files++
	parent.children = append(parent.children, c)
	return nil
}

// each calls f for the files and kept links under e, in the order of the tree.
func (e *entry) each(f func(*entry)) {
	if !e.folder {
		f(e)
	}
	for _, c := range e.children {
		c.each(f)
	}
}

// unreadable opens every file and returns an UnpublishableError that names
// those that can't be opened beside what the scan refused; nil where there is nothing.
func (s *scanner) unreadable(ctx context.Context) error {
	bad := slices.Clone(s.bad)
	s.root.each(func(e *entry) {
		if e.isLink() || e.info == nil || ctx.Err() != nil {
			return
		}
		f, err := openFile(s.path(e))
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
