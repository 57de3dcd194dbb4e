package naming

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"

	"filippo.io/age/armor"
)

// maxKeyFile bounds a key file, in bytes. An Ed25519 key has about 120 in either format, RSA ones some thousands,
// which deserve a better error than "too large".
const maxKeyFile = 16 << 10

// Lines before the PEM in what we write, where PEM has place for words that readers skip. PKCS#8 has no checksum: a
// flipped bit would be another key, so another site. The name shows it. The recovery line says what the site's
// records commit to.
const (
	nameLine     = "# IPNS name "
	recoveryLine = "# recovery "
)

// keyFile is a key file taken apart, but not opened.
type keyFile struct {
	name     Name       // as the file says in clear; zero where it doesn't
	recovery Commitment // likewise
	sealed   bool       // the body is encrypted
	body     []byte     // PEM or libp2p protobuf; sealed: the age armour of a whole key file
}

// parseKeyFile takes a key file apart: PEM PKCS#8, or such a file encrypted, with our lines before it or without, or
// a libp2p protobuf. ErrInvalidKey, which never quotes the key.
func parseKeyFile(data []byte) (f keyFile, err error) {
	if len(data) > maxKeyFile {
		return keyFile{}, fmt.Errorf("%w: larger than %d bytes", ErrInvalidKey, maxKeyFile)
	}
	if len(bytes.Trim(data, "\x00 \t\r\n")) == 0 {
		return keyFile{}, fmt.Errorf("%w: empty, or zeros only", ErrInvalidKey)
	}
	begin := bytes.Index(data, []byte("-----BEGIN "))
	if begin < 0 {
		return keyFile{body: data}, nil
	}
	f.body = data[begin:]
	f.sealed = bytes.HasPrefix(f.body, []byte(armor.Header))
	f.name, f.recovery, err = parseKeyLines(string(data[:begin]))
	return f, err
}

// parseKeyLines reads what stands before the PEM: our lines, and no others behind them, since one that can't be read may
// be the commitment; or whatever another tool has written there.
func parseKeyLines(text string) (n Name, c Commitment, err error) {
	bad := func(what string) (Name, Commitment, error) {
		return Name{}, Commitment{}, fmt.Errorf("%w: %s", ErrInvalidKey, what)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if value, ok := strings.CutPrefix(line, nameLine); ok {
			if !n.IsZero() {
				return bad("two names")
			}
			if n, err = ParseName(value); err != nil {
				return bad(fmt.Sprintf("it is said to be the key of %.80q, which is no name", value))
			}
			continue
		}
		if value, ok := strings.CutPrefix(line, recoveryLine); ok {
			if n.IsZero() || !c.IsZero() {
				return bad("a recovery line in the wrong place")
			}
			if c, ok = parseCommitment(n, value); !ok {
				return bad("its recovery line is damaged")
			}
			continue
		}
		if !n.IsZero() && line != "" {
			return bad("a line before the key that can't be read")
		}
	}
	return n, c, nil
}

// parseCommitment reads what formatCommitment writes.
func parseCommitment(n Name, s string) (c Commitment, ok bool) {
	digits, _, _ := strings.Cut(s, " ")
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(c) {
		return c, false
	}
	copy(c[:], raw)
	return c, !c.IsZero() && formatCommitment(n, c) == s
}

// formatCommitment is a commitment with a checksum over it and the name: once the seed has left the machine nothing
// else here would show that it was damaged, and the site could never be moved.
func formatCommitment(n Name, c Commitment) string {
	sum := crc32.Checksum([]byte(n.String()+c.String()), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%s %08x", c, sum)
}

// keyLines is what stands before the PEM.
func keyLines(n Name, c Commitment) string {
	lines := nameLine + n.String() + "\n"
	if !c.IsZero() {
		lines += recoveryLine + formatCommitment(n, c) + "\n"
	}
	return lines
}

// open reads the key of a file that isn't encrypted.
func (f keyFile) open() (*keySigner, error) {
	if f.sealed {
		return nil, ErrPassphrase
	}
	key, err := parseKey(f.body)
	if err != nil {
		return nil, err
	}
	s, err := newKeySigner(key, f.recovery)
	if err != nil {
		return nil, err
	}
	if !f.name.IsZero() && f.name != s.name {
		return nil, fmt.Errorf("%w: it is the key of %s, and is said to be that of %s", ErrInvalidKey, s.name, f.name)
	}
	return s, nil
}

// unseal opens an encrypted key file. ErrPassphrase, or ErrInvalidKey where it is damaged, or says in clear what isn't so.
func (f keyFile) unseal(passphrase string) (*keySigner, error) {
	text, err := unseal(f.body, passphrase, maxWork)
	if err != nil {
		return nil, sealError(ErrInvalidKey, err)
	}
	inner, err := parseKeyFile(text)
	if err != nil {
		return nil, err
	}
	if inner.sealed {
		return nil, fmt.Errorf("%w: encrypted twice", ErrInvalidKey)
	}
	s, err := inner.open()
	if err != nil {
		return nil, err
	}
	if f.name != s.name || f.recovery != s.recovery {
		return nil, fmt.Errorf("%w: what stands before it is not about this key", ErrInvalidKey)
	}
	return s, nil
}
