//go:build unix

// Command bench measures the program as people run it: real processes,
// throw-away homes, loopback. Each figure comes with the commands that made it.
//
//	go run ./bench [-n ROUNDS] import|live|gateway DIR
//
// See README.md beside it. It needs Go, a POSIX shell and, for import, openssl.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// bench is one run: the program under measurement, the folder, and where homes go.
type bench struct {
	exe    string // the program
	dir    string // what is published
	tmp    string
	rounds int
	settle time.Duration
	files  int
	bytes  int64
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	b := bench{}
	flag.IntVar(&b.rounds, "n", 5, "measured rounds, after one that warms up")
	flag.DurationVar(&b.settle, "settle", 10*time.Second, "how long a host is left alone before its memory is read")
	exe := flag.String("exe", "", "measure this program instead of building it from the source here")
	tmp := flag.String("tmp", "", "where homes and copies go; default: the system's folder for temporary files")
	flag.Parse()
	tasks := map[string]func(context.Context) error{"import": b.importing, "live": b.live, "gateway": b.gateway}
	task := tasks[flag.Arg(0)]
	if task == nil || flag.NArg() != 2 || b.rounds < 1 {
		return errors.New("usage: go run ./bench [flags] import|live|gateway DIR (-h lists the flags)")
	}
	if b.dir, err = filepath.Abs(flag.Arg(1)); err != nil {
		return err
	}
	if b.dir, err = filepath.EvalSymlinks(b.dir); err != nil {
		return err
	}
	if b.tmp, err = os.MkdirTemp(*tmp, "hfb"); err != nil {
		return err
	}
	defer os.RemoveAll(b.tmp)
	if err := b.measureFolder(); err != nil {
		return err
	}
	if b.exe = *exe; b.exe == "" {
		b.exe = filepath.Join(b.tmp, "bin", "holdfast") // tmp/holdfast is the folder of sockets
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.exe, "github.com/holdfast-sites/holdfast/cmd/holdfast")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build: %w", err)
		}
	}
	fmt.Printf("machine  %d cores, %s/%s, %s\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Printf("folder   %s: %d files, %.1f MB\n", b.dir, b.files, mb(b.bytes))
	fmt.Printf("rounds   %d after a warm-up, medians (least to most)\n\n", b.rounds)
	return task(ctx)
}

func (b *bench) measureFolder() error {
	return filepath.WalkDir(b.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.files++
		b.bytes += info.Size()
		return nil
	})
}

// figures is one quantity over the rounds.
type figures []float64

func (f figures) sorted() figures {
	s := slices.Clone(f)
	slices.Sort(s)
	return s
}

func (f figures) median() float64 { return f.at(0.5) }

// at is a quantile, interpolated.
func (f figures) at(q float64) float64 {
	s := f.sorted()
	if len(s) == 0 {
		return 0
	}
	x := q * float64(len(s)-1)
	i := int(x)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (s[i+1]-s[i])*(x-float64(i))
}

// line prints a quantity.
func (f figures) line(what, unit string) {
	s := f.sorted()
	fmt.Printf("  %-44s %8.2f %-3s (%.2f to %.2f)\n", what, s.median(), unit, s[0], s[len(s)-1])
}

func mb(n int64) float64 { return float64(n) / 1e6 }
