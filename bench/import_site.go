//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/bench/engines"
	"github.com/holdfast-sites/holdfast/bench/meter"
	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// site is the folder, published once into a home that several rows look at.
type site struct {
	home string
	Root string
}

func (s *site) blocks() string { return filepath.Join(s.home, "blocks") }

func (i *importing) published(ctx context.Context) (*site, error) {
	if i.site != nil {
		return i.site, nil
	}
	s := &site{home: filepath.Join(i.tmp, "site")}
	_, err := i.must(ctx, s, "site", "publish", i.dir, "--site", "bench", "--copies", "0", "--network", "offline")
	if err == nil {
		i.site = s
	}
	return s, err
}

// walked is what the child tells of a walk that verified everything.
type walked struct {
	meter.Cost
	Bytes int64
}

func walkChild(ctx context.Context, asked json.RawMessage) (_ any, err error) {
	var a struct{ Dir, Root string }
	if err := json.Unmarshal(asked, &a); err != nil {
		return nil, err
	}
	root, err := cid.Decode(a.Root)
	if err != nil {
		return nil, err
	}
	s, err := blockstore.OpenDisk(ctx, a.Dir, blockstore.DiskOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m := meter.Start()
	r, err := merkle.Verify(ctx, s, root, merkle.WalkOptions{})
	if err == nil && len(r.Missing)+len(r.Corrupt) > 0 {
		err = fmt.Errorf("%d blocks missing, %d corrupt", len(r.Missing), len(r.Corrupt))
	}
	return walked{m.Stop(), r.Bytes}, err
}

// walk reads and verifies every block of the site with one core and with two,
// against what openssl, which has one, does with the files.
func (i *importing) walk(ctx context.Context) error {
	s, err := i.published(ctx)
	if err != nil {
		return err
	}
	hash := &contender{name: "openssl", script: opensslScript}
	describe(hash)
	rates := [2]figures{}
	for round := range i.rounds + 1 {
		if err := i.turn(ctx, hash, round > 0); err != nil {
			return err
		}
		for n := range rates {
			var w walked
			ask := map[string]string{"Dir": s.blocks(), "Root": s.Root}
			if err := i.ask(ctx, &w, "walk", ask, fmt.Sprintf("GOMAXPROCS=%d", n+1)); err != nil {
				return err
			}
			if round > 0 {
				rates[n] = append(rates[n], mb(w.Bytes)/w.Seconds)
			}
		}
	}
	var openssl figures
	for _, took := range hash.took {
		openssl = append(openssl, mb(i.bytes)/took)
	}
	for n, share := range []float64{0.6, 1} {
		m := measure{
			what: fmt.Sprintf("walk and verify, GOMAXPROCS=%d", n+1), unit: "MB/s", ours: rates[n],
			anchors: []anchor{{"openssl", openssl}}, least: true,
		}
		if i.rust {
			m.limits, m.goal = openssl.times(share), fmt.Sprintf("≥ %.0f %% of openssl", 100*share)
		}
		i.remember(m)
	}
	return nil
}

// car takes the site out of one home and into another.
func (i *importing) car(ctx context.Context) error {
	s, err := i.published(ctx)
	if err != nil {
		return err
	}
	out := &contender{name: "export", script: `"$EXE" --home "$SITE" --json export "$ROOT" -o "$CAR" --network offline`}
	in := &contender{name: "import", script: `"$EXE" --home "$OUT" --json import "$CAR"`}
	describe(out, in)
	var size int64
	for round := range i.rounds + 1 {
		file := filepath.Join(i.tmp, fmt.Sprintf("site-%d.car", round))
		home := file + ".home"
		env := []string{"SITE=" + s.home, "ROOT=" + s.Root, "CAR=" + file, "OUT=" + home}
		if err := errors.Join(i.turn(ctx, out, round > 0, env...), i.turn(ctx, in, round > 0, env...)); err != nil {
			return err
		}
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		size = info.Size()
		if err := errors.Join(os.Remove(file), os.RemoveAll(home)); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		*contender
		what  string
		limit float64
	}{{out, "CAR export", 400}, {in, "CAR import, durable", 250}} {
		m := measure{what: c.what, unit: "MB/s", least: true}
		for _, took := range c.took {
			m.ours = append(m.ours, mb(size)/took)
		}
		if i.rust {
			m.limits, m.goal = most(c.limit), fmt.Sprintf("≥ %.0f MB/s", c.limit)
		}
		i.remember(m)
		i.peaks = append(i.peaks, measure{what: "peak memory: " + c.what, unit: "MB", ours: c.peak})
	}
	return nil
}

// disk compares what the store occupies with the bytes of the files, each
// content once.
func (i *importing) disk(ctx context.Context) error {
	s, err := i.published(ctx)
	if err != nil {
		return err
	}
	occupied, err := engines.DiskUse(s.blocks())
	if err != nil {
		return err
	}
	content, err := uniqueBytes(i.dir)
	if err != nil {
		return err
	}
	i.remember(measure{
		what: "bytes on disk / unique bytes of content", ours: figures{float64(occupied) / float64(content)},
		limits: most(1.03), goal: "≤ 1.03",
	})
	return nil
}

func uniqueBytes(dir string) (bytes int64, err error) {
	seen := map[[sha256.Size]byte]bool{}
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, f)
		if sum := [sha256.Size]byte(h.Sum(nil)); !seen[sum] {
			seen[sum] = true
			bytes += n
		}
		return err
	})
	return bytes, err
}
