//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// contender is one way to go over all of the folder.
type contender struct {
	name   string
	script string // for sh; $DIR is the folder, $EXE the program, $OUT a place of its own
	took   figures
	peak   figures
}

// importing compares `build` with what a machine needs at least: to hash every
// byte, and to copy every byte to disk durably. The contenders take turns, so
// that what else the machine does falls on all of them.
func (b *bench) importing(ctx context.Context) error {
	all := []*contender{
		{name: "holdfast build", script: `"$EXE" --home "$OUT" --json build "$DIR"`},
		{name: "openssl dgst", script: `find "$DIR" -type f -print0 | xargs -0 openssl dgst -sha256`},
		{name: "cp and sync", script: `cp -r "$DIR" "$OUT" && sync`},
	}
	fmt.Println("commands")
	for _, c := range all {
		fmt.Printf("  %-16s %s\n", c.name, c.script)
	}
	for round := range b.rounds + 1 {
		for i, c := range all {
			took, peak, err := b.shell(ctx, c.script, filepath.Join(b.tmp, fmt.Sprintf("%d-%d", round, i)))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.took, c.peak = append(c.took, took.Seconds()), append(c.peak, mb(peak))
			}
		}
	}
	fmt.Println("\ntime")
	for _, c := range all {
		c.took.line(c.name, "s")
	}
	fmt.Println("\nholdfast build, round by round, as a multiple of")
	for _, c := range all[1:] {
		var ratios figures
		for i := range c.took {
			ratios = append(ratios, all[0].took[i]/c.took[i])
		}
		ratios.line(c.name, "×")
	}
	fmt.Println("\npeak memory")
	all[0].peak.line(all[0].name, "MB")
	return nil
}

// shell runs a script and says how long it took and the most memory that the
// largest of its processes had, in bytes.
func (b *bench) shell(ctx context.Context, script, out string) (took time.Duration, peak int64, err error) {
	// What was written before is not to be synced at the next one's expense.
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(out)
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(b.env(), "DIR="+b.dir, "EXE="+b.exe, "OUT="+out)
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, strconv.Quote(errs.String()))
	}
	return time.Since(began), peakOf(cmd.ProcessState), nil
}
