//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/holdfast-sites/holdfast/bench/engines"
)

// trial is one engine's figures.
type trial struct {
	engines.Kind
	dir string

	took, cpu, peak, written figures // of imports
	disk                     float64 // MB

	random, sequential engines.Done
	salvaged           engines.Done
	collected          engines.Done
	killed             engines.Done
}

// engines compares ways to keep blocks with the blocks of a real folder, which
// are recorded once. Each measurement has a process of its own.
func (b *bench) engines(ctx context.Context) error {
	stream := filepath.Join(b.tmp, "stream.car")
	if err := b.ask(ctx, nil, "record", map[string]string{"Dir": b.dir, "File": stream}); err != nil {
		return err
	}
	var nothing engines.Done
	if err := b.ask(ctx, &nothing, "engine", engines.Job{Work: "nothing", Stream: stream}); err != nil {
		return err
	}
	var trials []*trial
	for _, k := range engines.Kinds {
		trials = append(trials, &trial{Kind: k})
		fmt.Printf("%-13s %s\n", k.Name, k.About)
	}
	fmt.Printf("\nstream   %d blocks, %.1f MB; reading it is part of every import: %.2f s, %.2f s of processor time\n\n",
		nothing.Blocks, mb(nothing.Bytes), nothing.Seconds, nothing.CPU)

	// The engines take turns. What a round leaves is removed at the end, since
	// removing many files slows down whoever comes next.
	for round := range b.rounds + 1 {
		for _, t := range trials {
			if err := b.engineImport(ctx, t, stream, round); err != nil {
				return err
			}
		}
	}
	for _, t := range trials {
		if err := b.engineRest(ctx, t, stream); err != nil {
			return err
		}
	}
	printTrials(trials, nothing)
	return nil
}

func (b *bench) engineImport(ctx context.Context, t *trial, stream string, round int) error {
	t.dir = filepath.Join(b.tmp, fmt.Sprintf("%s-%d", t.Name, round))
	if err := os.Mkdir(t.dir, 0o700); err != nil {
		return err
	}
	d, err := b.engineJob(ctx, t, engines.Job{Work: "import", Stream: stream, Dir: t.dir})
	if err != nil || round == 0 {
		return err
	}
	t.took, t.cpu = append(t.took, d.Seconds), append(t.cpu, d.CPU)
	t.peak, t.written = append(t.peak, mb(d.Peak)), append(t.written, float64(d.Written)/float64(d.Bytes))
	t.disk = mb(d.Disk)
	return nil
}

func (b *bench) engineJob(ctx context.Context, t *trial, j engines.Job) (d engines.Done, err error) {
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return d, err
	}
	j.Engine = t.Name
	return d, b.ask(ctx, &d, "engine", j)
}

// engineRest reads the last round's import and collects half of it; then it
// kills another one.
func (b *bench) engineRest(ctx context.Context, t *trial, stream string) error {
	for _, w := range []struct {
		work string
		into *engines.Done
	}{{"random", &t.random}, {"sequential", &t.sequential}, {"salvage", &t.salvaged}, {"collect", &t.collected}} {
		d, err := b.engineJob(ctx, t, engines.Job{Work: w.work, Stream: stream, Dir: t.dir, Seed: 1})
		if err != nil {
			return err
		}
		*w.into = d
	}
	j := engines.Job{Work: "import", Engine: t.Name, Stream: stream, Dir: filepath.Join(b.tmp, t.Name+"-killed"), Seed: 1}
	if err := os.Mkdir(j.Dir, 0o700); err != nil {
		return err
	}
	last, err := b.kill(ctx, 12, "engine", j) // of at most 30 lines
	if err != nil {
		return err
	}
	j.Work = "recover"
	if j.Acked, err = strconv.Atoi(last); err != nil {
		return fmt.Errorf("%s: killed too late: %w", t.Name, err)
	}
	t.killed, err = b.engineJob(ctx, t, j)
	return err
}

// printTrials prints the table, an engine a column.
func printTrials(trials []*trial, stream engines.Done) {
	stored := mb(stream.Bytes)
	rate := func(d engines.Done) string {
		return fmt.Sprintf("%.0f (%.0f MB/s)", float64(d.Blocks)/d.Seconds, mb(d.Bytes)/d.Seconds)
	}
	rows := []struct {
		what string
		cell func(*trial) string
	}{
		{"import, durable, s", func(t *trial) string {
			s := t.took.sorted()
			return fmt.Sprintf("%.2f (%.2f to %.2f)", s.median(), s[0], s[len(s)-1])
		}},
		{"import, MB/s", func(t *trial) string { return fmt.Sprintf("%.0f", stored/t.took.median()) }},
		{"import, processor time, s", func(t *trial) string { return fmt.Sprintf("%.2f", t.cpu.median()) }},
		{"import, peak memory, MB", func(t *trial) string { return fmt.Sprintf("%.0f", t.peak.median()) }},
		{"written / stored", func(t *trial) string { return fmt.Sprintf("%.2f", t.written.median()) }},
		{"on disk / stored", func(t *trial) string { return fmt.Sprintf("%.3f", t.disk/stored) }},
		{"random reads, blocks/s", func(t *trial) string { return rate(t.random) }},
		{"  processor time, s", func(t *trial) string { return fmt.Sprintf("%.2f", t.random.CPU) }},
		{"reads in order, blocks/s", func(t *trial) string { return rate(t.sequential) }},
		{"  processor time, s", func(t *trial) string { return fmt.Sprintf("%.2f", t.sequential.CPU) }},
		{"reads, peak memory, MB", func(t *trial) string { return fmt.Sprintf("%.0f", mb(t.random.Peak)) }},
		{"delete half and reclaim, s", func(t *trial) string { return fmt.Sprintf("%.2f", t.collected.Seconds) }},
		{"  processor time, s", func(t *trial) string { return fmt.Sprintf("%.2f", t.collected.CPU) }},
		{"  peak memory, MB", func(t *trial) string { return fmt.Sprintf("%.0f", mb(t.collected.Peak)) }},
		{"  on disk / left", func(t *trial) string {
			return fmt.Sprintf("%.3f", float64(t.collected.Disk)/float64(t.collected.Bytes))
		}},
		{"killed: opens in, ms", func(t *trial) string { return fmt.Sprintf("%.1f", t.killed.Opening*1000) }},
		{"  acknowledged, all there", func(t *trial) string { return fmt.Sprint(t.killed.Blocks) }},
		{"  there besides", func(t *trial) string { return fmt.Sprint(t.killed.Extra) }},
		{"opens full in, ms", func(t *trial) string { return fmt.Sprintf("%.1f", t.random.Opening*1000) }},
		{"recovered without us, blocks", func(t *trial) string { return fmt.Sprintf("%d of %d", t.salvaged.Blocks, stream.Blocks) }},
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "|")
	for _, t := range trials {
		fmt.Fprintf(w, "\t| %s", t.Name)
	}
	fmt.Fprintf(w, "\t|\n|---")
	for range trials {
		fmt.Fprint(w, "\t|---")
	}
	fmt.Fprint(w, "\t|\n")
	for _, row := range rows {
		fmt.Fprintf(w, "| %s", row.what)
		for _, t := range trials {
			fmt.Fprintf(w, "\t| %s", row.cell(t))
		}
		fmt.Fprint(w, "\t|\n")
	}
	w.Flush()
	fmt.Println("\nwhat a person recovers with standard tools, were this program gone")
	for _, t := range trials {
		fmt.Printf("  %-13s %s\n", t.Name, t.Recover)
	}
}
