package p2p

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func TestAnIdentityIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "identity")
	var wg sync.WaitGroup
	keys := make([]crypto.PrivKey, 8)
	for i := range keys {
		wg.Go(func() {
			key, err := LoadIdentity(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, k := range keys[1:] {
		if !k.Equals(keys[0]) {
			t.Error("two identities were made")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

func TestAnIdentityThatOthersCouldReadIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	if _, err := LoadIdentity(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestADamagedIdentityIsNeverReplacedOrUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	want, err := LoadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, bad []byte) {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := LoadIdentity(path); !errors.Is(err, ErrIdentity) && (key == nil || !key.Equals(want)) {
			t.Errorf("%s: %v", what, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, bad) {
			t.Errorf("%s: the file was changed (%v)", what, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		refuse("a flipped bit", bad)
		refuse("truncated", good[:i])
	}
	rsa, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := crypto.MarshalPrivateKey(rsa)
	if err != nil {
		t.Fatal(err)
	}
	refuse("another kind of key", base64.StdEncoding.AppendEncode(nil, raw))
	refuse("a line more", append(good, '\n'))
	refuse("zeros", make([]byte, len(good)))
	refuse("large", bytes.Repeat([]byte("A"), 1<<20))
}
