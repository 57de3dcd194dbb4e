package blockstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The ledger is a small file beside the database which says how many changes
// have been made to what is kept. A database that knows of fewer has lost some
// (a damaged index that reads as a shorter one) and must not be taken for a
// store in which nobody keeps anything: the next collection would free it all.
//
// It is written after the change is durable, so it is never ahead of a good
// database. Format, three lines of text:
//
//	holdfast-blocks 1
//	changes N
//	crc32c XXXXXXXX (of the lines above)
const ledgerFormat = "holdfast-blocks 1\nchanges %d\n"

const maxLedger = 128

// readLedger is 0 where there is no ledger (nothing was ever kept).
func readLedger(fsys vfs.FS, dir string) (uint64, error) {
	f, err := fsys.Open(fsys.PathJoin(dir, "ledger"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLedger+1))
	if err != nil {
		return 0, err
	}
	return parseLedger(string(b))
}

func parseLedger(s string) (n uint64, err error) {
	var format int
	if _, err := fmt.Sscanf(s, "holdfast-blocks %d\n", &format); err == nil && format > 1 {
		return 0, fmt.Errorf("the store has format %d, which is newer than this program", format)
	}
	_, err = fmt.Sscanf(s, ledgerFormat, &n)
	if err != nil || s != formatLedger(n) {
		return 0, fmt.Errorf("%w: the ledger is damaged: %.128q", ErrCorrupt, s)
	}
	return n, nil
}

func formatLedger(n uint64) string {
	s := fmt.Sprintf(ledgerFormat, n)
	return s + fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(s), castagnoli))
}

func writeLedger(fsys vfs.FS, dir string, n uint64) (err error) {
	name := fsys.PathJoin(dir, "ledger")
	f, err := fsys.Create(name+".new", "holdfast-ledger")
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(formatLedger(n)))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}
