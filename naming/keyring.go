package naming

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// What the file names in a keyring end with; before it stands the alias.
const (
	keySuffix    = ".key"
	seedSuffix   = ".recovery"
	backupSuffix = ".backed-up"
)

// KeyringConfig is how a keyring is opened. Dir is required.
type KeyringConfig struct {
	Dir string // made where it doesn't exist, and closed to other users where it is not
	// Passphrase is asked for the passphrase of an encrypted key, each time that one has to be decrypted; nil, or an
	// empty one: encrypted keys stay closed, but for those that Unlock opens.
	Passphrase func(alias string) (string, error)
	// Encrypt makes new keys encrypted, with what Passphrase gives.
	Encrypt bool
	// Work is the cost of decrypting what is encrypted here, as the exponent of scrypt's N; 0: half a second and
	// 128 MiB.
	Work int
}

// Keyring is the Ed25519 keys of an author's sites: a folder (0700) of files (0600). For each alias there is
// "<alias>.key", PEM PKCS#8, and "<alias>.recovery", the site's seed, until a backup has it. Several processes may share
// the folder: a keyring keeps nothing in memory but keys that it had to decrypt, each for as long as its file has the
// same bytes. A key leaves it only through Export and Backup. A file that can't be trusted (damaged, or readable by
// others) is an error that names it; a keyring never puts a new key in place of one.
type Keyring struct {
	cfg   KeyringConfig
	files keyFolder

	mu     sync.Mutex
	opened map[[sha256.Size]byte]*keySigner // by the digest of the encrypted file
	given  map[string]string                // passphrases of Unlock, by alias
}

// Format keeps what a keyring has decrypted out of whatever prints it.
func (k *Keyring) Format(s fmt.State, _ rune) { io.WriteString(s, "keyring "+k.files.dir) }

// KeyInfo is what everybody may know about a key.
type KeyInfo struct {
	Alias     string
	Name      Name
	Recovery  Commitment // zero where the key came from elsewhere, so that its site can't be moved
	Encrypted bool
	HasSeed   bool      // the seed is still on this machine
	BackedUp  time.Time // when a backup of it was last tested here, UTC, to the second; zero for never
}

// OpenKeyring opens the keyring in dir, with the defaults of KeyringConfig.
func OpenKeyring(dir string) (*Keyring, error) { return KeyringConfig{Dir: dir}.Open() }

// Open opens a keyring.
func (c KeyringConfig) Open() (*Keyring, error) {
	files, err := openKeyFolder(c.Dir)
	if err != nil {
		return nil, err
	}
	if c.Passphrase == nil {
		c.Passphrase = func(string) (string, error) { return "", nil }
	}
	c.Work = cmp.Or(c.Work, keyWork)
	return &Keyring{cfg: c, files: files, opened: make(map[[sha256.Size]byte]*keySigner), given: make(map[string]string)}, nil
}

// New makes a site's seed and key. ErrInvalidAlias, or ErrKeyExists where the alias is taken, also by another process
// at the same moment.
func (k *Keyring) New(alias string) (KeyInfo, error) {
	if err := k.checkFree(alias); err != nil {
		return KeyInfo{}, err
	}
	// A seed without a key is from a New that was cut off: nobody has seen it, and it is as good as another.
	seed, err := k.readSeed(alias)
	if errors.Is(err, ErrNoSeed) {
		seed, err = NewSeed()
	}
	if err != nil {
		return KeyInfo{}, err
	}
	s, err := seed.signer()
	if err != nil {
		return KeyInfo{}, err
	}
	err = k.add(alias, s, seed)
	if errors.Is(err, errSeedExists) {
		return k.New(alias) // somebody else has begun just now: let one of us end it
	}
	if err != nil {
		return KeyInfo{}, err
	}
	return k.Info(alias)
}

// Import adds a key made elsewhere: PEM PKCS#8 (ours, openssl's, Kubo's), a key file of ours that is encrypted, or a
// libp2p protobuf (Kubo's default). Only Ed25519. Errors are those of New, ErrInvalidKey and ErrPassphrase.
func (k *Keyring) Import(alias string, r io.Reader) (KeyInfo, error) {
	if err := k.checkFree(alias); err != nil {
		return KeyInfo{}, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return KeyInfo{}, fmt.Errorf("reading a key: %w", err)
	}
	s, err := k.decode(alias, data)
	if err != nil {
		return KeyInfo{}, err
	}
	if err := k.staySealed(alias, data); err != nil {
		return KeyInfo{}, err
	}
	if err := k.add(alias, s, Seed{}); err != nil {
		return KeyInfo{}, err
	}
	return k.Info(alias)
}

// Export writes the private key as PEM PKCS#8, not encrypted, which openssl, Kubo and Import read. Whoever reads it can
// sign for the site. It can't move the site: for that there is Backup.
func (k *Keyring) Export(alias string, w io.Writer) error {
	s, err := k.load(alias)
	if err != nil {
		return err
	}
	text, err := encodeKey(s)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	return nil
}

// Signer loads a key. ErrNoKey where there is none of that alias; ErrPassphrase, as a LockedError, where it is encrypted.
func (k *Keyring) Signer(alias string) (Signer, error) {
	s, err := k.load(alias)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Info tells of a key what needs no passphrase. Of an encrypted one it takes the file's word, which is checked only when
// the key is opened. ErrNoKey, ErrInvalidKey.
func (k *Keyring) Info(alias string) (KeyInfo, error) {
	data, err := k.read(alias, keySuffix)
	if err != nil {
		return KeyInfo{}, err
	}
	f, err := parseKeyFile(data)
	if err == nil && !f.sealed {
		var s *keySigner
		if s, err = f.open(); err == nil {
			f.name = s.name
		}
	}
	if err == nil && f.name.IsZero() {
		err = fmt.Errorf("%w: it is encrypted, and doesn't say whose it is", ErrInvalidKey)
	}
	if err != nil {
		return KeyInfo{}, fmt.Errorf("%s is damaged or no key: %w", k.files.path(alias+keySuffix), err)
	}
	info := KeyInfo{Alias: alias, Name: f.name, Recovery: f.recovery, Encrypted: f.sealed}
	info.HasSeed, err = k.hasSeed(alias, f.name)
	if err != nil {
		return KeyInfo{}, err
	}
	info.BackedUp = k.readMark(alias, f.name)
	return info, nil
}

// List is the keys sorted by alias. Where some can't be read it returns the others together with an error that names
// each bad file.
func (k *Keyring) List() ([]KeyInfo, error) {
	entries, err := os.ReadDir(k.files.dir)
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
		info, err := k.Info(alias)
		if err != nil {
			bad = append(bad, fmt.Errorf("key file %s: %w", k.files.path(e.Name()), err))
			continue
		}
		keys = append(keys, info)
	}
	slices.SortFunc(keys, func(a, b KeyInfo) int { return strings.Compare(a.Alias, b.Alias) })
	return keys, errors.Join(bad...)
}

// Committed is what the records of a name commit to, as its key says; zero where the key is not here, or has no recovery
// key.
func (k *Keyring) Committed(n Name) Commitment {
	keys, _ := k.List() // a key that can't be read says nothing
	for _, key := range keys {
		if key.Name == n {
			return key.Recovery
		}
	}
	return Commitment{}
}

// Remove takes a key away for good, with its seed. ErrNoKey.
func (k *Keyring) Remove(alias string) error {
	if err := CheckAlias(alias); err != nil {
		return err
	}
	if there, err := k.files.has(alias + keySuffix); err != nil {
		return fmt.Errorf("removing a key: %w", err)
	} else if !there {
		return fmt.Errorf("%w: %q", ErrNoKey, alias)
	}
	// The key goes last: a seed without a key would be taken up by the next New.
	for _, suffix := range []string{seedSuffix, backupSuffix, keySuffix} {
		if err := k.files.remove(alias + suffix); err != nil {
			return fmt.Errorf("removing the key of %s: %w", alias, err)
		}
	}
	return nil
}

// checkFree wants an alias that no key has.
func (k *Keyring) checkFree(alias string) error {
	if err := CheckAlias(alias); err != nil {
		return err
	}
	taken, err := k.files.has(alias + keySuffix)
	if err != nil {
		return fmt.Errorf("looking for a key: %w", err)
	}
	if taken {
		return fmt.Errorf("%w: %q", ErrKeyExists, alias)
	}
	return nil
}

// read reads a file of an alias. ErrNoKey where there is none.
func (k *Keyring) read(alias, suffix string) ([]byte, error) {
	if err := CheckAlias(alias); err != nil {
		return nil, err
	}
	data, err := k.files.read(alias + suffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNoKey, alias)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	return data, nil
}

// load opens a key, or refuses it by the name of its file.
func (k *Keyring) load(alias string) (*keySigner, error) {
	data, err := k.read(alias, keySuffix)
	if err != nil {
		return nil, err
	}
	s, err := k.decode(alias, data)
	if errors.Is(err, ErrInvalidKey) {
		err = fmt.Errorf("%s is damaged or no key: %w", k.files.path(alias+keySuffix), err)
	}
	return s, err
}

// add puts a key under an alias that is free: first its seed, then the key, so that whatever ends the process between
// the two leaves no key whose seed is lost. The seed may be zero. ErrKeyExists; errSeedExists where the alias has another seed.
func (k *Keyring) add(alias string, s *keySigner, seed Seed) error {
	passphrase, err := k.newPassphrase(alias)
	if err != nil {
		return err
	}
	if err := k.addSeed(alias, s.name, seed, passphrase); err != nil {
		return err
	}
	text, err := encodeKey(s)
	if err != nil {
		return err
	}
	if passphrase != "" {
		if text, err = k.sealFile(s.name, s.recovery, text, passphrase); err != nil {
			return err
		}
		k.remember(text, s)
	}
	if err := k.files.create(alias+keySuffix, text); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %q", ErrKeyExists, alias)
	} else if err != nil {
		return fmt.Errorf("writing the key of %s: %w", alias, err)
	}
	return nil
}
