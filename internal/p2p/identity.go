package p2p

import (
	"bytes"
	stded25519 "crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// maxIdentityFile is far above the 93 bytes of an Ed25519 identity.
const maxIdentityFile = 4 << 10

// LoadIdentity reads the node's Ed25519 key from path, or makes one there, with
// mode 0600, when there is no file. Of two processes that make one at the same
// time both get the same key. ErrIdentity where a file is there and not usable:
// it is never replaced, since a host that silently became somebody else would lose its pins.
//
// The file is what Kubo calls PrivKey: base64 of libp2p's protobuf.
func LoadIdentity(path string) (crypto.PrivKey, error) {
	key, err := readIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, _, err = crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	err = writeOnce(path, append(base64.StdEncoding.AppendEncode(nil, raw), '\n'))
	if errors.Is(err, fs.ErrExist) {
		return readIdentity(path)
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

func readIdentity(path string) (crypto.PrivKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxIdentityFile))
	if err != nil {
		return nil, err
	}
	key, err := parseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %v", path, ErrIdentity, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return nil, fmt.Errorf("%s can be read by others: %w", path, err)
		}
	}
	return key, nil
}

// parseIdentity notices every flipped bit: an Ed25519 key is kept together with its public
// half, and the two must agree. Its errors don't show the bytes.
func parseIdentity(text []byte) (crypto.PrivKey, error) {
	text = bytes.TrimSuffix(text, []byte("\n"))
	raw := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(raw, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") {
		return nil, errors.New("not base64")
	}
	key, err := crypto.UnmarshalPrivateKey(raw[:n])
	if err != nil {
		return nil, errors.New("not a libp2p key")
	}
	canonical, err := crypto.MarshalPrivateKey(key)
	if err != nil || !bytes.Equal(canonical, raw[:n]) {
		return nil, errors.New("not a libp2p key")
	}
	if key.Type() != crypto.Ed25519 {
		return nil, errors.New("not an Ed25519 key")
	}
	pair, err := key.Raw()
	if err != nil || len(pair) != stded25519.PrivateKeySize {
		return nil, errors.New("not an Ed25519 key")
	}
	if !bytes.Equal(stded25519.NewKeyFromSeed(pair[:stded25519.SeedSize]), pair) {
		return nil, errors.New("the public half does not belong to the private one")
	}
	return key, nil
}

// writeOnce writes a durable file that nobody else can read, and fails with
// fs.ErrExist rather than replace one.
func writeOnce(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".identity-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
