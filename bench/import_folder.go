//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

const (
	publishScript = `"$EXE" --home "$OUT" --json publish "$DIR" --site bench --copies 0 --network offline`
	opensslScript = `find "$DIR" -type f -print0 | xargs -0 openssl dgst -sha256`
)

// first compares a first publish, durable when it ends, with what a machine
// needs at least: to hash every byte, and to copy every byte to disk durably.
func (i *importing) first(ctx context.Context) error {
	ours := &contender{name: "publish", script: publishScript}
	hash := &contender{name: "openssl", script: opensslScript}
	disk := &contender{name: "cp + sync", script: `cp -r "$DIR" "$OUT" && sync`}
	// What many files leave is removed at the end: creating files is slow
	// where many were just removed, and that would be the next one's loss.
	if err := i.race(ctx, false, ours, hash, disk); err != nil {
		return err
	}
	m := measure{what: "first publish, durable", unit: "s", ours: ours.took, anchors: []anchor{{hash.name, hash.took}, {disk.name, disk.took}}}
	if i.rust {
		m.limits = hash.took.times(3).each(disk.took.times(1.5), func(a, b float64) float64 { return min(a, b) })
		m.goal = "≤ 1.5 × (cp + sync) and ≤ 3 × openssl"
	} else {
		m.limits = disk.took.each(disk.took, func(a, _ float64) float64 { return max(0.25, 1.5*a) })
		m.goal = "≤ 0.25 s or ≤ 1.5 × (cp + sync)"
	}
	i.remember(m)
	i.rememberCPU("first publish", ours, hash, disk)
	i.rememberPeak("first publish", ours.peak)
	return nil
}

// file compares the build of one large file of noise.
func (i *importing) file(ctx context.Context) error {
	name := filepath.Join(i.tmp, "noise")
	if err := noise(name, i.size<<20); err != nil {
		return err
	}
	folder := i.dir
	defer func() { i.dir = folder }()
	i.dir = name
	ours := &contender{name: "build", script: `"$EXE" --home "$OUT" --json build "$DIR"`}
	hash := &contender{name: "openssl", script: `openssl dgst -sha256 "$DIR"`}
	disk := &contender{name: "cp + sync", script: `cp "$DIR" "$OUT" && sync`}
	err := i.race(ctx, true, ours, hash, disk)
	if err := errors.Join(err, os.Remove(name)); err != nil {
		return err
	}
	what := fmt.Sprintf("one file of %d MiB", i.size)
	i.remember(measure{
		what: what, unit: "s", ours: ours.took,
		limits:  hash.took.times(0.5).each(disk.took, func(a, b float64) float64 { return 1.2 * max(a, b) }),
		goal:    "≤ 1.2 × max(openssl/2, cp + sync)",
		anchors: []anchor{{hash.name, hash.took}, {disk.name, disk.took}},
	})
	i.rememberCPU(what, ours, hash, disk)
	i.rememberPeak(what, ours.peak)
	return nil
}

// race has contenders take turns, so that what else the machine does falls on
// all of them. What a turn leaves is removed after it, or at the end.
func (i *importing) race(ctx context.Context, removeAtOnce bool, all ...*contender) (err error) {
	describe(all...)
	dir, err := os.MkdirTemp(i.tmp, "race")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for round := range i.rounds + 1 {
		for n, c := range all {
			out := filepath.Join(dir, fmt.Sprintf("%d-%d", round, n))
			if err := i.turn(ctx, c, round > 0, "OUT="+out); err != nil {
				return err
			}
			if removeAtOnce {
				if err := os.RemoveAll(out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// again publishes a copy of the folder into one home, over and over: once with
// nothing changed, once with a line more in one file.
func (i *importing) again(ctx context.Context) error {
	copied, home := filepath.Join(i.tmp, "again"), filepath.Join(i.tmp, "again-home")
	unchanged := &contender{name: "nothing changed", script: publishScript}
	changed := &contender{name: "one file changed", script: publishScript}
	describe(unchanged, changed)
	if _, _, err := i.shell(ctx, `cp -r "$DIR" "$OUT"`, "OUT="+copied); err != nil {
		return err
	}
	page, err := somePage(copied)
	if err != nil {
		return err
	}
	env := []string{"DIR=" + copied, "OUT=" + home}
	if err := i.turn(ctx, unchanged, false, env...); err != nil { // the first publish
		return err
	}
	for round := range i.rounds + 1 {
		if err := i.turn(ctx, unchanged, round > 0, env...); err != nil {
			return err
		}
		if err := appendTo(page, fmt.Sprintf("<!-- round %d -->\n", round)); err != nil {
			return err
		}
		if err := i.turn(ctx, changed, round > 0, env...); err != nil {
			return err
		}
	}
	limits := map[*contender]float64{unchanged: 0.35, changed: 0.4}
	for _, c := range []*contender{unchanged, changed} {
		m := measure{what: "publish again, " + c.name, unit: "s", ours: c.took}
		if i.rust {
			m.limits, m.goal = most(limits[c]), fmt.Sprintf("≤ %.2f s", limits[c])
		}
		i.remember(m)
		i.rememberPeak("publish again, "+c.name, c.peak)
	}
	return nil
}

// somePage is the first HTML file of a folder, or else its first file.
func somePage(dir string) (page string, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || !e.Type().IsRegular():
			return err
		case strings.HasSuffix(name, ".html"):
			page = name
			return fs.SkipAll
		case page == "":
			page = name
		}
		return nil
	})
	if err == nil && page == "" {
		err = errors.New("the folder has no file")
	}
	return page, err
}

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// noise writes a file that nothing compresses, the same each time.
func noise(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	_, err = io.CopyN(w, rand.NewChaCha8(seed(1)), size)
	return errors.Join(err, w.Flush(), f.Close())
}

func seed(n uint64) (s [32]byte) {
	binary.LittleEndian.PutUint64(s[:], n)
	return s
}
