//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/bench/engines"
	"github.com/holdfast-sites/holdfast/bench/meter"
	"github.com/holdfast-sites/holdfast/blockstore"
)

const (
	readBlocks = 2000 // of readSize: more than any cache of ours
	readSize   = 100_000
	readTimes  = 10_000

	smallSize = 1 << 10 // bytes of a block of the store with very many

	kept, released = "kept", "released" // the owners; each has half of the blocks
)

// filling describes a store of noise.
type filling struct {
	Dir    string
	Blocks int
	Size   int // bytes of each
}

// openFilling opens the store that a child is asked to fill or to read from.
func openFilling(ctx context.Context, asked json.RawMessage) (f filling, s blockstore.Store, err error) {
	if err := json.Unmarshal(asked, &f); err != nil {
		return f, nil, err
	}
	s, err = blockstore.OpenDisk(ctx, f.Dir, blockstore.DiskOptions{})
	return f, s, err
}

// fillChild makes a store half of whose blocks each of two owners keeps.
func fillChild(ctx context.Context, asked json.RawMessage) (_ any, err error) {
	f, s, err := openFilling(ctx, asked)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	session, err := s.Begin(ctx, "")
	if err != nil {
		return nil, err
	}
	cids, err := f.put(ctx, session)
	for n, owner := range []string{kept, released} {
		// Turn about, so that no file has all of what one of them keeps.
		var own []cid.Cid
		for i := n; i < len(cids); i += 2 {
			own = append(own, cids[i])
		}
		if err == nil {
			err = session.Keep(ctx, owner, own[0], slices.Values(own))
		}
	}
	return nil, errors.Join(err, session.Close())
}

func (f filling) put(ctx context.Context, into blockstore.Session) (cids []cid.Cid, err error) {
	noise := rand.NewChaCha8(seed(2))
	raw := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}
	perPut := max(1, 1<<20/f.Size)
	for len(cids) < f.Blocks {
		batch := make([]blockstore.Block, min(perPut, f.Blocks-len(cids)))
		for i := range batch {
			data := make([]byte, f.Size)
			_, _ = noise.Read(data) // never fails
			if batch[i], err = blockstore.NewBlock(raw, data); err != nil {
				return nil, err
			}
			cids = append(cids, batch[i].Cid())
		}
		if _, err := into.Put(ctx, batch...); err != nil {
			return nil, err
		}
	}
	return cids, nil
}

// readsChild reads blocks in random order, each hashed by the store.
func readsChild(ctx context.Context, asked json.RawMessage) (_ any, err error) {
	f, s, err := openFilling(ctx, asked)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var cids []cid.Cid
	for e, err := range s.Enumerate(ctx, "") {
		if err != nil {
			return nil, err
		}
		cids = append(cids, e.CID)
	}
	if len(cids) != f.Blocks {
		return nil, fmt.Errorf("%d blocks, want %d", len(cids), f.Blocks)
	}
	order := rand.New(rand.NewPCG(1, 0))
	m := meter.Start()
	for range readTimes {
		if _, err := s.Get(ctx, cids[order.IntN(len(cids))]); err != nil {
			return nil, err
		}
	}
	return m.Stop(), nil
}

func (i *importing) reads(ctx context.Context) error {
	f := filling{Dir: filepath.Join(i.tmp, "reads"), Blocks: readBlocks, Size: readSize}
	if err := i.ask(ctx, nil, "fill", f); err != nil {
		return err
	}
	m := measure{what: "random reads of 100 KB, warm, verified", unit: "/s", limits: most(5000), goal: "≥ 5000 /s on one core", least: true}
	cpu := measure{what: "one of them: processor time", unit: "µs"}
	for round := range i.rounds + 1 {
		var c meter.Cost
		if err := i.ask(ctx, &c, "reads", f, "GOMAXPROCS=1"); err != nil {
			return err
		}
		if round > 0 {
			m.ours = append(m.ours, readTimes/c.Seconds)
			cpu.ours = append(cpu.ours, c.CPU/readTimes*1e6)
		}
	}
	i.table = append(i.table, m, cpu)
	return nil
}

// million is a store with that many blocks, made once.
func (i *importing) million(ctx context.Context) (dir string, err error) {
	if i.store == "" {
		dir := filepath.Join(i.tmp, "million")
		if err := i.ask(ctx, nil, "fill", filling{Dir: dir, Blocks: i.blocks, Size: smallSize}); err != nil {
			return "", err
		}
		i.store = dir
	}
	return i.store, nil
}

// opened is what the child tells of a store that it opened, and collected if it was to.
type opened struct {
	meter.Cost         // of collecting
	Opening    float64 // seconds
	blockstore.Collected
}

func openChild(ctx context.Context, asked json.RawMessage) (_ any, err error) {
	var a struct {
		Dir     string
		Collect bool
	}
	if err := json.Unmarshal(asked, &a); err != nil {
		return nil, err
	}
	var o opened
	m := meter.Start()
	s, err := blockstore.OpenDisk(ctx, a.Dir, blockstore.DiskOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	o.Opening = m.Stop().Seconds
	if !a.Collect {
		return o, nil
	}
	roots, err := s.Kept(ctx, released)
	for _, root := range roots {
		if err == nil {
			err = s.Release(ctx, released, root)
		}
	}
	if err != nil {
		return nil, err
	}
	m = meter.Start()
	o.Collected, err = s.Collect(ctx, blockstore.CollectOptions{})
	o.Cost = m.Stop()
	return o, err
}

func (i *importing) open(ctx context.Context) error {
	dir, err := i.million(ctx)
	if err != nil {
		return err
	}
	m := measure{what: fmt.Sprintf("open a store of %d blocks", i.blocks), unit: "ms", limits: most(300), goal: "< 300 ms"}
	for round := range i.rounds + 1 {
		var o opened
		if err := i.ask(ctx, &o, "open", map[string]any{"Dir": dir}); err != nil {
			return err
		}
		if round > 0 {
			m.ours = append(m.ours, o.Opening*1000)
		}
	}
	i.remember(m)
	return nil
}

// gc collects a copy of the store after one owner let go of his half.
func (i *importing) gc(ctx context.Context) error {
	full, err := i.million(ctx)
	if err != nil {
		return err
	}
	took := measure{
		what: fmt.Sprintf("GC of %d blocks, half dead", i.blocks), unit: "s",
		limits: most(60), goal: "≤ 60 s",
	}
	cpu := measure{what: "GC: processor time", unit: "s"}
	peak := measure{what: "peak memory: GC", unit: "MB", limits: most(300), goal: "≤ 300 MB"}
	left := measure{what: "after GC, bytes on disk / bytes of blocks"}
	for round := range i.rounds + 1 {
		dir := filepath.Join(i.tmp, fmt.Sprintf("gc-%d", round))
		if _, _, err := i.shell(ctx, `cp -r "$FULL" "$OUT" && sync`, "FULL="+full, "OUT="+dir); err != nil {
			return err
		}
		var o opened
		if err := i.ask(ctx, &o, "open", map[string]any{"Dir": dir, "Collect": true}); err != nil {
			return err
		}
		if int(o.Collected.Blocks) != i.blocks/2 {
			return fmt.Errorf("%d blocks were freed, not half of %d", o.Collected.Blocks, i.blocks)
		}
		occupied, err := engines.DiskUse(dir)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
		if round > 0 {
			took.ours, peak.ours = append(took.ours, o.Cost.Seconds), append(peak.ours, mb(o.Peak))
			cpu.ours = append(cpu.ours, o.CPU)
			left.ours = append(left.ours, float64(occupied)/float64((i.blocks-i.blocks/2)*smallSize))
		}
	}
	i.table = append(i.table, took, cpu, left)
	i.peaks = append(i.peaks, peak)
	return nil
}
