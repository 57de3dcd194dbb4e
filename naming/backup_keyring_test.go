package naming_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/libp2p/go-libp2p/core/crypto"
)

func nameLineOf(k naming.KeyInfo) string { return "# IPNS name " + k.Name.String() }

// What `ipfs key import --format=pem-pkcs8-cleartext` does with a file, and openssl itself.
func TestOtherToolsReadAnExportedKey(t *testing.T) {
	k, _ := openRing(t)
	blog := newKey(t, k, "blog")
	var text bytes.Buffer
	if err := k.Export("blog", &text); err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text.Bytes())
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) != 0 {
		t.Fatal("no PEM for Kubo")
	}
	std, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private := std.(ed25519.PrivateKey)
	key, _, err := crypto.KeyPairFromStdKey(&private)
	if err != nil || nameOfKey(t, key) != blog.Name {
		t.Errorf("Kubo reads another key, %v", err)
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.CommandContext(t.Context(), openssl, "pkey", "-pubout", "-outform", "DER")
	cmd.Stdin = &text
	der, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil || !private.Public().(ed25519.PublicKey).Equal(public) {
		t.Errorf("openssl reads another key, %v", err)
	}
}

func TestAnEncryptedKeyNeedsItsPassphraseToSignAndNothingToBeListed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := cheapRing(t, dir, "open sesame")
	blog := newKey(t, k, "blog")
	plain := readAll(t, dir)
	if err := errors.Join(k.Encrypt("blog", "open sesame"), k.Encrypt("blog", "open sesame")); err != nil {
		t.Fatal(err)
	}
	if err := k.Encrypt("blog", "another"); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("encrypting it again with another passphrase: %v, want ErrPassphrase", err)
	}
	for name, text := range readAll(t, dir) {
		if strings.Contains(text, plain[name]) || !strings.Contains(text, "AGE ENCRYPTED FILE") {
			t.Errorf("%s is not encrypted", name)
		}
	}
	stranger, err := naming.OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := stranger.List()
	if err != nil || len(list) != 1 || list[0].Name != blog.Name || list[0].Recovery != blog.Recovery || !list[0].Encrypted || !list[0].HasSeed {
		t.Errorf("List without a passphrase is %+v, %v", list, err)
	}
	var locked *naming.LockedError
	if _, err := stranger.Signer("blog"); !errors.As(err, &locked) || locked.Alias != "blog" || locked.Wrong || !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("Signer without a passphrase: %v", err)
	}
	if err := stranger.Unlock("blog", "open sesam"); !errors.As(err, &locked) || !locked.Wrong || strings.Contains(err.Error(), "sesam") {
		t.Errorf("Unlock with another passphrase: %v", err)
	}
	if err := stranger.Unlock("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	if s, err := stranger.Signer("blog"); err != nil || s.Name() != blog.Name || s.Recovery() != blog.Recovery {
		t.Errorf("once unlocked it is %v, %v", s, err)
	}
	if _, err := stranger.Seed("blog"); err != nil {
		t.Errorf("once unlocked the seed: %v", err)
	}
	if err := k.Decrypt("blog"); err != nil {
		t.Fatal(err)
	}
	for name, text := range readAll(t, dir) {
		if text != plain[name] {
			t.Errorf("%s is not as it was", name)
		}
	}
}

func TestAnOpenedKeyIsForgottenWhenItsFileChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := cheapRing(t, dir, "")
	newKey(t, k, "blog")
	other := cheapRing(t, filepath.Join(t.TempDir(), "keys"), "another")
	docs := newKey(t, other, "blog")
	if err := errors.Join(k.Encrypt("blog", "open sesame"), other.Encrypt("blog", "another")); err != nil {
		t.Fatal(err)
	}
	if err := k.Unlock("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Signer("blog"); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := other.Export("blog", &text); err != nil {
		t.Fatal(err)
	}
	if err := k.Remove("blog"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Signer("blog"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("removed: %v, want ErrNoKey", err)
	}
	if got, err := k.Import("blog", &text); err != nil || got.Name != docs.Name {
		t.Fatalf("%+v, %v", got, err)
	}
	if s, err := k.Signer("blog"); err != nil || s.Name() != docs.Name {
		t.Errorf("the file is another, and the key is %v, %v", s, err)
	}
}

func TestADamagedEncryptedKeyIsNeverAnotherIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	blog := newKey(t, cheapRing(t, dir, ""), "blog")
	if err := cheapRing(t, dir, "").Encrypt("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "blog.key")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 3 {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := cheapRing(t, dir, "open sesame").Signer("blog")
		if err == nil && (s.Name() != blog.Name || s.Recovery() != blog.Recovery) {
			t.Errorf("byte %d: the key became %v", i, s)
		}
		if err != nil && !errors.Is(err, naming.ErrInvalidKey) && !errors.Is(err, naming.ErrPassphrase) {
			t.Errorf("byte %d: %v is neither ErrInvalidKey nor ErrPassphrase", i, err)
		}
	}
}

func TestNewKeysAreEncryptedWhereThatIsAskedFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k, err := naming.KeyringConfig{Dir: dir, Work: 2, Encrypt: true, Passphrase: func(string) (string, error) { return "open sesame", nil }}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if info := newKey(t, k, "blog"); !info.Encrypted {
		t.Error("New made a key in clear")
	}
	if info, err := k.Import("docs", strings.NewReader(opensslKey)); err != nil || !info.Encrypted {
		t.Errorf("Import made a key in clear, %v", err)
	}
	given := cheapRing(t, dir, "")
	if err := given.Unlock("third", "given"); err != nil {
		t.Fatal(err)
	}
	if info := newKey(t, given, "third"); !info.Encrypted {
		t.Error("New made a key in clear though a passphrase was given for it")
	}
	if err := cheapRing(t, dir, "").Unlock("third", "given"); err != nil {
		t.Errorf("it has another passphrase: %v", err)
	}
	for name, text := range readAll(t, dir) {
		if !strings.Contains(text, "AGE ENCRYPTED FILE") {
			t.Errorf("%s is in clear", name)
		}
	}
	none, err := naming.KeyringConfig{Dir: dir, Encrypt: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.New("fourth"); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("New without the passphrase that is wanted: %v, want ErrPassphrase", err)
	}
	if list, err := none.List(); err != nil || len(list) != 3 {
		t.Errorf("List is %v, %v", list, err)
	}
}

func TestWhatTakesThePlaceOfAnEncryptedKeyIsEncryptedToo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := cheapRing(t, dir, "")
	newKey(t, k, "plain")
	newKey(t, k, "blog")
	if err := k.Encrypt("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.NewLike("blog-next", "blog"); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("locked: %v, want ErrPassphrase", err)
	}
	if err := k.Unlock("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	if next, err := k.NewLike("blog-next", "blog"); err != nil || !next.Encrypted {
		t.Errorf("unlocked: %+v, %v", next, err)
	}
	if _, err := cheapRing(t, dir, "open sesame").Signer("blog-next"); err != nil {
		t.Errorf("it has another passphrase: %v", err)
	}
	if next, err := k.NewLike("plain-next", "plain"); err != nil || next.Encrypted {
		t.Errorf("of a key in clear: %+v, %v", next, err)
	}
}

func TestAnEncryptedKeyFileIsImportedAsItIs(t *testing.T) {
	from := filepath.Join(t.TempDir(), "keys")
	blog := newKey(t, cheapRing(t, from, ""), "blog")
	if err := cheapRing(t, from, "").Encrypt("blog", "open sesame"); err != nil {
		t.Fatal(err)
	}
	text := readAll(t, from)["blog.key"]
	to := filepath.Join(t.TempDir(), "keys")
	if _, err := cheapRing(t, to, "another").Import("blog", strings.NewReader(text)); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("with another passphrase: %v, want ErrPassphrase", err)
	}
	got, err := cheapRing(t, to, "open sesame").Import("blog", strings.NewReader(text))
	if err != nil || got.Name != blog.Name || got.Recovery != blog.Recovery || !got.Encrypted {
		t.Errorf("%+v, %v", got, err)
	}
	if s, err := cheapRing(t, to, "open sesame").Signer("blog"); err != nil || s.Name() != blog.Name {
		t.Errorf("it signs for %v, %v", s, err)
	}
}

func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func TestRemoveLeavesNothingThatNewWouldTakeUp(t *testing.T) {
	k, dir := openRing(t)
	blog := newKey(t, k, "blog")
	if err := errors.Join(k.MarkBackedUp("blog", time.Now()), k.Remove("blog")); err != nil {
		t.Fatal(err)
	}
	if left := readAll(t, dir); len(left) != 0 {
		t.Errorf("there is left %v", left)
	}
	if err := k.Remove("blog"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("again: %v, want ErrNoKey", err)
	}
	if again := newKey(t, k, "blog"); again.Name == blog.Name || !again.BackedUp.IsZero() {
		t.Errorf("the next key is %+v", again)
	}
}

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	k := cheapRing(t, dir, "open sesame")
	newKey(t, k, "blog")
	b, err := k.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	seed, err := b.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.Encrypt("blog", "open sesame"), k.Unlock("blog", "open sesame")); err != nil {
		t.Fatal(err)
	}
	signer, err := k.Signer("blog")
	if err != nil {
		t.Fatal(err)
	}
	words, err := b.Words()
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := seed.Recovery()
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{
		"open sesame", hex.EncodeToString([]byte("open sesame")), words, words[:20], hex.EncodeToString(seed[:4]), strings.ToUpper(hex.EncodeToString(seed[:4])),
		strings.Trim(fmt.Sprint(seed[:4]), "[]"), strings.ReplaceAll(strings.Trim(fmt.Sprint(seed[:4]), "[]"), " ", ","),
	}
	type nest struct {
		Backup   naming.Backup
		Seed     naming.Seed
		Recovery naming.RecoveryKey
		Signer   naming.Signer
		Ring     *naming.Keyring
	}
	for _, v := range []any{b, &b, seed, &seed, recovery, signer, k, nest{b, seed, recovery, signer, k}, []naming.Backup{b}, []naming.Seed{seed}} {
		printed := fmt.Sprintf("%v %+v %#v %s %q %x %X", v, v, v, v, v, v, v)
		if text, err := json.Marshal(v); err == nil {
			printed += string(text)
		}
		for _, secret := range secrets {
			if strings.Contains(printed, secret) {
				t.Errorf("a %T prints a secret", v)
			}
		}
	}
}
