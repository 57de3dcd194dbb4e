package naming

import (
	"errors"
	"fmt"
)

// Backup is the backup of a key that was made here, or of one from elsewhere that can't be moved. ErrNoSeed where the seed has left
// this machine: copies of the backup that took it are as good as a new one. ErrNoKey, ErrInvalidKey, ErrPassphrase.
func (k *Keyring) Backup(alias string) (Backup, error) {
	s, err := k.load(alias)
	if err != nil {
		return Backup{}, err
	}
	b := Backup{Alias: alias, Name: s.name}
	b.seed, err = k.Seed(alias)
	if errors.Is(err, ErrNoSeed) && s.recovery.IsZero() {
		b.key, err = s, nil
	}
	if err != nil {
		return Backup{}, err
	}
	return b, b.Verify()
}

// CheckBackup tells whether b would bring back the very key of alias, by signing with it. ErrInvalidBackup where not.
func (k *Keyring) CheckBackup(alias string, b Backup) error {
	info, err := k.Info(alias)
	if err != nil {
		return err
	}
	if err := b.Verify(); err != nil {
		return err
	}
	s, err := b.signer()
	if err != nil {
		return err
	}
	if s.name != info.Name || s.recovery != info.Recovery {
		return fmt.Errorf("%w: it is not of the key of %s", ErrInvalidBackup, alias)
	}
	return nil
}

// Restore brings a key back, with its seed, after a signature has shown that the backup is good. An alias of the same
// key gets what it lacks; one of another key is ErrKeyExists. ErrInvalidBackup also where want is not zero, and the backup is of
// another name.
func (k *Keyring) Restore(alias string, b Backup, want Name) (KeyInfo, error) {
	if err := CheckAlias(alias); err != nil {
		return KeyInfo{}, err
	}
	if err := b.Verify(); err != nil {
		return KeyInfo{}, err
	}
	if !want.IsZero() && want != b.Name {
		return KeyInfo{}, fmt.Errorf("%w: it is of %s, not of %s", ErrInvalidBackup, b.Name, want)
	}
	s, err := b.signer()
	if err != nil {
		return KeyInfo{}, err
	}
	switch there, err := k.Info(alias); {
	case errors.Is(err, ErrNoKey):
		err = k.add(alias, s, b.seed)
		if err != nil {
			return KeyInfo{}, err
		}
	case err != nil:
		return KeyInfo{}, err
	case there.Name != b.Name:
		return KeyInfo{}, fmt.Errorf("%w: %q, for another site", ErrKeyExists, alias)
	default:
		if err := k.complete(alias, there, s, b.seed); err != nil {
			return KeyInfo{}, err
		}
	}
	return k.Info(alias)
}

// complete gives a key that is there what a backup of it has besides: its commitment and its seed.
func (k *Keyring) complete(alias string, there KeyInfo, s *keySigner, seed Seed) error {
	if seed.IsZero() {
		return nil
	}
	passphrase := ""
	if there.Encrypted {
		if _, err := k.load(alias); err != nil { // tries the passphrase
			return err
		}
		var err error
		if passphrase, err = k.passphrase(alias); err != nil {
			return err
		}
		if passphrase == "" {
			return &LockedError{Alias: alias}
		}
	}
	if err := k.addSeed(alias, s.name, seed, passphrase); err != nil {
		return err
	}
	if there.Recovery == s.recovery {
		return nil
	}
	return k.replace(alias, s, Seed{}, func(n Name, c Commitment, text []byte) ([]byte, error) {
		if passphrase == "" {
			return text, nil
		}
		return k.sealFile(n, c, text, passphrase)
	})
}
