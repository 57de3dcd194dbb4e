package naming

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
)

// LockedError says which key's passphrase is missing or wrong.
type LockedError struct {
	Alias string
	Wrong bool // one was given, and isn't the key's
}

func (e *LockedError) Error() string {
	if e.Wrong {
		return fmt.Sprintf("%v for the key of %s", ErrPassphrase, e.Alias)
	}
	return fmt.Sprintf("the key of %s is encrypted, and no passphrase was given", e.Alias)
}

// Unwrap is ErrPassphrase.
func (e *LockedError) Unwrap() error { return ErrPassphrase }

// Details is what programs see of the error.
func (e *LockedError) Details() map[string]any {
	return map[string]any{"locked": e.Alias, "wrong": e.Wrong}
}

// Unlock tries a passphrase, and keeps it in memory for that key. Where there is no key of that alias, New will encrypt the
// one that it makes. A key that isn't encrypted needs none, and none is kept. Errors are those of Signer.
func (k *Keyring) Unlock(alias, passphrase string) error {
	info, err := k.Info(alias)
	switch {
	case err == nil && !info.Encrypted:
		return nil
	case err == nil:
		data, err := k.read(alias, keySuffix)
		if err != nil {
			return err
		}
		if _, err := k.open(alias, data, passphrase); err != nil {
			return err
		}
	case !errors.Is(err, ErrNoKey):
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given[alias] = passphrase
	return nil
}

// passphrase is that of a key, as far as anybody says one; else "".
func (k *Keyring) passphrase(alias string) (string, error) {
	k.mu.Lock()
	p := k.given[alias]
	k.mu.Unlock()
	if p != "" {
		return p, nil
	}
	return k.cfg.Passphrase(alias)
}

// newPassphrase is what a new key is to be encrypted with; "" where it isn't.
func (k *Keyring) newPassphrase(alias string) (string, error) {
	k.mu.Lock()
	given := k.given[alias] != ""
	k.mu.Unlock()
	if !given && !k.cfg.Encrypt {
		return "", nil
	}
	p, err := k.passphrase(alias)
	if err == nil && p == "" {
		err = &LockedError{Alias: alias}
	}
	return p, err
}

// Encrypt encrypts a key and its seed in place. Done again it wants the same passphrase, and ends what was cut off.
// Errors are those of Signer.
func (k *Keyring) Encrypt(alias, passphrase string) error {
	if passphrase == "" {
		return &LockedError{Alias: alias}
	}
	seal := func(n Name, c Commitment, text []byte) ([]byte, error) { return k.sealFile(n, c, text, passphrase) }
	return k.rewrite(alias, func(string) (string, error) { return passphrase, nil }, seal)
}

// Decrypt puts a key and its seed back in clear, with the passphrase that the keyring was opened with. Errors are
// those of Signer.
func (k *Keyring) Decrypt(alias string) error {
	return k.rewrite(alias, k.passphrase, func(_ Name, _ Commitment, text []byte) ([]byte, error) { return text, nil })
}

// rewrite gives key and seed another form: to makes it of what a file is in clear. Both are opened before either is
// touched, without what is remembered: the passphrase is to be right for both. Each is replaced in one step, the seed first.
func (k *Keyring) rewrite(alias string, passphrase func(string) (string, error), to func(Name, Commitment, []byte) ([]byte, error)) error {
	info, err := k.Info(alias)
	if err != nil {
		return err
	}
	p, err := passphrase(alias)
	if err != nil {
		return err
	}
	data, err := k.read(alias, keySuffix)
	if err != nil {
		return err
	}
	s, err := k.open(alias, data, p)
	if err != nil {
		return err
	}
	var seed Seed
	if info.HasSeed {
		if seed, err = k.openSeed(alias, p); err != nil {
			return err
		}
	}
	return k.replace(alias, s, seed, to)
}

// replace writes key and seed, which may be zero, in the place of those that the alias has.
func (k *Keyring) replace(alias string, s *keySigner, seed Seed, to func(Name, Commitment, []byte) ([]byte, error)) error {
	write := func(suffix string, c Commitment, text []byte) error {
		text, err := to(s.name, c, text)
		if err == nil {
			err = k.files.replace(alias+suffix, text)
		}
		if err != nil {
			return fmt.Errorf("writing the key of %s: %w", alias, err)
		}
		return nil
	}
	if !seed.IsZero() {
		text, err := encodeSeed(seed)
		if err != nil {
			return err
		}
		if err := write(seedSuffix, Commitment{}, text); err != nil {
			return err
		}
	}
	text, err := encodeKey(s)
	if err != nil {
		return err
	}
	return write(keySuffix, s.recovery, text)
}

// staySealed has the key that is made of an encrypted file encrypted with the same passphrase.
func (k *Keyring) staySealed(alias string, data []byte) error {
	f, err := parseKeyFile(data)
	if err != nil || !f.sealed {
		return err
	}
	return k.give(alias, alias)
}

// NewLike makes a key as New does, encrypted with the passphrase of the key of like where that one is encrypted: for what
// takes its place. Errors are those of New, and of Signer for like.
func (k *Keyring) NewLike(alias, like string) (KeyInfo, error) {
	info, err := k.Info(like)
	if err != nil {
		return KeyInfo{}, err
	}
	if info.Encrypted {
		if _, err := k.load(like); err != nil { // tries the passphrase
			return KeyInfo{}, err
		}
		if err := k.give(alias, like); err != nil {
			return KeyInfo{}, err
		}
	}
	return k.New(alias)
}

// give has the key of alias that is still to be made encrypted with the passphrase of another's.
func (k *Keyring) give(alias, from string) error {
	p, err := k.passphrase(from)
	if err != nil {
		return err
	}
	if p == "" {
		return &LockedError{Alias: from}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given[alias] = p
	return nil
}

// sealFile encrypts a key file or a seed's, and leaves in clear what List needs. It reads back what it has made.
func (k *Keyring) sealFile(n Name, c Commitment, text []byte, passphrase string) ([]byte, error) {
	sealed, err := seal(text, passphrase, k.cfg.Work)
	if err != nil {
		return nil, fmt.Errorf("encrypting a key: %w", err)
	}
	if again, err := unseal(sealed, passphrase, maxWork); err != nil || !bytes.Equal(again, text) {
		return nil, fmt.Errorf("encrypting a key: it does not come back: %w", err)
	}
	return append([]byte(keyLines(n, c)), sealed...), nil
}

// decode opens the bytes of a key file, with the key's passphrase where they are encrypted and were not opened before.
func (k *Keyring) decode(alias string, data []byte) (*keySigner, error) {
	f, err := parseKeyFile(data)
	if err != nil {
		return nil, err
	}
	if !f.sealed {
		return f.open()
	}
	k.mu.Lock()
	s := k.opened[sha256.Sum256(data)]
	k.mu.Unlock()
	if s != nil {
		return s, nil
	}
	p, err := k.passphrase(alias)
	if err != nil {
		return nil, err
	}
	return k.open(alias, data, p)
}

// open opens the bytes of a key file, and remembers the key where it had to decrypt it.
func (k *Keyring) open(alias string, data []byte, passphrase string) (*keySigner, error) {
	f, err := parseKeyFile(data)
	if err != nil {
		return nil, err
	}
	if !f.sealed {
		return f.open()
	}
	s, err := f.unseal(passphrase)
	if errors.Is(err, ErrPassphrase) {
		return nil, &LockedError{Alias: alias, Wrong: passphrase != ""}
	}
	if err != nil {
		return nil, err
	}
	k.remember(data, s)
	return s, nil
}

// remember keeps an opened key, under the bytes of its file: size and time of a file may stay the same when it changes.
func (k *Keyring) remember(data []byte, s *keySigner) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened[sha256.Sum256(data)] = s
}
