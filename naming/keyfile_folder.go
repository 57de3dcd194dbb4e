package naming

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// checksModes is false where the system has no such file modes.
const checksModes = runtime.GOOS != "windows"

// tempPrefix begins the names of files that are being written. What a process leaves behind that was killed then may
// hold a key, so it is removed once it is older than staleAfter.
const (
	tempPrefix = ".new-"
	staleAfter = time.Hour
)

// keyFolder is a folder (0700) of small secret files (0600), each of which appears, changes and goes in one step, durably.
type keyFolder struct {
	dir string
	// before is called before each step that changes something; nil but in tests, which end the process there.
	before func()
}

// openKeyFolder makes the folder where it doesn't exist, and closes it to other users where it is not.
func openKeyFolder(dir string) (keyFolder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keyFolder{}, fmt.Errorf("opening the keyring: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return keyFolder{}, fmt.Errorf("opening the keyring: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && checksModes {
		if err := os.Chmod(dir, 0o700); err != nil {
			return keyFolder{}, fmt.Errorf("closing the keyring to other users: %w", err)
		}
	}
	f := keyFolder{dir: dir}
	f.sweep()
	return f, nil
}

// sweep removes what was left half-written. What can't be removed now can be another time.
func (f keyFolder) sweep() {
	entries, _ := os.ReadDir(f.dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			os.Remove(f.path(e.Name()))
		}
	}
}

func (f keyFolder) path(name string) string { return filepath.Join(f.dir, name) }

func (f keyFolder) step() {
	if f.before != nil {
		f.before()
	}
}

// has tells whether there is such a file, whatever is in it.
func (f keyFolder) has(name string) (bool, error) {
	_, err := os.Lstat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read reads a file of at most maxKeyFile bytes, one more if it is larger. fs.ErrNotExist, or ErrInvalidKey for a file that
// other users may read.
func (f keyFolder) read(name string) ([]byte, error) {
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrInvalidKey, file.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && checksModes {
		return nil, fmt.Errorf("%w: %s has mode %04o, other users may read it; if nobody did, chmod 600 it", ErrInvalidKey, file.Name(), mode)
	}
	return io.ReadAll(io.LimitReader(file, maxKeyFile+1))
}

// create makes a file that appears whole or not at all: it is linked, not renamed, to its place, since a link refuses
// a name that is taken. fs.ErrExist then.
func (f keyFolder) create(name string, text []byte) error {
	tmp, err := f.writeTemp(text)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	f.step()
	if err := os.Link(tmp, f.path(name)); err != nil {
		return err
	}
	f.step()
	return f.sync()
}

// replace puts text in the place of a file, or makes it.
func (f keyFolder) replace(name string, text []byte) error {
	tmp, err := f.writeTemp(text)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	f.step()
	if err := os.Rename(tmp, f.path(name)); err != nil {
		return err
	}
	f.step()
	return f.sync()
}

// remove takes a file away, if it is there.
func (f keyFolder) remove(name string) error {
	f.step()
	if err := os.Remove(f.path(name)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	f.step()
	return f.sync()
}

// writeTemp writes a synced file, 0600, and gives its path; on error it leaves none.
func (f keyFolder) writeTemp(text []byte) (name string, err error) {
	f.step()
	file, err := os.CreateTemp(f.dir, tempPrefix+"*") // 0600
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	f.step()
	if _, err := file.Write(text); err != nil {
		return "", err
	}
	f.step()
	return file.Name(), file.Sync()
}

func (f keyFolder) sync() error {
	if runtime.GOOS == "windows" {
		return nil // folders can't be synced there
	}
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
