package naming

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const pemType = "PRIVATE KEY"

// CheckAlias tells whether s can be a site's alias: lower-case letters, digits and inner hyphens, 1 to 63 of them,
// since it becomes a DNS label (blog.localhost). It must not read as a CID or an IPNS name, nor be "ipfs" or
// "ipns", whose hosts mean something else. Anything else is ErrInvalidAlias.
func CheckAlias(s string) error {
	switch {
	case len(s) < 1 || len(s) > 63:
		return fmt.Errorf("%w: it must have 1 to 63 characters", ErrInvalidAlias)
	case strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }):
		return fmt.Errorf("%w: %q: only a-z, 0-9 and hyphens", ErrInvalidAlias, s)
	case s[0] == '-' || s[len(s)-1] == '-':
		return fmt.Errorf("%w: %q: no hyphen at either end", ErrInvalidAlias, s)
	case s == "ipfs" || s == "ipns" || looksLikeHash(s):
		return fmt.Errorf("%w: %q means something else in an address", ErrInvalidAlias, s)
	}
	return nil
}

// looksLikeHash also catches a CID that was cut or mistyped, and base58 that was lower-cased on its way through DNS.
func looksLikeHash(s string) bool {
	if _, err := cid.Decode(s); err == nil {
		return true
	}
	if _, err := peer.Decode(s); err == nil {
		return true
	}
	if len(s) < 40 || strings.Contains(s, "-") {
		return false
	}
	for _, prefix := range []string{"k51", "k2", "ba", "qm", "12d3koo"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// parseKey reads a private key, PEM PKCS#8 or libp2p protobuf. Its errors never quote what they read.
func parseKey(data []byte) (crypto.PrivKey, error) {
	if bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return parsePEM(data)
	}
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: neither PEM nor a libp2p key", ErrInvalidKey)
	}
	return checkedEd25519(key)
}

func parsePEM(data []byte) (crypto.PrivKey, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%w: broken PEM", ErrInvalidKey)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: more than one thing in the PEM", ErrInvalidKey)
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("%w: PEM of type %.40q, wanted %q (PKCS#8, not encrypted)", ErrInvalidKey, block.Type, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: the PEM holds no PKCS#8 key", ErrInvalidKey)
	}
	std, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: not Ed25519", ErrInvalidKey)
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(std)
	if err != nil {
		return nil, fmt.Errorf("%w: not Ed25519", ErrInvalidKey)
	}
	return key, nil
}

// checkedEd25519 refuses other kinds, and a private key whose public half is another's: libp2p takes that half on
// trust, and we would sign under a name that our signatures don't fit.
func checkedEd25519(key crypto.PrivKey) (crypto.PrivKey, error) {
	if key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("%w: not Ed25519", ErrInvalidKey)
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("%w: not Ed25519", ErrInvalidKey)
	}
	if !bytes.Equal(ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]), raw) {
		return nil, fmt.Errorf("%w: its public half is another key's", ErrInvalidKey)
	}
	return key, nil
}

// encodeKey is the key file of an opened key: PEM PKCS#8, with our lines before it.
func encodeKey(s *keySigner) ([]byte, error) {
	raw, err := s.key.Raw()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.PrivateKey(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidKey, err)
	}
	return append([]byte(keyLines(s.name, s.recovery)), pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})...), nil
}
