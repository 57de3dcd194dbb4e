package naming

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"filippo.io/age/armor"
)

// errSeedExists says that an alias without a key has a seed already.
var errSeedExists = fmt.Errorf("%w, or was about to be made", ErrKeyExists)

// Seed is what the site was born from. ErrNoSeed where it left this machine with a backup, or was never here since the
// key came from elsewhere; ErrNoKey, ErrInvalidKey, ErrPassphrase.
func (k *Keyring) Seed(alias string) (Seed, error) {
	s, err := k.load(alias)
	if err != nil {
		return Seed{}, err
	}
	if there, err := k.hasSeed(alias, s.name); err != nil {
		return Seed{}, err
	} else if !there {
		return Seed{}, fmt.Errorf("%w: %q", ErrNoSeed, alias)
	}
	seed, err := k.readSeed(alias)
	if err != nil {
		return Seed{}, err
	}
	own, err := seed.signer()
	if err == nil && (own.name != s.name || own.recovery != s.recovery) {
		err = fmt.Errorf("%w: %s is not the seed of the key beside it", ErrInvalidKey, k.files.path(alias+seedSuffix))
	}
	if err != nil {
		return Seed{}, err
	}
	return seed, nil
}

// ForgetSeed takes the seed off this machine: from now on only backups have it. The key stays. It succeeds where there
// is none.
func (k *Keyring) ForgetSeed(alias string) error {
	if err := CheckAlias(alias); err != nil {
		return err
	}
	if err := k.files.remove(alias + seedSuffix); err != nil {
		return fmt.Errorf("removing the seed of %s: %w", alias, err)
	}
	return nil
}

// signer is the site's key with its commitment.
func (s Seed) signer() (*keySigner, error) {
	key, err := s.siteKey()
	if err != nil {
		return nil, err
	}
	recovery, err := s.Recovery()
	if err != nil {
		return nil, err
	}
	return newKeySigner(key, recovery.Commitment())
}

// encodeSeed is the file of a seed: the name that shows that it is whole, and the words of a backup.
func encodeSeed(seed Seed) ([]byte, error) {
	s, err := seed.signer()
	if err != nil {
		return nil, err
	}
	return []byte(keyLines(s.name, Commitment{}) + seed.words() + "\n"), nil
}

// decodeSeed reads what encodeSeed has written.
func decodeSeed(text []byte) (Seed, error) {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	name, _, err := parseKeyLines(string(first))
	if err != nil {
		return Seed{}, err
	}
	seed, err := parseSeed(string(rest))
	if err != nil {
		return Seed{}, fmt.Errorf("%w: it holds no seed", ErrInvalidKey) // and nothing that stands there is told
	}
	if s, err := seed.signer(); err != nil || s.name != name {
		return Seed{}, fmt.Errorf("%w: it is not the seed of the site that it names", ErrInvalidKey)
	}
	return seed, nil
}

// readSeed reads the seed's file of an alias, whatever the key, with the keyring's passphrase where it is encrypted.
// ErrNoSeed.
func (k *Keyring) readSeed(alias string) (Seed, error) {
	sealed, err := k.seedIsSealed(alias)
	if err != nil {
		return Seed{}, err
	}
	p := ""
	if sealed {
		if p, err = k.passphrase(alias); err != nil {
			return Seed{}, err
		}
	}
	return k.openSeed(alias, p)
}

func (k *Keyring) seedIsSealed(alias string) (bool, error) {
	data, err := k.seedFile(alias)
	return bytes.Contains(data, []byte(armor.Header)), err
}

// seedFile is the bytes of a seed's file. ErrNoSeed.
func (k *Keyring) seedFile(alias string) ([]byte, error) {
	data, err := k.files.read(alias + seedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNoSeed, alias)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a seed: %w", err)
	}
	return data, nil
}

// openSeed reads the seed's file of an alias. ErrNoSeed, ErrInvalidKey with the file's name, ErrPassphrase.
func (k *Keyring) openSeed(alias, passphrase string) (Seed, error) {
	data, err := k.seedFile(alias)
	if err != nil {
		return Seed{}, err
	}
	text := data
	if i := bytes.Index(data, []byte(armor.Header)); i >= 0 {
		if text, err = unseal(data[i:], passphrase, maxWork); errors.Is(err, ErrPassphrase) {
			return Seed{}, &LockedError{Alias: alias, Wrong: passphrase != ""}
		}
		err = sealError(ErrInvalidKey, err)
	}
	var seed Seed
	if err == nil {
		seed, err = decodeSeed(text)
	}
	if err != nil {
		return Seed{}, fmt.Errorf("%s is damaged or no seed: %w", k.files.path(alias+seedSuffix), err)
	}
	return seed, nil
}

// hasSeed tells whether there is the seed of that name; one of another is left over from something else.
func (k *Keyring) hasSeed(alias string, n Name) (bool, error) {
	data, err := k.seedFile(alias)
	if errors.Is(err, ErrNoSeed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	first, _, _ := strings.Cut(string(data), "\n")
	name, _, err := parseKeyLines(first)
	if err != nil {
		return false, fmt.Errorf("%s is damaged or no seed: %w", k.files.path(alias+seedSuffix), err)
	}
	return name == n, nil
}

// addSeed writes a seed, unless the alias has that one already, in the form that it is to have. errSeedExists where it
// has another, also if none is to be written: whose would it be?
func (k *Keyring) addSeed(alias string, n Name, seed Seed, passphrase string) error {
	sealed, err := k.seedIsSealed(alias)
	if err == nil {
		if same, err := k.hasSeed(alias, n); err != nil || !same || seed.IsZero() {
			return errors.Join(err, fmt.Errorf("%w: %s is in the way", errSeedExists, k.files.path(alias+seedSuffix)))
		}
		if sealed == (passphrase != "") {
			return nil
		}
	} else if !errors.Is(err, ErrNoSeed) {
		return err
	}
	there := err == nil
	if seed.IsZero() {
		return nil
	}
	text, err := encodeSeed(seed)
	if err == nil && passphrase != "" {
		text, err = k.sealFile(n, Commitment{}, text, passphrase)
	}
	if err != nil {
		return err
	}
	write := k.files.create
	if there {
		write = k.files.replace
	}
	if err := write(alias+seedSuffix, text); errors.Is(err, fs.ErrExist) {
		return errSeedExists
	} else if err != nil {
		return fmt.Errorf("writing the seed of %s: %w", alias, err)
	}
	return nil
}

// MarkBackedUp notes that a backup of the key was made, and tested, at that time.
func (k *Keyring) MarkBackedUp(alias string, at time.Time) error {
	info, err := k.Info(alias)
	if err != nil {
		return err
	}
	text := keyLines(info.Name, Commitment{}) + at.UTC().Format(time.RFC3339) + "\n"
	if err := k.files.replace(alias+backupSuffix, []byte(text)); err != nil {
		return fmt.Errorf("noting the backup of %s: %w", alias, err)
	}
	return nil
}

// readMark is when the key was backed up; zero where nothing credible says so: then one more backup is made.
func (k *Keyring) readMark(alias string, n Name) time.Time {
	data, err := k.files.read(alias + backupSuffix)
	if err != nil {
		return time.Time{}
	}
	line, stamp, _ := strings.Cut(string(data), "\n")
	if line+"\n" != keyLines(n, Commitment{}) {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(stamp))
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}
