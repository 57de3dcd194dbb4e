package author

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// syncEvery is how much is written between two syncs, in bytes.
const syncEvery = 32 << 20

// durableFile writes a file that is to be on stable storage when it is done. It
// syncs in the background from the beginning, so that the disk is at work while
// the next blocks are read and hashed, and not only afterwards.
//
// It owns f. One goroutine at a time may call its methods; whoever makes one
// closes it.
type durableFile struct {
	f interface {
		io.WriteCloser
		Sync() error
	}
	since int64 // bytes written since a sync began

	wg   sync.WaitGroup
	busy sync.Mutex // held while a sync runs
	err  error      // of the sync that failed, after which there is no other; guarded by busy
}

// Write implements io.Writer. Where a sync has failed, one of the next writes
// fails with its error, though all of p was taken: what is to come would be for nothing.
func (d *durableFile) Write(p []byte) (int, error) {
	n, err := d.f.Write(p)
	d.since += int64(n)
	if err != nil || d.since < syncEvery || !d.busy.TryLock() {
		return n, err
	}
	if d.err != nil {
		defer d.busy.Unlock()
		return n, d.err
	}
	d.since = 0
	d.wg.Go(func() {
		defer d.busy.Unlock()
		d.err = d.f.Sync()
	})
	return n, nil
}

// finish makes everything durable that was written. A sync that failed on the way
// counts, and is not tried again: the system may have dropped what it could not
// write, and a second sync that succeeds proves nothing.
func (d *durableFile) finish() error {
	d.wg.Wait()
	if d.err != nil {
		return d.err
	}
	return d.f.Sync()
}

// close ends the file, finished or not, when no sync runs any more. What finish
// has not made durable is of no use.
func (d *durableFile) close() error {
	d.wg.Wait()
	return d.f.Close()
}

// syncDir makes the names in a folder durable, as far as it can be done at all: not
// on Windows, not on some network shares, and not where the folder can't be listed.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	for _, cannot := range []error{fs.ErrPermission, syscall.EINVAL, syscall.ENOTSUP} {
		if errors.Is(err, cannot) {
			return nil
		}
	}
	return err
}
