//go:build unix

package engines

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	blocks "github.com/ipfs/go-block-format"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"
)

const (
	bigFrom = 64 << 10 // bytes; a block of this size has a file to itself
	syncers = 8        // files that are synced at once: the disk gathers them
)

// mixed has small blocks in a database and each big one in a file, named after
// its multihash in hex, which is written under another name first.
type mixed struct {
	small   *tables
	dir     string
	pending map[string]string // multihash -> the file's name until the barrier
	next    int
}

func openMixed(dir string) (Engine, error) {
	m := &mixed{dir: filepath.Join(dir, "files"), pending: map[string]string{}}
	if err := os.RemoveAll(m.pendingDir()); err != nil { // what no barrier acknowledged
		return nil, err
	}
	if err := os.MkdirAll(m.pendingDir(), 0o700); err != nil {
		return nil, err
	}
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(m.dir, hex.EncodeToString([]byte{byte(i)})), 0o700); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(syncPath(dir), syncPath(m.dir)); err != nil {
		return nil, err
	}
	var err error
	m.small, err = openTables(filepath.Join(dir, "db"))
	return m, err
}

func (m *mixed) pendingDir() string { return filepath.Join(m.dir, "pending") }

func (m *mixed) path(h mh.Multihash) string {
	name := hex.EncodeToString(h)
	return filepath.Join(m.dir, name[len(name)-2:], name)
}

func (m *mixed) Put(blks []blocks.Block) error {
	var small []blocks.Block
	for _, b := range blks {
		if len(b.RawData()) < bigFrom {
			small = append(small, b)
			continue
		}
		if err := m.putFile(b); err != nil {
			return err
		}
	}
	return m.small.Put(small)
}

func (m *mixed) putFile(b blocks.Block) error {
	h := b.Cid().Hash()
	if _, ok := m.pending[string(h)]; ok {
		return nil
	}
	if _, err := os.Lstat(m.path(h)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.next++
	name := filepath.Join(m.pendingDir(), strconv.Itoa(m.next))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.RawData())
	writeBehind(f, 0, int64(len(b.RawData())))
	m.pending[string(h)] = name
	return errors.Join(err, f.Close())
}

func (m *mixed) Sync() error {
	var group errgroup.Group
	group.SetLimit(syncers)
	for _, name := range m.pending {
		group.Go(func() error { return syncPath(name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	dirs := map[string]bool{}
	for h, name := range m.pending {
		to := m.path(mh.Multihash(h))
		if err := os.Rename(name, to); err != nil {
			return err
		}
		dirs[filepath.Dir(to)] = true
	}
	clear(m.pending)
	for dir := range dirs {
		group.Go(func() error { return syncPath(dir) })
	}
	return errors.Join(group.Wait(), m.small.Sync())
}

func (m *mixed) Get(h mh.Multihash) ([]byte, error) {
	if name, ok := m.pending[string(h)]; ok {
		return os.ReadFile(name)
	}
	// Most blocks are small; a filter in memory makes the vain look cheap.
	data, err := m.small.Get(h)
	if errors.Is(err, errNotFound) {
		if data, err = os.ReadFile(m.path(h)); errors.Is(err, fs.ErrNotExist) {
			err = errNotFound
		}
	}
	return data, err
}

func (m *mixed) Delete(hs []mh.Multihash) error {
	for _, h := range hs {
		name, ok := m.pending[string(h)]
		if !ok {
			name = m.path(h)
		}
		delete(m.pending, string(h))
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return m.small.Delete(hs)
}

func (m *mixed) Reclaim() error { return errors.Join(m.Sync(), m.small.Reclaim()) }

func (m *mixed) Close() error { return errors.Join(m.Sync(), m.small.Close()) }
