package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync/atomic"

	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// SymlinkMode says what Build does with symbolic links.
type SymlinkMode string

const (
	// SymlinksFollow, the default, builds what the link points to. A link that
	// leaves the folder, or would never end, is refused.
	SymlinksFollow SymlinkMode = "follow"
	// SymlinksKeep writes UnixFS symlinks, wherever they point.
	SymlinksKeep SymlinkMode = "keep"
)

// BuildOptions steers Build. The zero value builds by V1_2025, follows
// symbolic links inside the folder, and uses all processors.
type BuildOptions struct {
	Profile  Profile
	Symlinks SymlinkMode
	Workers  int            // files built at once; 0: GOMAXPROCS
	Progress func(Progress) // called often, from several goroutines; may be nil
}

// Progress of a Build so far. The totals come from a scan that ends before the
// first file is read.
type Progress struct {
	Files, TotalFiles int64
	Bytes, TotalBytes int64
}

// Scan is what a build of a folder would take and leave out.
type Scan struct {
	Files   int64    // kept symbolic links count as files
	Bytes   int64    // of file content
	Ignored []string // slash paths relative to the folder, folders end in "/"; sorted
}

// Built is the outcome of a Build. Everything was put into the session;
// nothing is synced or kept yet.
type Built struct {
	Root    cid.Cid
	Files   int64            // kept symbolic links count as files
	Bytes   int64            // of file content
	DAG     Count            // unique blocks under Root
	Added   blockstore.Added // what the store had not had
	CIDs    []cid.Cid        // unique, children first, root last: what Session.Keep wants
	Ignored []string         // as in Scan
}

// Build puts the DAG of a folder, or of one regular file (whose root is the
// file's own CID), into the session, children before parents. The same tree
// has the same root, whatever the machine, the order of its disk and the
// number of workers. Modes and times are not part of a tree.
//
// It fails with *UnpublishableError, naming all of them, where parts of the
// folder can't be published; with a *PathError of kind ErrChanged where a file
// changed meanwhile; ErrLimit where the tree is nested too deep for Walk's
// defaults; ErrUnsupported for an unknown profile. What was put until then
// stays in the session, kept by nobody.
func Build(ctx context.Context, into blockstore.Session, path string, opts BuildOptions) (Built, error) {
	profile, err := opts.Profile.settings()
	if err != nil {
		return Built{}, err
	}
	s, err := scan(ctx, path, opts)
	if err != nil {
		return Built{}, err
	}
	b := &builder{profile: profile, scan: s, workers: opts.Workers, progress: opts.Progress}
	if b.workers <= 0 {
		b.workers = runtime.GOMAXPROCS(0)
	}
	return b.build(ctx, into)
}

func (p Profile) settings() (uio.UnixFSProfile, error) {
	switch p {
	case V1_2025, "":
		return uio.UnixFS_v1_2025, nil
	case V0_2015:
		return uio.UnixFS_v0_2015, nil
	}
	return uio.UnixFSProfile{}, fmt.Errorf("profile %q: %w", p, ErrUnsupported)
}

// node is a finished part of the tree.
type node struct {
	cid    cid.Cid
	tsize  uint64    // bytes of the whole sub-DAG, as links declare it
	height int       // links to the deepest leaf
	blocks []sizedID // all of its own blocks (not its entries'), children first
}

type sizedID struct {
	cid  cid.Cid
	size int64
}

// builder is one run of Build.
type builder struct {
	profile  uio.UnixFSProfile
	scan     *scanner
	workers  int
	progress func(Progress)
	sink     *sink

	files, bytes atomic.Int64 // done
}

func (b *builder) build(ctx context.Context, into blockstore.Session) (Built, error) {
	group, gctx := errgroup.WithContext(ctx)
	b.sink = newSink()
	group.Go(func() error { return b.sink.write(gctx, into) })
	group.Go(func() error {
		defer b.sink.close()
		if err := b.allFiles(gctx); err != nil {
			return err
		}
		if err := b.tree(gctx, b.scan.root); err != nil {
			return err
		}
		return b.sink.flush(gctx)
	})
	if err := group.Wait(); err != nil {
		return Built{}, b.explain(ctx, err)
	}
	out := Built{
		Root:    b.scan.root.built.cid,
		Files:   b.files.Load(),
		Bytes:   b.bytes.Load(),
		Added:   b.sink.added,
		Ignored: b.scan.ignored,
	}
	seen := cid.NewSet()
	b.collect(b.scan.root, seen, &out)
	return out, nil
}

// explain turns the first file that could not be opened into an error that names all of them.
func (b *builder) explain(ctx context.Context, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		if all := b.scan.unreadable(ctx); all != nil {
			return all
		}
	}
	return err
}

// allFiles builds the files, several at once, each into its entry.
func (b *builder) allFiles(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *entry)
	group.Go(func() error {
		defer close(jobs)
		var err error
		b.scan.root.each(func(e *entry) {
			if err != nil {
				return
			}
			select {
			case jobs <- e:
			case <-ctx.Done():
				err = ctx.Err()
			}
		})
		return err
	})
	for range b.workers {
		group.Go(func() error {
			for e := range jobs {
				if err := b.entry(ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (b *builder) entry(ctx context.Context, e *entry) (err error) {
	if e.isLink() {
		e.built, err = b.symlink(ctx, e.target)
	} else {
		e.built, err = b.file(ctx, e)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &PathError{Path: e.where(), Err: err}
	}
	b.files.Add(1)
	b.report()
	return nil
}

func (b *builder) report() {
	if b.progress != nil {
		b.progress(Progress{
			Files: b.files.Load(), TotalFiles: b.scan.files,
			Bytes: b.bytes.Load(), TotalBytes: b.scan.bytes,
		})
	}
}

// collect lists the unique blocks under e, children first.
func (b *builder) collect(e *entry, seen *cid.Set, out *Built) {
	for _, c := range e.children {
		b.collect(c, seen, out)
	}
	for _, blk := range e.built.blocks {
		if seen.Visit(blk.cid) {
			out.CIDs = append(out.CIDs, blk.cid)
			out.DAG.Blocks++
			out.DAG.Bytes += blk.size
		}
	}
}
