//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// row is a part of the table that can be measured alone.
type row struct {
	name, what string
	run        func(*importing, context.Context) error
}

// rows are in the order of the table.
var rows = []row{
	{"first", "publish the folder into a new home, against openssl and cp", (*importing).first},
	{"again", "publish it again: nothing changed, one file changed", (*importing).again},
	{"file", "build one large file, against openssl and cp", (*importing).file},
	{"reads", "read random blocks of 100 KB", (*importing).reads},
	{"walk", "walk and verify the folder's DAG, against openssl", (*importing).walk},
	{"car", "export the site as a CAR, import it into a new home", (*importing).car},
	{"gc", "collect a store half of whose blocks nobody keeps", (*importing).gc},
	{"open", "open a store with many blocks", (*importing).open},
	{"disk", "what the site occupies", (*importing).disk},
}

func (r row) named() string { return r.name }

// importing is the task that compares a folder's way into the store, and what
// the store can then do, with the goals that it was built for.
type importing struct {
	*bench
	rust  bool // the goals are those of a site of 33 thousand files
	table []measure
	peaks []measure // go to the end of the table

	site  *site  // see published
	store string // see million
}

// manyFiles is where the goals of the large site begin to count.
const manyFiles = 10_000

func (b *bench) importing(ctx context.Context) error {
	chosen, err := chosen(rows, b.only)
	if err != nil {
		return err
	}
	i := importing{bench: b, rust: b.files >= manyFiles}
	switch b.goals {
	case "":
	case "rust", "python":
		i.rust = b.goals == "rust"
	default:
		return errors.New("-goals takes rust or python")
	}
	for _, r := range chosen {
		fmt.Printf("%s: %s\n", r.name, r.what)
		if err := r.run(&i, ctx); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	fmt.Println()
	printGoals(append(i.table, i.peaks...))
	fmt.Println("\nFor reference, not measured here: `ipfs add` of rust-doc (33 thousand files, 544 MB) is reported to take 6 to 10 s\n" +
		"on two cores, without durability, and the same again when nothing changed.")
	return nil
}

// peakWithin is the goal for every command that takes a folder or file in.
const peakWithin = 200 // MB

// remember adds a row to the table.
func (i *importing) remember(m measure) { i.table = append(i.table, m) }

// rememberPeak adds what a command that has the goal took at most.
func (i *importing) rememberPeak(what string, peak figures) {
	i.peaks = append(i.peaks, measure{
		what: "peak memory: " + what, unit: "MB", ours: peak,
		limits: most(peakWithin), goal: fmt.Sprintf("≤ %d MB", peakWithin),
	})
}

// rememberCPU adds the processor time of a race. It has no goal; where other
// work disturbs the clock, it is what to look at.
func (i *importing) rememberCPU(what string, ours *contender, others ...*contender) {
	m := measure{what: what + ": processor time", unit: "s", ours: ours.cpu}
	for _, c := range others {
		m.anchors = append(m.anchors, anchor{c.name, c.cpu})
	}
	i.remember(m)
}

// contender is one way to do something, as a line for a shell: $DIR is the
// folder, $EXE the program, $OUT a place of its own.
type contender struct {
	name   string
	script string
	took   figures // s
	cpu    figures // s of processor time, user and system
	peak   figures // MB
}

func describe(all ...*contender) {
	for _, c := range all {
		fmt.Printf("  %-28s %s\n", c.name, c.script)
	}
}

// turn runs a contender once; a warm-up does not count. What was written before
// is on disk by then: nobody syncs at the next one's expense.
func (b *bench) turn(ctx context.Context, c *contender, counts bool, env ...string) error {
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return err
	}
	took, ended, err := b.shell(ctx, c.script, env...)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if counts {
		c.took = append(c.took, took.Seconds())
		c.cpu = append(c.cpu, (ended.UserTime() + ended.SystemTime()).Seconds())
		c.peak = append(c.peak, mb(peakOf(ended)))
	}
	return nil
}

// shell runs a script. What the system counted is of all its processes
// together, but for the memory, which is that of the largest.
func (b *bench) shell(ctx context.Context, script string, env ...string) (took time.Duration, ended *os.ProcessState, err error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Env = append(append(b.env(), "DIR="+b.dir, "EXE="+b.exe), env...)
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, nil, fmt.Errorf("%w: %s", err, strconv.Quote(errs.String()))
	}
	return time.Since(began), cmd.ProcessState, nil
}
