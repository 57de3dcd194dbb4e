//go:build unix

package engines

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"syscall"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/bench/meter"
	"github.com/holdfast-sites/holdfast/blockstore"
)

// Job is one piece of work, for a process of its own.
type Job struct {
	Work   string // a key of works
	Engine string // a Kind's name
	Stream string // the recorded blocks
	Dir    string // the engine's
	Seed   uint64 // of whatever is random
	Acked  int    // recover: as many of the first blocks were acknowledged
}

// Done is the outcome of a Job.
type Done struct {
	meter.Cost
	Opening float64 // seconds
	Blocks  int
	Bytes   int64 // of the blocks; collect: of those that stay
	Disk    int64 // bytes that the folder occupies when the engine is closed
	Extra   int   // recover: blocks that are there though no barrier acknowledged them
}

// works is what can be measured. Each opens the engine and closes it; what is
// checked besides comes after the meter was read.
var works = map[string]func(Job, *Done, io.Writer) error{
	"import":     importAll,
	"random":     func(j Job, d *Done, _ io.Writer) error { return readAll(j, d, true) },
	"sequential": func(j Job, d *Done, _ io.Writer) error { return readAll(j, d, false) },
	"collect":    collect,
	"recover":    recoverAll,
	"salvage":    salvage,
	"nothing":    readStream,
}

// Run does one job. Its progress, if it tells any, is lines on out.
func Run(j Job, out io.Writer) (d Done, err error) {
	work := works[j.Work]
	if work == nil {
		return d, errors.New("no work " + j.Work)
	}
	if err := work(j, &d, out); err != nil {
		return d, fmt.Errorf("%s: %s: %w", j.Engine, j.Work, err)
	}
	if j.Dir != "" {
		d.Disk, err = DiskUse(j.Dir)
	}
	return d, err
}

// with opens the engine and closes it.
func with(j Job, d *Done, do func(Engine) error) error {
	k, err := kindOf(j.Engine)
	if err != nil {
		return err
	}
	began := meter.Start()
	e, err := k.open(j.Dir)
	if err != nil {
		return err
	}
	d.Opening = began.Stop().Seconds
	return errors.Join(do(e), e.Close())
}

// readStream is what every import pays for getting the blocks.
func readStream(j Job, d *Done, _ io.Writer) error {
	m := meter.Start()
	err := each(j.Stream, d, func([]blocks.Block) error { return nil })
	d.Cost = m.Stop()
	return err
}

func each(stream string, d *Done, do func([]blocks.Block) error) error {
	for batch, err := range batches(stream) {
		if err != nil {
			return err
		}
		if err := do(batch); err != nil {
			return err
		}
		d.Blocks += len(batch)
		for _, b := range batch {
			d.Bytes += int64(len(b.RawData()))
		}
	}
	return nil
}

// importAll puts the stream. A seed asks for an import that is there to be
// killed: see parts.
func importAll(j Job, d *Done, out io.Writer) error {
	p := parts{out: out}
	if j.Seed != 0 {
		_, bytes, err := list(j.Stream)
		if err != nil {
			return err
		}
		p.size = bytes / 16
	}
	return with(j, d, func(e Engine) error {
		m := meter.Start()
		err := each(j.Stream, d, func(batch []blocks.Block) error {
			if err := p.next(e, d); err != nil {
				return err
			}
			return e.Put(batch)
		})
		if err == nil {
			err = e.Sync()
		}
		d.Cost = m.Stop()
		return err
	})
}

// parts gives an import a barrier after every so many bytes. It tells how many
// blocks were acknowledged after each, and half a part later once more: who
// kills the import then finds it with something in hand.
type parts struct {
	size   int64 // 0: there are none
	synced int64
	acked  int
	told   bool
	out    io.Writer
}

// next comes before each Put; d counts what was put until then.
func (p *parts) next(e Engine, d *Done) error {
	switch since := d.Bytes - p.synced; {
	case p.size == 0:
		return nil
	case since >= p.size:
		if err := e.Sync(); err != nil {
			return err
		}
		p.synced, p.acked, p.told = d.Bytes, d.Blocks, false
	case since >= p.size/2 && p.acked > 0 && !p.told:
		p.told = true
	default:
		return nil
	}
	_, err := fmt.Fprintln(p.out, p.acked)
	return err
}

// readAll reads every block and hashes it.
func readAll(j Job, d *Done, shuffled bool) error {
	cids, bytes, err := list(j.Stream)
	if err != nil {
		return err
	}
	if shuffled {
		random(j).Shuffle(len(cids), func(a, b int) { cids[a], cids[b] = cids[b], cids[a] })
	}
	runtime.GC() // of the stream, which is not the engine's
	return with(j, d, func(e Engine) error {
		m := meter.Start()
		for _, c := range cids {
			if _, err := check(e, c); err != nil {
				return err
			}
		}
		d.Cost, d.Blocks, d.Bytes = m.Stop(), len(cids), bytes
		return nil
	})
}

func random(j Job) *rand.Rand { return rand.New(rand.NewPCG(j.Seed, 0)) }

// check reads and hashes a block and tells its size.
func check(e Engine, c cid.Cid) (int, error) {
	data, err := e.Get(c.Hash())
	if err == nil {
		_, err = blockstore.CheckBlock(c, data)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c, err)
	}
	return len(data), nil
}

// collect deletes a random half, and looks afterwards that it was that half.
func collect(j Job, d *Done, _ io.Writer) error {
	cids, _, err := list(j.Stream)
	if err != nil {
		return err
	}
	random(j).Shuffle(len(cids), func(a, b int) { cids[a], cids[b] = cids[b], cids[a] })
	dead, live := cids[:len(cids)/2], cids[len(cids)/2:]
	runtime.GC()
	err = with(j, d, func(e Engine) error {
		m := meter.Start()
		for rest := dead; len(rest) > 0; {
			n := min(len(rest), batchBlocks)
			page := make([]mh.Multihash, n)
			for i, c := range rest[:n] {
				page[i] = c.Hash()
			}
			if err := e.Delete(page); err != nil {
				return err
			}
			rest = rest[n:]
		}
		err := e.Reclaim()
		d.Cost, d.Blocks = m.Stop(), len(dead)
		return err
	})
	if err != nil {
		return err
	}
	return with(j, &Done{}, func(e Engine) error {
		for _, c := range dead {
			if _, err := e.Get(c.Hash()); !errors.Is(err, errNotFound) {
				return fmt.Errorf("%s was deleted: %v", c, err)
			}
		}
		for _, c := range live {
			n, err := check(e, c)
			if err != nil {
				return err
			}
			d.Bytes += int64(n)
		}
		return nil
	})
}

// recoverAll opens what a killed import left, and fails where a block is
// missing or wrong that was acknowledged, or wrong that was not.
func recoverAll(j Job, d *Done, _ io.Writer) error {
	cids, _, err := list(j.Stream)
	if err != nil {
		return err
	}
	return with(j, d, func(e Engine) error {
		d.Peak = meter.Start().Stop().Peak
		for i, c := range cids {
			_, err := check(e, c)
			switch {
			case err == nil && i >= j.Acked:
				d.Extra++
			case errors.Is(err, errNotFound) && i >= j.Acked:
				err = nil
			}
			if err != nil {
				return err
			}
		}
		d.Blocks = j.Acked
		return nil
	})
}

// DiskUse is the bytes that a folder's files occupy.
func DiskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return bytes, err
}
