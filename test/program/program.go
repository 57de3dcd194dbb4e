// Package program builds the program and runs it as processes, for tests. It knows nothing of what they do.
package program

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is for what takes a second or two on a machine that isn't busy.
const Patience = 2 * time.Minute

// exe is the program, built for the first test that needs it.
var exe struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Main is TestMain of a package whose tests run the program.
func Main(m *testing.M) {
	code := m.Run()
	if exe.dir != "" {
		os.RemoveAll(exe.dir)
	}
	os.Exit(code)
}

// Path is where the program is.
func Path(t *testing.T) string {
	t.Helper()
	exe.once.Do(func() {
		if exe.dir, exe.err = os.MkdirTemp("", "holdfast-program-"); exe.err != nil {
			return
		}
		if exe.err = lookAtSource(); exe.err != nil {
			return
		}
		exe.path = filepath.Join(exe.dir, "holdfast")
		out, err := exec.Command("go", "build", "-o", exe.path, "github.com/holdfast-sites/holdfast/cmd/holdfast").CombinedOutput()
		if err != nil {
			exe.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if exe.err != nil {
		t.Fatal(exe.err)
	}
	return exe.path
}

// lookAtSource reads the module's folders. The go command takes a test's earlier result for good while nothing has changed
// that the test has read: without this it would be that of another program.
func lookAtSource() error {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
}

// Process is a command that goes on until it is ended.
type Process struct {
	Cmd *exec.Cmd
	// Done is closed when the process has ended and what it wrote is read.
	Done chan struct{}
}

// errSilent is of a process that prints nothing, or not in time.
var errSilent = errors.New("it printed no line")

// Start starts a command, which ends with the test, and waits for the first line that it prints. What it
// prints after that is thrown away. A process that comes with an error was started even so, unless it is nil.
func Start(t *testing.T, cmd *exec.Cmd) (p *Process, line []byte, err error) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	p = &Process{Cmd: cmd, Done: make(chan struct{})}
	t.Cleanup(p.Kill)
	first := make(chan []byte, 1)
	go func() { // ends with the process
		defer close(p.Done)
		lines := bufio.NewScanner(out)
		if lines.Scan() {
			first <- bytes.Clone(lines.Bytes())
		}
		close(first)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	select {
	case line := <-first:
		if line == nil {
			return p, nil, errSilent
		}
		return p, line, nil
	case <-time.After(Patience):
		return p, nil, fmt.Errorf("%w within %s", errSilent, Patience)
	}
}

// Kill ends the process as a power cut would, and returns when it has ended.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Done
}

// Ended tells whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}
