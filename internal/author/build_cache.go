package author

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

const (
	buildCachePrefix = "build-"
	// maxBuildCaches is how many folders' builds are remembered: those built last.
	maxBuildCaches = 32
)

// buildFolder is merkle.Build with what the cache remembers of the folder. A
// cache that can't be kept costs time at the next build, and is no error.
func (a *Author) buildFolder(ctx context.Context, into blockstore.Session, dir string, opts merkle.BuildOptions) (merkle.Built, error) {
	opts.Cache = a.buildCache(dir, opts)
	b, err := merkle.Build(ctx, into, dir, opts)
	if err != nil || opts.Cache == "" {
		return b, err
	}
	if b.CacheErr != nil {
		a.Log.Warn("the next build of this folder will read all of it", "err", b.CacheErr)
		return b, nil
	}
	now := time.Now() // as file times are, whatever a.Now says
	if err := errors.Join(os.Chtimes(opts.Cache, now, now), forgetBuilds(a.Cache)); err != nil {
		a.Log.Warn("caches of old builds may be left", "err", err)
	}
	return b, nil
}

// buildCache is the file that remembers builds of the folder with these
// options; empty where nothing is remembered.
func (a *Author) buildCache(dir string, o merkle.BuildOptions) string {
	if a.Cache == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", dir, o.Profile, o.Symlinks))
	return filepath.Join(a.Cache, buildCachePrefix+hex.EncodeToString(sum[:16]))
}

// forgetBuilds removes the caches of all but the folders that were built last.
func forgetBuilds(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var caches []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), buildCachePrefix) {
			caches = append(caches, info)
		}
	}
	slices.SortFunc(caches, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, c := range caches[min(len(caches), maxBuildCaches):] {
		if err := os.Remove(filepath.Join(dir, c.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
