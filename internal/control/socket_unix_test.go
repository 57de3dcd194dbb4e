//go:build unix

package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/control"
)

func TestTheSocketsFolderIsTheUsersOwn(t *testing.T) {
	dir := shortDir(t)
	home := filepath.Join(dir, strings.Repeat("a-very-long-home/", 20))
	path, err := control.SocketPath(dir, home)
	if err != nil {
		t.Fatal(err)
	}
	if len(path) > 100 {
		t.Errorf("%d bytes: %s", len(path), path)
	}
	fi, err := os.Stat(filepath.Dir(path))
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	if again, err := control.SocketPath(dir, home+"/"); err != nil || again != path {
		t.Errorf("another spelling of the home has another socket: %s, %v", again, err)
	}
	if other, err := control.SocketPath(dir, home+"x"); err != nil || other == path {
		t.Errorf("another home has the same socket: %v", err)
	}
	link := filepath.Join(dir, "link")
	real := filepath.Join(dir, "real")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	a, err1 := control.SocketPath(dir, link)
	b, err2 := control.SocketPath(dir, real)
	if a != b || err1 != nil || err2 != nil {
		t.Errorf("a link to the home has another socket: %s %s", a, b)
	}
}

func TestAFolderThatOthersMayEnterIsRefused(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"open to others": func(p string) error { return errors.Join(os.Mkdir(p, 0o777), os.Chmod(p, 0o777)) },
		"a symlink": func(p string) error {
			return errors.Join(os.Mkdir(p+"-there", 0o700), os.Symlink(p+"-there", p))
		},
		"another user's": func(p string) error {
			if os.Getuid() != 0 {
				return os.Mkdir(p, 0o777) // only root can give a folder away
			}
			return errors.Join(os.Mkdir(p, 0o700), os.Chown(p, 65534, 65534))
		},
	} {
		dir := shortDir(t)
		if err := make(filepath.Join(dir, "holdfast")); err != nil {
			t.Fatal(err)
		}
		if _, err := control.SocketPath(dir, "/home"); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
