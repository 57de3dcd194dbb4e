package naming

import (
	"errors"
	"fmt"
	"io/fs"
)

// Supersede puts the key of next in the place of alias's, whose key is kept under archive: a site has moved to a new
// name. Whatever ends the process on the way, alias has the old key with its seed, or the new one, whose seed may still
// be next's; doing it again goes on. ErrNoKey where next has no key; ErrKeyExists where archive has another key than
// alias's.
func (k *Keyring) Supersede(alias, next, archive string) error {
	if err := CheckAlias(archive); err != nil {
		return err
	}
	old, err := k.read(alias, keySuffix)
	if err != nil {
		return err
	}
	text, err := k.read(next, keySuffix)
	if err != nil {
		return err
	}
	if string(old) != string(text) { // else it was cut off after the key had taken its place
		if err := k.archive(archive, old); err != nil {
			return err
		}
		if err := k.files.replace(alias+keySuffix, text); err != nil {
			return fmt.Errorf("writing the key of %s: %w", alias, err)
		}
	}
	if err := k.moveSeed(next, alias); err != nil {
		return err
	}
	return k.Remove(next)
}

// archive keeps a key's file under an alias that has none, or the same.
func (k *Keyring) archive(alias string, text []byte) error {
	err := k.files.create(alias+keySuffix, text)
	if errors.Is(err, fs.ErrExist) {
		there, rerr := k.read(alias, keySuffix)
		if rerr == nil && string(there) == string(text) {
			return nil
		}
		return errors.Join(fmt.Errorf("%w: %q", ErrKeyExists, alias), rerr)
	}
	if err != nil {
		return fmt.Errorf("keeping the old key as %s: %w", alias, err)
	}
	return nil
}

// moveSeed puts a seed in the place of another, which belongs to a key that nothing can be signed with any more.
func (k *Keyring) moveSeed(from, to string) error {
	text, err := k.seedFile(from)
	if errors.Is(err, ErrNoSeed) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := k.files.replace(to+seedSuffix, text); err != nil {
		return fmt.Errorf("writing the seed of %s: %w", to, err)
	}
	return k.files.remove(to + backupSuffix) // it was the old key's
}
