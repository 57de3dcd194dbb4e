package merkle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync/atomic"
	"time"

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
// symbolic links inside the folder, uses all processors, and reads every file.
type BuildOptions struct {
	Profile  Profile
	Symlinks SymlinkMode
	Workers  int            // files built at once; 0: as many as there are processors, but not more than 16
	Progress func(Progress) // called often, from several goroutines; may be nil

	// Cache is the path of a file, outside the folder, in which Build remembers
	// what it built of which files, so that the next Build of the same folder
	// reads only those that changed. Empty: none. It is made where it does not
	// exist (its own folder is not), and one that is damaged, or of another
	// folder or profile, is replaced.
	Cache string
	// InPlace leaves the content of files where it is, instead of copying it into
	// the store: see blockstore.Referrer. ErrUnsupported where the session can't,
	// or the profile wraps content into nodes (V0_2015).
	InPlace bool

	// Reread trusts nothing in the cache: every file is read, and the cache
	// written anew.
	Reread bool
}

// maxWorkers is how many files are built at once unless more are asked for:
// each has its part in the memory that a build takes.
const maxWorkers = 16

func (o BuildOptions) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return min(runtime.GOMAXPROCS(0), maxWorkers)
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

	Read     int64 // files whose content was read; the cache knew the others
	CacheErr error // why the cache could not be written: the next Build will read more than it need
}

// Build puts the DAG of a folder, or of one regular file (whose root is the
// file's own CID), into the session, children before parents. The same tree
// has the same root, whatever the machine, the order of its disk and the
// number of workers. Modes and times are not part of a tree.
//
// It holds at most 4 MiB of content for each worker and 8 MiB besides,
// whatever the size of the files; in the cache, the tree, and the lists of
// blocks, some hundred bytes for each file and for each MiB of a large one;
// and the links of the folder that it builds at the time, up to 2 KiB for each of
// a sharded one.
//
// It fails with *UnpublishableError, naming all of them, where parts of the
// folder can't be published; with a *PathError of kind ErrChanged where a file
// changed meanwhile; ErrLimit where the tree is nested too deep for Walk's
// defaults; ErrUnsupported for an unknown profile. What was put until then
// stays in the session, kept by nobody.
func Build(ctx context.Context, into blockstore.Session, path string, opts BuildOptions) (Built, error) {
	return buildAt(ctx, into, path, opts, time.Now())
}

// buildAt builds as if it were that time, which only the cache asks for.
func buildAt(ctx context.Context, into blockstore.Session, path string, opts BuildOptions, now time.Time) (Built, error) {
	profile, err := opts.Profile.settings()
	if err != nil {
		return Built{}, err
	}
	if _, can := into.(blockstore.Referrer); opts.InPlace && (!can || !profile.RawLeaves) {
		return Built{}, fmt.Errorf("files can't stay in place with this store or profile: %w", ErrUnsupported)
	}
	b := &builder{profile: profile, rawPrefix: rawPrefix(profile.CidBuilder()), opts: opts, workers: opts.workers(), started: now}
	cache := make(chan *statCache, 1)
	go func() { cache <- b.readCache() }()
	b.scan, err = scan(ctx, path, opts)
	b.cache = <-cache
	if err != nil {
		return Built{}, err
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

// builder is one run of Build.
type builder struct {
	profile   uio.UnixFSProfile
	rawPrefix cid.Prefix // of leaves
	opts      BuildOptions
	workers   int
	started   time.Time
	scan      *scanner
	cache     *statCache // nil: nothing can be believed
	sink      *sink

	files, bytes, read atomic.Int64 // done
}

func (b *builder) build(ctx context.Context, into blockstore.Session) (Built, error) {
	if err := b.recall(ctx, into); err != nil {
		return Built{}, err
	}
	group, gctx := errgroup.WithContext(ctx)
	b.sink = newSink()
	b.sink.slabs = newSlabs(4*b.workers + 8)
	group.Go(func() error { return b.sink.write(gctx, into) })
	group.Go(func() error {
		defer b.sink.close()
		if err := b.allFiles(gctx); err != nil {
			return err
		}
		folders := &packer{sink: b.sink}
		if err := b.tree(gctx, folders, b.scan.root); err != nil {
			return err
		}
		return folders.flush(gctx)
	})
	if err := group.Wait(); err != nil {
		return Built{}, b.explain(ctx, err)
	}
	return b.outcome(), nil
}

func (b *builder) outcome() Built {
	out := Built{
		Root:     b.scan.root.built.cid,
		Files:    b.files.Load(),
		Bytes:    b.bytes.Load(),
		Added:    b.sink.added,
		Ignored:  b.scan.ignored,
		Read:     b.read.Load(),
		CacheErr: b.writeCache(),
	}
	seen := make(map[cid.Cid]struct{}, out.Files)
	b.collect(b.scan.root, seen, &out)
	return out
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

// allFiles builds the files that were not recalled, several at once, each into its entry.
func (b *builder) allFiles(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan *entry, 2*b.workers)
	group.Go(func() error {
		defer close(jobs)
		var err error
		b.scan.root.each(func(e *entry) {
			if err != nil || e.recalled {
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
			into := &packer{sink: b.sink}
			for e := range jobs {
				if err := b.entry(ctx, into, e); err != nil {
					return err
				}
			}
			return into.flush(ctx)
		})
	}
	return group.Wait()
}

func (b *builder) entry(ctx context.Context, into *packer, e *entry) (err error) {
	if e.isLink() {
		e.built, err = b.symlink(ctx, into, e.target)
	} else {
		e.built, err = b.file(ctx, into, e)
		b.read.Add(1)
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
	if b.opts.Progress != nil {
		b.opts.Progress(Progress{
			Files: b.files.Load(), TotalFiles: b.scan.files.Load(),
			Bytes: b.bytes.Load(), TotalBytes: b.scan.bytes.Load(),
		})
	}
}

// collect lists the unique blocks under e, children first.
func (b *builder) collect(e *entry, seen map[cid.Cid]struct{}, out *Built) {
	for i := range e.children {
		b.collect(&e.children[i], seen, out)
	}
	for blk := range e.built.all {
		if _, twice := seen[blk.cid]; !twice {
			seen[blk.cid] = struct{}{}
			out.CIDs = append(out.CIDs, blk.cid)
			out.DAG.Blocks++
			out.DAG.Bytes += blk.size
		}
	}
}
