//go:build unix

// Command bench measures the program as people run it: real processes,
// throw-away homes, loopback. Each figure comes with the commands that made it.
//
//	go run ./bench [-n ROUNDS] import|engines|live|gateway DIR
//	go run ./bench [-n ROUNDS] names|plan|gateway
//	go run ./bench sim [-seeds N] [-quick] [-scenario NAMES] [-svg DIR]
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

	only   string // rows of import or gateway, with commas between them; "": all
	goals  string // whose goals count: "rust" or "python"; "": by the number of files
	size   int64  // MiB of the one large file
	blocks int    // of the store that is opened and collected
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	work := run
	if len(os.Args) > 1 && os.Args[1] == "child" {
		work = func(ctx context.Context) error { return runChild(ctx, os.Args[2:]) }
	}
	if len(os.Args) > 1 && os.Args[1] == "sim" { // it has flags of its own
		work = func(ctx context.Context) error { return runSim(ctx, os.Args[2:]) }
	}
	err := work(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	b := bench{}
	tmp := flag.String("tmp", "", "where homes and copies go; default: the system's folder for temporary files")
	b.flags()
	flag.Parse()
	tasks := map[string]func(context.Context) error{"import": b.importing, "engines": b.engines, "live": b.live, "gateway": b.gateway, "names": b.names, "plan": b.plan}
	task, folders := tasks[flag.Arg(0)], 1
	switch flag.Arg(0) {
	case "names": // it writes its own
		folders = 0
		if b.rounds == 0 {
			b.rounds = namesRounds
		}
	case "plan": // it needs none
		folders = 0
	case "gateway":
		if flag.NArg() == 1 {
			task, folders = b.gatewayTable, 0
		}
	}
	if b.rounds == 0 {
		b.rounds = 5
	}
	if task == nil || flag.NArg() != 1+folders || b.rounds < 1 {
		return errors.New("usage: go run ./bench [flags] import|engines|live|gateway DIR, or go run ./bench [flags] names|plan|gateway (-h lists the flags)")
	}
	if b.tmp, err = os.MkdirTemp(*tmp, "hfb"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.tmp)) }()
	if flag.Arg(0) != "plan" {
		if err := b.program(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("machine  %d cores, %s/%s, %s\n", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	if folders > 0 {
		if err := b.measureFolder(flag.Arg(1)); err != nil {
			return err
		}
		fmt.Printf("folder   %s: %d files, %.1f MB\n", b.dir, b.files, mb(b.bytes))
	}
	fmt.Printf("rounds   %d after a warm-up, medians (least to most)\n\n", b.rounds)
	return task(ctx)
}

func (b *bench) flags() {
	flag.IntVar(&b.rounds, "n", 0, "measured rounds, after one that warms up; 0: 200 of names, else 5")
	flag.DurationVar(&b.settle, "settle", 10*time.Second, "how long a host is left alone before its memory is read")
	flag.StringVar(&b.exe, "exe", "", "measure this program instead of building it from the source here")
	flag.StringVar(&b.only, "only", "", "rows of import ("+namesOf(rows)+") or of gateway ("+namesOf(gatewayParts)+"), with commas between them")
	flag.StringVar(&b.goals, "goals", "", "whose goals import compares with: rust or python; default: by the number of files")
	flag.Int64Var(&b.size, "size", 4096, "MiB of the one large file that import builds")
	flag.IntVar(&b.blocks, "blocks", 1_000_000, "blocks of the store that import opens and collects")
}

// program builds what is measured, unless it was given.
func (b *bench) program(ctx context.Context) error {
	if b.exe != "" {
		return nil
	}
	b.exe = filepath.Join(b.tmp, "bin", "holdfast") // tmp/holdfast is the folder of sockets
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.exe, "github.com/holdfast-sites/holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return nil
}

// measureFolder takes the folder that is published, and counts what is in it.
func (b *bench) measureFolder(dir string) (err error) {
	if b.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if b.dir, err = filepath.EvalSymlinks(b.dir); err != nil {
		return err
	}
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

func mb(n int64) float64 { return float64(n) / 1e6 }
