package author

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
)

// LyingCache is what a build of a site's folder remembered that was not so.
type LyingCache struct {
	Site  string   `json:"site"`
	Dir   string   `json:"dir"`
	Paths []string `json:"paths"` // that would have been published as they are not, at most 100
}

// maxLies bounds the paths that are told of one cache.
const maxLies = 100

// CheckCaches reads the folders of all sites, and compares with what the next
// build would believe without reading them. A cache that lies is removed, so that the next
// build reads everything. A folder that is gone, can't be built, or changes all the time is
// passed over.
func (a *Author) CheckCaches(ctx context.Context, report func(Event)) ([]LyingCache, error) {
	lies := []LyingCache{}
	if a.Cache == "" {
		return lies, nil
	}
	sites, err := a.State.Sites(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range sites {
		for _, mode := range []merkle.SymlinkMode{"", merkle.SymlinksFollow, merkle.SymlinksKeep} {
			paths, err := a.checkCache(ctx, s, mode, report)
			if ctx.Err() != nil {
				return lies, ctx.Err()
			}
			if err != nil {
				a.Log.Info("what builds remember of a folder was not checked", "dir", s.Dir, "err", err)
			}
			if len(paths) > 0 {
				lies = append(lies, LyingCache{Site: s.Alias, Dir: s.Dir, Paths: paths})
			}
		}
	}
	return lies, nil
}

// checkCache is the paths about which the cache of a folder lies. Its file is
// gone then.
func (a *Author) checkCache(ctx context.Context, s state.Site, mode merkle.SymlinkMode, report func(Event)) ([]string, error) {
	if s.Dir == "" {
		return nil, nil
	}
	opts := merkle.BuildOptions{Symlinks: mode}
	cache := a.buildCache(s.Dir, opts)
	if _, err := os.Stat(cache); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	done, err := a.turns.take(ctx, s.Alias) // a publish writes the same file
	if err != nil {
		return nil, err
	}
	defer done()
	session, err := a.Store.Begin(ctx, "")
	if err != nil {
		return nil, err
	}
	defer session.Close()
	build := func(into blockstore.Session, cache string) (cid.Cid, error) {
		opts := opts
		opts.Cache = cache
		opts.Progress = func(g merkle.Progress) { report(Event{Step: "cache", Done: g.Bytes, Total: g.TotalBytes}) }
		b, err := merkle.Build(ctx, into, s.Dir, opts)
		return b.Root, err
	}
	before, err := build(dry{session}, "")
	if err != nil {
		return nil, err
	}
	believed, err := build(dry{session}, cache)
	if err != nil || believed.Equals(before) {
		return nil, err
	}
	// Else the folder may have changed between the two.
	after, err := build(session, "")
	if err != nil || !after.Equals(before) {
		return nil, err
	}
	return a.lies(ctx, believed, after), os.Remove(cache)
}

// dry is a session into which nothing is put.
type dry struct{ blockstore.Session }

// Put implements blockstore.Session.
func (dry) Put(context.Context, ...blockstore.Block) (blockstore.Added, error) {
	return blockstore.Added{}, nil
}

// lies is the paths in which what was believed differs from what is.
func (a *Author) lies(ctx context.Context, believed, is cid.Cid) []string {
	paths := []string{}
	for c, err := range merkle.Diff(ctx, a.Store, believed, is) {
		if err != nil || len(paths) == maxLies {
			break
		}
		paths = append(paths, c.Path)
	}
	if len(paths) == 0 {
		paths = append(paths, ".")
	}
	return paths
}
