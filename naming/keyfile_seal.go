package naming

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// The cost of scrypt, as the exponent of its N; each step doubles time and memory.
const (
	// keyWork is that of keys at rest: about half a second and 128 MiB, once for each process that signs.
	keyWork = 17
	// backupWork is that of backups, which lie about for years where we don't know.
	backupWork = 18
	// maxWork bounds what a file may ask of us: about four seconds and 1 GiB.
	maxWork = 20
)

// seal encrypts text with a passphrase: armoured age.
func seal(text []byte, passphrase string, work int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err // an empty passphrase
	}
	recipient.SetWorkFactor(work)
	var out bytes.Buffer
	armoured := armor.NewWriter(&out)
	w, err := age.Encrypt(armoured, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armoured.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unseal decrypts what seal has made, of at most maxKeyFile bytes and of at most that work. ErrPassphrase where it is
// the wrong one (a damaged file may look like that); other errors say what is wrong with the file, and are public.
func unseal(armoured []byte, passphrase string, most int) ([]byte, error) {
	if len(armoured) > maxKeyFile {
		return nil, fmt.Errorf("larger than %d bytes", maxKeyFile)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase // an empty one
	}
	identity.SetMaxWorkFactor(most)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(armoured)), identity)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		if !slices.Equal(none.StanzaTypes, []string{"scrypt"}) {
			return nil, errors.New("encrypted, but not with a passphrase")
		}
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	if err != nil {
		return nil, errors.New("damaged")
	}
	return text, nil
}

// sealError makes an error of unseal one of the kind given, unless it is the passphrase that is wrong.
func sealError(kind, err error) error {
	if err == nil || errors.Is(err, ErrPassphrase) {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}
