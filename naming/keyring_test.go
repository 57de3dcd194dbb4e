package naming_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func openRing(t testing.TB) (*naming.Keyring, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home", "keys")
	k, err := naming.OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k, dir
}

func newKey(t testing.TB, k *naming.Keyring, alias string) naming.KeyInfo {
	t.Helper()
	info, err := k.New(alias)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestAKeyStaysTheSameKey(t *testing.T) {
	k, dir := openRing(t)
	blog, docs := newKey(t, k, "blog"), newKey(t, k, "docs")
	again, err := naming.OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := again.List()
	if err != nil || len(list) != 2 || list[0] != blog || list[1] != docs {
		t.Fatalf("List is %v, %v, want %v and %v", list, err, blog, docs)
	}
	s, err := again.Signer("blog")
	if err != nil || s.Name() != blog.Name {
		t.Fatalf("the signer of blog is %v, %v", s, err)
	}
	r, err := s.Sign(naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: 1, ValidUntil: farFuture})
	if err != nil || r.Name() != blog.Name {
		t.Fatalf("it signs for %v, %v", r.Name(), err)
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such file modes")
	}
	k, dir := openRing(t)
	newKey(t, k, "blog")
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "blog.key"): 0o600, filepath.Join(dir, "blog.recovery"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("beside the key and its seed there is %v, %v", entries, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := naming.OpenKeyring(dir); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("an open folder stays open: %v", info.Mode())
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o644, 0o620} {
		file := filepath.Join(dir, "blog.key")
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := k.Signer("blog")
		if !errors.Is(err, naming.ErrInvalidKey) || !strings.Contains(err.Error(), file) {
			t.Errorf("a key file of mode %04o: %v", mode, err)
		}
	}
}

func TestNewNeverReplacesAKey(t *testing.T) {
	k, _ := openRing(t)
	blog := newKey(t, k, "blog")
	if _, err := k.New("blog"); !errors.Is(err, naming.ErrKeyExists) {
		t.Fatalf("New over a key: %v, want ErrKeyExists", err)
	}
	var pemText bytes.Buffer
	if err := k.Export("blog", &pemText); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Import("blog", &pemText); !errors.Is(err, naming.ErrKeyExists) {
		t.Fatalf("Import over a key: %v, want ErrKeyExists", err)
	}
	if list, err := k.List(); err != nil || len(list) != 1 || list[0] != blog {
		t.Fatalf("after that List is %v, %v", list, err)
	}
}

func TestOfManyWhoMakeOneAliasOneWins(t *testing.T) {
	k, _ := openRing(t)
	var mu sync.Mutex
	var made []naming.KeyInfo
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			info, err := k.New("blog")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, info)
			} else if !errors.Is(err, naming.ErrKeyExists) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s, err := k.Signer("blog")
	if err != nil || len(made) != 1 || s.Name() != made[0].Name {
		t.Fatalf("%d were told that they made it; the key is %v, %v", len(made), s, err)
	}
}

func TestAMissingKeyIsNoKeyAndNoneIsMade(t *testing.T) {
	k, dir := openRing(t)
	if _, err := k.Signer("blog"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("Signer: %v, want ErrNoKey", err)
	}
	if err := k.Export("blog", &bytes.Buffer{}); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("Export: %v, want ErrNoKey", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("something was made: %v", entries)
	}
}

// An Ed25519 key has no redundancy of its own: any damage to its bytes is another key, and would be another site.
func TestADamagedKeyIsNeverAnotherIdentity(t *testing.T) {
	k, dir := openRing(t)
	blog := newKey(t, k, "blog")
	file := filepath.Join(dir, "blog.key")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	seed := secretOf(t, good)
	check := func(what string, text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := k.Signer("blog")
		if err == nil && (s.Name() != blog.Name || s.Recovery() != blog.Recovery) {
			t.Errorf("%s: the key became %s with the commitment %q", what, s.Name(), s.Recovery())
		}
		if err != nil {
			if !errors.Is(err, naming.ErrInvalidKey) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %v doesn't name the file", what, err)
			}
			if strings.Contains(err.Error(), seed) {
				t.Errorf("%s: the error tells the key", what)
			}
		}
	}
	for i := range good {
		for _, bit := range []byte{1, 4, 32} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			check("a flipped bit", bad)
		}
		check("a file cut short", good[:i])
	}
	for what, text := range map[string][]byte{
		"empty": {}, "zeros": make([]byte, len(good)), "twice": append(bytes.Clone(good), good...), "too long": make([]byte, 1<<20),
	} {
		check(what, text)
		if _, err := k.Signer("blog"); err == nil {
			t.Errorf("%s: taken for a key", what)
		}
	}
	if _, err := k.New("blog"); !errors.Is(err, naming.ErrKeyExists) {
		t.Errorf("New over a damaged key: %v, want ErrKeyExists", err)
	}
}

// secretOf is the base64 in a PEM.
func secretOf(t *testing.T, text []byte) string {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	return base64.StdEncoding.EncodeToString(block.Bytes)
}

func TestListNamesABadFileAndShowsTheOthers(t *testing.T) {
	k, dir := openRing(t)
	blog := newKey(t, k, "blog")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(".new-123", "a key that was being written when the power went")
	write("notes.txt", "")
	if list, err := k.List(); err != nil || len(list) != 1 {
		t.Fatalf("List is %v, %v", list, err)
	}
	write("bad.key", "")
	write("Not An Alias.key", "")
	list, err := k.List()
	if len(list) != 1 || list[0] != blog {
		t.Errorf("List is %v", list)
	}
	if err == nil || !strings.Contains(err.Error(), "bad.key") || !strings.Contains(err.Error(), "Not An Alias.key") {
		t.Errorf("the error doesn't name the bad files: %v", err)
	}
}

func TestKeysMoveBetweenMachines(t *testing.T) {
	from, _ := openRing(t)
	blog := newKey(t, from, "blog")
	var text bytes.Buffer
	if err := from.Export("blog", &text); err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text.Bytes())
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		t.Fatalf("the export is no PEM PKCS#8")
	}
	to, _ := openRing(t)
	if got, err := to.Import("weblog", &text); err != nil || got.Name != blog.Name || got.Alias != "weblog" {
		t.Fatalf("Import is %v, %v, want %s", got, err, blog.Name)
	}
}

// What "openssl genpkey -algorithm ed25519" writes, and the same key as "ipfs key export" does.
const opensslKey = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
`

func TestKeysComeInFromOtherTools(t *testing.T) {
	k, _ := openRing(t)
	pemInfo, err := k.Import("openssl", strings.NewReader(opensslKey))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(opensslKey))
	seed := block.Bytes[len(block.Bytes)-32:]
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(seed))
	if err != nil {
		t.Fatal(err)
	}
	proto, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	kubo, err := k.Import("kubo", bytes.NewReader(proto))
	if err != nil || kubo.Name != pemInfo.Name {
		t.Fatalf("the same key is %s as protobuf, %v, and %s as PEM", kubo.Name, err, pemInfo.Name)
	}
}

func TestKeysThatAreNotImported(t *testing.T) {
	k, dir := openRing(t)
	rsa, _, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaProto, _ := crypto.MarshalPrivateKey(rsa)
	a, _ := crypto.MarshalPrivateKey(testKey(t, "a"))
	b, _ := crypto.MarshalPrivateKey(testKey(t, "b"))
	mixed := append(bytes.Clone(a[:len(a)-32]), b[len(b)-32:]...)
	for what, data := range map[string]string{
		"nothing":                  "",
		"zeros":                    strings.Repeat("\x00", 64),
		"a text":                   "my key",
		"RSA":                      string(rsaProto),
		"cut protobuf":             string(a[:40]),
		"another's public half":    string(mixed),
		"a certificate":            strings.ReplaceAll(opensslKey, "PRIVATE KEY", "CERTIFICATE"),
		"an encrypted key":         strings.ReplaceAll(opensslKey, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
		"two keys":                 opensslKey + opensslKey,
		"PEM without its end":      opensslKey[:100],
		"said to be another's":     "# IPNS name " + nameOfKey(t, testKey(t, "a")).String() + "\n" + opensslKey,
		"a file of a hundred megs": strings.Repeat("x", 17<<10),
	} {
		if _, err := k.Import("blog", strings.NewReader(data)); !errors.Is(err, naming.ErrInvalidKey) {
			t.Errorf("%s: %v, want ErrInvalidKey", what, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("something was kept: %v", entries)
	}
}

func TestAliases(t *testing.T) {
	for _, s := range []string{"a", "blog", "7", "my-blog-2", "bakery", "k51", "qm", "bafy", strings.Repeat("a", 63), "a--b", "my-very-long-blog-about-all-sorts-of-things-of-mine"} {
		if err := naming.CheckAlias(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "-", "-a", "a-", "Blog", "bl og", "blog.de", "../x", "a/b", "höhe", "a_b", "a\n", ".", strings.Repeat("a", 64), "ipfs", "ipns",
		"bafkqaaa", "k51qzi5uqu5dgr4lhxvtexugszmm4s7cfrk2bnr2vmzkdnp58gzmyzs2rrvub0", "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe",
		"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzd", "qmyyqso1c1ym7orwxlyvcrm2emxftanf8wxmme7dwjhx5n", "a\x00",
	} {
		if err := naming.CheckAlias(s); !errors.Is(err, naming.ErrInvalidAlias) {
			t.Errorf("%q: %v, want ErrInvalidAlias", s, err)
		}
	}
	k, _ := openRing(t)
	if _, err := k.New("../evil"); !errors.Is(err, naming.ErrInvalidAlias) {
		t.Errorf("New: %v", err)
	}
	if _, err := k.Signer("../evil"); !errors.Is(err, naming.ErrInvalidAlias) {
		t.Errorf("Signer: %v", err)
	}
}

func TestAKeyringSaysWhatTheRecordsOfItsSitesCommitTo(t *testing.T) {
	k, err := naming.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	info, err := k.New("blog")
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Committed(info.Name); got != info.Recovery || got.IsZero() {
		t.Errorf("of a site of ours: %q", got)
	}
	if got := k.Committed(namingtest.Signer(t, "a").Name()); !got.IsZero() {
		t.Errorf("of another's: %q", got)
	}
}
