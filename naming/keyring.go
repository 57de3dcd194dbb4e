package naming

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// keySuffix ends the file name of a key; before it stands the alias.
const keySuffix = ".key"

// Keyring is the Ed25519 keys of an author's sites: a folder (0700) with a file for each alias, "<alias>.key", PEM
// PKCS#8, 0600. It keeps nothing in memory, so that several processes may share the folder. A key leaves it only
// through Export. A key file that can't be trusted (damaged, or readable by others) is an error that names the
// file; a keyring never puts a new key in place of one.
type Keyring struct{ dir string }

// KeyInfo is what everybody may know about a key.
type KeyInfo struct {
	Alias string
	Name  Name
}

// OpenKeyring opens the keyring in dir, which is made where it doesn't exist and closed to other users where it is not.
func OpenKeyring(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && checksModes {
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, fmt.Errorf("closing the keyring to other users: %w", err)
		}
	}
	return &Keyring{dir}, nil
}

// checksModes is false where the system has no such file modes.
const checksModes = runtime.GOOS != "windows"

// New makes a key. ErrInvalidAlias, or ErrKeyExists where the alias is taken, also by another process at the same
// moment.
func (k *Keyring) New(alias string) (KeyInfo, error) {
	if err := CheckAlias(alias); err != nil {
		return KeyInfo{}, err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return KeyInfo{}, fmt.Errorf("making a key: %w", err)
	}
	return k.add(alias, key)
}

// Import adds a key made elsewhere: PEM PKCS#8 (ours, openssl's, Kubo's) or a libp2p protobuf (Kubo's default). Only
// Ed25519. Errors are those of New, and ErrInvalidKey.
func (k *Keyring) Import(alias string, r io.Reader) (KeyInfo, error) {
	if err := CheckAlias(alias); err != nil {
		return KeyInfo{}, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return KeyInfo{}, fmt.Errorf("reading a key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return KeyInfo{}, err
	}
	return k.add(alias, key)
}

// Export writes the private key as PEM PKCS#8, which openssl, Kubo and Import read. Whoever reads it is the site.
func (k *Keyring) Export(alias string, w io.Writer) error {
	key, err := k.load(alias)
	if err != nil {
		return err
	}
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	return nil
}

// Signer loads a key. ErrNoKey where there is none of that alias.
func (k *Keyring) Signer(alias string) (Signer, error) {
	key, err := k.load(alias)
	if err != nil {
		return nil, err
	}
	return newKeySigner(key)
}

// List is the keys sorted by alias. Where some can't be read it returns the others together with an error that names
// each bad file.
func (k *Keyring) List() ([]KeyInfo, error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	var keys []KeyInfo
	var bad []error
	for _, e := range entries {
		alias, isKey := strings.CutSuffix(e.Name(), keySuffix)
		if !isKey || strings.HasPrefix(alias, ".") {
			continue
		}
		s, err := k.Signer(alias)
		if err != nil {
			bad = append(bad, fmt.Errorf("key file %s: %w", filepath.Join(k.dir, e.Name()), err))
			continue
		}
		keys = append(keys, KeyInfo{alias, s.Name()})
	}
	slices.SortFunc(keys, func(a, b KeyInfo) int { return strings.Compare(a.Alias, b.Alias) })
	return keys, errors.Join(bad...)
}

func (k *Keyring) path(alias string) string { return filepath.Join(k.dir, alias+keySuffix) }

// load reads a key file, or refuses it by name.
func (k *Keyring) load(alias string) (crypto.PrivKey, error) {
	if err := CheckAlias(alias); err != nil {
		return nil, err
	}
	f, err := os.Open(k.path(alias))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNoKey, alias)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening a key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrInvalidKey, f.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && checksModes {
		return nil, fmt.Errorf("%w: %s has mode %04o, other users may read it; if nobody did, chmod 600 it", ErrInvalidKey, f.Name(), mode)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged or no key: %w", f.Name(), err)
	}
	return key, nil
}

// add puts a key under an alias that is free, durably. The file appears whole or not at all: it is linked, not renamed,
// to its place, since a link refuses a name that is taken.
func (k *Keyring) add(alias string, key crypto.PrivKey) (KeyInfo, error) {
	signer, err := newKeySigner(key)
	if err != nil {
		return KeyInfo{}, err
	}
	text, err := encodeKey(key)
	if err != nil {
		return KeyInfo{}, err
	}
	tmp, err := k.writeTemp(text)
	if err != nil {
		return KeyInfo{}, fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, k.path(alias)); errors.Is(err, fs.ErrExist) {
		return KeyInfo{}, fmt.Errorf("%w: %q", ErrKeyExists, alias)
	} else if err != nil {
		return KeyInfo{}, fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	if err := syncDir(k.dir); err != nil {
		return KeyInfo{}, fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	return KeyInfo{alias, signer.Name()}, nil
}

// writeTemp writes a synced file, 0600, and gives its path; on error it leaves none.
func (k *Keyring) writeTemp(text []byte) (name string, err error) {
	f, err := os.CreateTemp(k.dir, ".new-*") // 0600
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders can't be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
