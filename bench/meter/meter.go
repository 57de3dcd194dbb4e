//go:build unix

// Package meter says what a piece of work cost the process that does it. A
// process of its own for each piece makes the figures its own.
package meter

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cost of a piece of work.
type Cost struct {
	Seconds float64
	CPU     float64 // seconds of processor time, user and system
	Written int64   // bytes that were sent to the disk; 0 where the system doesn't tell
	Peak    int64   // bytes: the most memory that the process had since it began
}

// Meter has run since Start.
type Meter struct {
	began   time.Time
	cpu     float64
	written int64
}

// Start begins a measurement.
func Start() Meter { return Meter{time.Now(), cpu(), written()} }

// Stop reads the meter, which goes on.
func (m Meter) Stop() Cost {
	return Cost{
		Seconds: time.Since(m.began).Seconds(),
		CPU:     cpu() - m.cpu,
		Written: written() - m.written,
		Peak:    peak(),
	}
}

func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func written() int64 { return field("/proc/self/io", "write_bytes:") }

// peak prefers what Linux says of this program alone: what getrusage says was
// inherited, where whoever started it had more memory.
func peak() int64 {
	if kib := field("/proc/self/status", "VmHWM:"); kib > 0 {
		return kib << 10
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return Resident(&u)
}

// Resident is the largest resident set of a process that ended, in bytes.
func Resident(u *syscall.Rusage) int64 {
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss) // bytes there, KiB elsewhere
	}
	return int64(u.Maxrss) << 10
}

// field is the number behind a name in one of Linux's tables; 0 where there is none.
func field(file, name string) int64 {
	table, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(table)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n
		}
	}
	return 0
}
