package naming

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

const backupVersion = 1

// Backup is what brings a site's key back on an empty machine. Whoever has one is the site for good.
type Backup struct {
	Alias string // of the machine that made it; "" of words, which carry none
	Name  Name

	seed Seed
	key  *keySigner // in place of the seed, for a key that came from elsewhere
}

// Format keeps the seed and the key out of whatever prints a backup.
func (b Backup) Format(s fmt.State, _ rune) { io.WriteString(s, "backup of "+b.Name.String()) }

// IsZero tells whether it is none.
func (b Backup) IsZero() bool { return b.seed.IsZero() && b.key == nil }

// Seed is what the site was born from; ErrNoSeed for the backup of a key that came from elsewhere.
func (b Backup) Seed() (Seed, error) {
	if b.seed.IsZero() {
		return Seed{}, fmt.Errorf("%w: the key of %s was not made here", ErrNoSeed, b.Name)
	}
	return b.seed, nil
}

// backupFile is what is encrypted (docs/formats.md, "Key backup").
type backupFile struct {
	Version int    `json:"version"`
	Alias   string `json:"alias"`
	Name    string `json:"name"`
	Seed    []byte `json:"seed,omitempty"`
	Key     string `json:"key,omitempty"`
}

// Encrypt writes the backup, encrypted with a passphrase, as armoured age.
func (b Backup) Encrypt(w io.Writer, passphrase string) error {
	text, err := b.encode()
	if err != nil {
		return err
	}
	if passphrase == "" {
		return fmt.Errorf("%w: it can't be empty", ErrPassphrase)
	}
	sealed, err := seal(text, passphrase, backupWork)
	if err != nil {
		return fmt.Errorf("encrypting a backup: %w", err)
	}
	if _, err := w.Write(sealed); err != nil {
		return fmt.Errorf("writing a backup: %w", err)
	}
	return nil
}

// DecryptBackup reads what Encrypt has written, at most 16 KiB. ErrPassphrase, ErrInvalidBackup.
func DecryptBackup(r io.Reader, passphrase string) (Backup, error) {
	return decryptBackup(r, passphrase, maxWork)
}

func decryptBackup(r io.Reader, passphrase string, most int) (Backup, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return Backup{}, fmt.Errorf("reading a backup: %w", err)
	}
	text, err := unseal(data, passphrase, most)
	if errors.Is(err, ErrPassphrase) {
		return Backup{}, fmt.Errorf("%w for this backup", ErrPassphrase)
	}
	if err != nil {
		return Backup{}, fmt.Errorf("%w: %w", ErrInvalidBackup, err)
	}
	return decodeBackup(text)
}

func (b Backup) encode() ([]byte, error) {
	f := backupFile{Version: backupVersion, Alias: b.Alias, Name: b.Name.String()}
	switch {
	case !b.seed.IsZero():
		f.Seed = b.seed[:]
	case b.key != nil:
		text, err := encodeKey(b.key)
		if err != nil {
			return nil, err
		}
		f.Key = string(text)
	default:
		return nil, fmt.Errorf("%w: it is empty", ErrInvalidBackup)
	}
	return json.Marshal(f)
}

// decodeBackup reads the JSON of a backup. Its errors quote nothing but alias and name.
func decodeBackup(text []byte) (b Backup, err error) {
	bad := func(format string, args ...any) (Backup, error) {
		return Backup{}, fmt.Errorf("%w: "+format, append([]any{ErrInvalidBackup}, args...)...)
	}
	var f backupFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&f) != nil || d.More() {
		return bad("there is no backup in it")
	}
	if f.Version != backupVersion {
		return bad("it has version %d, and this program reads version %d", f.Version, backupVersion)
	}
	b.Alias = f.Alias
	if err := CheckAlias(b.Alias); err != nil {
		return bad("%v", err)
	}
	if b.Name, err = ParseName(f.Name); err != nil {
		return bad("it is said to be of %.80q, which is no name", f.Name)
	}
	switch {
	case f.Seed != nil && f.Key == "":
		if copy(b.seed[:], f.Seed) != len(f.Seed) || len(f.Seed) != len(b.seed) || b.seed.IsZero() {
			return bad("its seed is damaged")
		}
	case f.Seed == nil && f.Key != "":
		file, err := parseKeyFile([]byte(f.Key))
		if err == nil {
			b.key, err = file.open()
		}
		if err != nil {
			return bad("its key is damaged")
		}
	default:
		return bad("it holds neither a seed nor a key, or both")
	}
	return b, b.Verify()
}

// signer is the site's key.
func (b Backup) signer() (*keySigner, error) {
	if b.key != nil {
		return b.key, nil
	}
	if b.seed.IsZero() {
		return nil, fmt.Errorf("%w: it is empty", ErrInvalidBackup)
	}
	return b.seed.signer()
}

// Verify signs a throw-away record with what the backup holds and reads it as anybody would; where it holds the seed, it
// also moves the throw-away site with the recovery key. ErrInvalidBackup where it is not the backup of Name.
func (b Backup) Verify() error {
	s, err := b.signer()
	if err != nil {
		return err
	}
	if s.name != b.Name {
		return fmt.Errorf("%w: it is said to be of %s, and is of %s", ErrInvalidBackup, b.Name, s.name)
	}
	now := time.Now()
	signed, err := s.Sign(Statement{Value: "/ipfs/bafkqaaa", Sequence: 1, ValidUntil: now.Add(time.Hour), Recovery: s.recovery})
	if err != nil {
		return fmt.Errorf("%w: its key doesn't sign: %w", ErrInvalidBackup, err)
	}
	read, err := OpenRecord(b.Name, signed.Bytes(), now)
	if err != nil || read.Recovery() != s.recovery {
		return fmt.Errorf("%w: what its key signs can't be read: %w", ErrInvalidBackup, err)
	}
	if b.seed.IsZero() {
		return nil
	}
	return b.verifyRecovery(s, read)
}

// verifyRecovery moves the throw-away site whose record best is.
func (b Backup) verifyRecovery(s *keySigner, best Record) error {
	recovery, err := b.seed.Recovery()
	if err != nil {
		return err
	}
	other, err := NewSeed()
	if err != nil {
		return err
	}
	to, err := other.signer()
	if err != nil {
		return err
	}
	if _, err := SignLast(s, recovery, best, to.name); err != nil {
		return fmt.Errorf("%w: its recovery key doesn't sign: %w", ErrInvalidBackup, err)
	}
	return nil
}
