package world

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// interop is the folder of the npm packages, from a package in test/.
var interop = filepath.Join("..", "interop")

// NPM is a command that runs a script with node, in test/interop, until ctx ends. Where node or
// one of the packages is missing the test skips, or fails if HOLDFAST_TEST_ALL is set.
func NPM(ctx context.Context, t *testing.T, script string, packages ...string) *exec.Cmd {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node is not installed: apt-get install nodejs npm (20 or later), then npm ci in test/interop")
	}
	for _, p := range packages {
		if _, err := os.Stat(filepath.Join(interop, "node_modules", filepath.FromSlash(p))); err != nil {
			missing(t, "npm's "+p+" is not installed: run npm ci in test/interop")
		}
	}
	script, err = filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, node, script)
	cmd.Dir = interop
	return cmd
}

// Chromium is the path of a Chromium. Where there is none the test skips, or fails if
// HOLDFAST_TEST_ALL is set.
func Chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "chromium is not installed: apt-get install chromium")
	return ""
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("HOLDFAST_TEST_ALL") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
