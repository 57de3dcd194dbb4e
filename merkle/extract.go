package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// maxExtracted is how many files and folders Extract writes where its limits
// don't say otherwise.
const maxExtracted = 16 << 20

// maxName is the longest name, in bytes, that is written.
const maxName = 255

// Extracted counts what Extract wrote.
type Extracted struct {
	Files int64 // symbolic links included
	Bytes int64 // of file content
}

// Extract writes the file, folder or symlink under root to dst, which must not
// exist, or be an empty folder where root is a folder; its parent must exist.
// Nothing is ever written outside dst. progress, which may be nil, is called
// often, from several goroutines.
//
// It fails with a *PathError: of kind ErrMalformed where names can't be files'
// names, parts disagree about sizes, or a symbolic link would lead outside;
// ErrLimit where the tree would need more than dst's disk has free, or more than 16 Mi
// files and folders, however few blocks stand for them (checked before anything is
// written); else the Getter's. What was written until then is removed.
func Extract(ctx context.Context, g blockstore.Getter, root cid.Cid, dst string, progress func(Extracted)) (Extracted, error) {
	return ExtractWithin(ctx, g, root, dst, Limits{}, progress)
}

// ExtractWithin is Extract with limits on what is written: MaxBytes of file
// content (0: what the disk has free), MaxBlocks files and folders (0: 16 Mi),
// MaxDepth folders within each other. Repetitions count.
func ExtractWithin(ctx context.Context, g blockstore.Getter, root cid.Cid, dst string, limits Limits, progress func(Extracted)) (Extracted, error) {
	dst, err := filepath.Abs(dst)
	if err != nil {
		return Extracted{}, err
	}
	n, err := getNode(ctx, g, root)
	if err != nil {
		return Extracted{}, err
	}
	x := &extractor{get: g, progress: progress}
	x.limits = extractLimits(limits, filepath.Dir(dst))
	if err := x.measure(ctx, n); err != nil {
		return Extracted{}, err
	}
	if n.isFolder() {
		err = x.toFolder(ctx, n, dst)
	} else {
		err = x.toFile(ctx, n, dst)
	}
	if err != nil {
		return Extracted{}, err
	}
	return Extracted{Files: x.files.Load(), Bytes: x.bytes.Load()}, nil
}

func extractLimits(l Limits, on string) Limits {
	if l.MaxBlocks == 0 {
		l.MaxBlocks = maxExtracted
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = freeSpace(on)
	}
	return l.withDefaults()
}

type extractor struct {
	get      blockstore.Getter
	limits   Limits
	progress func(Extracted)

	root         *os.Root // what everything is written through
	jobs         chan fileJob
	links        []symlink // made last, so that nothing is written through one
	files, bytes atomic.Int64
}

type fileJob struct {
	path string // relative to root
	cid  cid.Cid
	node *fsNode // nil: the worker gets it
}

type symlink struct{ path, target string }

// toFolder writes a folder's entries into dst, and on failure takes them away again.
func (x *extractor) toFolder(ctx context.Context, n *fsNode, dst string) (err error) {
	made := true
	if err := os.Mkdir(dst, 0o755); errors.Is(err, fs.ErrExist) {
		made = false
	} else if err != nil {
		return err
	}
	if !made {
		if there, err := os.ReadDir(dst); err != nil {
			return err
		} else if len(there) > 0 {
			return fmt.Errorf("%s: %w", dst, errNotEmpty)
		}
	}
	if x.root, err = os.OpenRoot(dst); err != nil {
		return err
	}
	defer x.root.Close()
	defer func() {
		if err != nil {
			x.undo(n, dst, made)
		}
	}()
	group, gctx := errgroup.WithContext(ctx)
	x.jobs = make(chan fileJob)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error { return x.work(gctx) })
	}
	group.Go(func() error {
		defer close(x.jobs)
		return x.folder(gctx, n, "")
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return x.symlinks()
}

var errNotEmpty = errors.New("exists and is not empty")

// undo removes what toFolder may have written: the names of n's entries, in a
// folder that was empty before.
func (x *extractor) undo(n *fsNode, dst string, made bool) {
	if there, err := os.ReadDir(dst); err == nil {
		for _, d := range there {
			x.root.RemoveAll(d.Name())
		}
	}
	if made {
		os.Remove(dst)
	}
}

// toFile writes a single file or symlink as dst.
func (x *extractor) toFile(ctx context.Context, n *fsNode, dst string) (err error) {
	if x.root, err = os.OpenRoot(filepath.Dir(dst)); err != nil {
		return err
	}
	defer x.root.Close()
	name := filepath.Base(dst)
	if n.kind == kindSymlink {
		x.links = []symlink{{name, string(n.data)}}
		return x.symlinks()
	}
	return x.file(ctx, name, n)
}

// folder makes the folders under n and hands its files to the workers.
func (x *extractor) folder(ctx context.Context, n *fsNode, at string) error {
	entries, err := n.entries(ctx, x.get)
	if err != nil {
		return &PathError{Path: at, CID: n.cid, Err: err}
	}
	for _, e := range entries {
		path := join(at, e.name)
		if err := checkName(e.name); err != nil {
			return &PathError{Path: path, CID: e.cid, Err: err}
		}
		if e.cid.Prefix().Codec == cid.Raw { // a file, whatever is in it
			if err := x.hand(ctx, fileJob{path, e.cid, nil}); err != nil {
				return err
			}
			continue
		}
		c, err := getNode(ctx, x.get, e.cid)
		if err != nil {
			return &PathError{Path: path, CID: e.cid, Err: err}
		}
		switch {
		case c.isFolder():
			if err := x.root.Mkdir(path, 0o755); err != nil {
				return &PathError{Path: path, CID: e.cid, Err: bareError(err)}
			}
			if err := x.folder(ctx, c, path); err != nil {
				return err
			}
		case c.kind == kindSymlink:
			x.links = append(x.links, symlink{path, string(c.data)})
		default:
			if err := x.hand(ctx, fileJob{path, e.cid, c}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *extractor) hand(ctx context.Context, j fileJob) error {
	select {
	case x.jobs <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkName refuses names that mean something else to a file system.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName ||
		strings.ContainsAny(name, "/\x00") || !filepath.IsLocal(name) ||
		filepath.Separator != '/' && strings.ContainsRune(name, filepath.Separator) {
		return fmt.Errorf("%w: not a file's name", ErrMalformed)
	}
	return nil
}

func (x *extractor) work(ctx context.Context) error {
	for j := range x.jobs {
		if j.node == nil {
			var err error
			if j.node, err = getNode(ctx, x.get, j.cid); err != nil {
				return &PathError{Path: j.path, CID: j.cid, Err: err}
			}
		}
		if err := x.file(ctx, j.path, j.node); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) file(ctx context.Context, path string, n *fsNode) (err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = &PathError{Path: path, CID: n.cid, Err: bareError(err)}
		}
	}()
	f, err := x.root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	r := &fileReader{ctx: ctx, get: x.get, root: n}
	defer r.Close()
	_, err = r.WriteTo(counter{f, x})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		x.root.Remove(path)
		return err
	}
	x.files.Add(1)
	x.report()
	return nil
}

// counter counts bytes on their way into a file and holds the limit, should the
// measured sizes have been wrong.
type counter struct {
	w io.Writer
	x *extractor
}

func (c counter) Write(p []byte) (int, error) {
	if c.x.bytes.Add(int64(len(p))) > c.x.limits.MaxBytes {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrLimit, c.x.limits.MaxBytes)
	}
	defer c.x.report()
	return c.w.Write(p)
}

func (x *extractor) report() {
	if x.progress != nil {
		x.progress(Extracted{Files: x.files.Load(), Bytes: x.bytes.Load()})
	}
}

func (x *extractor) symlinks() error {
	for _, l := range x.links {
		if err := checkTarget(l); err != nil {
			return &PathError{Path: l.path, Err: err}
		}
		if err := x.root.Symlink(filepath.FromSlash(l.target), l.path); err != nil {
			return &PathError{Path: l.path, Err: bareError(err)}
		}
		x.files.Add(1)
		x.report()
	}
	return nil
}

// checkTarget accepts only targets that climb first, not above the top, and
// then go down. A ".." behind a name would lead back from wherever another
// link has gone, which the text alone can't tell.
func checkTarget(l symlink) error {
	bad := fmt.Errorf("%w: a symbolic link to %q, which leaves the folder", ErrMalformed, l.target)
	if l.target == "" || strings.HasPrefix(l.target, "/") || strings.ContainsRune(l.target, 0) || filepath.IsAbs(filepath.FromSlash(l.target)) {
		return bad
	}
	up, down := strings.Count(l.path, "/"), false
	for part := range strings.SplitSeq(l.target, "/") {
		switch part {
		case "", ".":
		case "..":
			if up--; up < 0 || down {
				return bad
			}
		default:
			down = true
		}
	}
	return nil
}
