package naming

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// testWork is a cost of scrypt that a test can pay.
const testWork = 2

func testSeed(t testing.TB, b byte) (Seed, *keySigner) {
	t.Helper()
	seed := Seed(bytes.Repeat([]byte{b}, 32))
	s, err := seed.signer()
	if err != nil {
		t.Fatal(err)
	}
	return seed, s
}

func FuzzKeyFile(f *testing.F) {
	_, s := testSeed(f, 7)
	text, err := encodeKey(s)
	if err != nil {
		f.Fatal(err)
	}
	proto, err := crypto.MarshalPrivateKey(s.key)
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := seal(text, "open sesame", testWork)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[bytes.IndexByte(text, '\n')+1:])
	f.Add(proto)
	f.Add(append([]byte(keyLines(s.name, s.recovery)), sealed...))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseKeyFile(data)
		if err == nil && file.sealed {
			if text, err := unseal(file.body, "open sesame", testWork); err == nil {
				file, err = parseKeyFile(text)
				if err != nil || file.sealed {
					return
				}
			}
		}
		var s *keySigner
		if err == nil {
			s, err = file.open()
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidKey) && !errors.Is(err, ErrPassphrase) {
				t.Fatalf("%v is neither ErrInvalidKey nor ErrPassphrase", err)
			}
			return
		}
		text, err := encodeKey(s)
		if err != nil {
			t.Fatal(err)
		}
		file, err = parseKeyFile(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := file.open()
		if err != nil || !again.key.Equals(s.key) || again.recovery != s.recovery {
			t.Fatalf("a key that was read and written is another: %v", err)
		}
	})
}

func FuzzParseWords(f *testing.F) {
	seed, _ := testSeed(f, 7)
	f.Add(seed.words())
	f.Add(strings.ToUpper(strings.ReplaceAll(seed.words(), " ", "\t\n")))
	f.Add(strings.Repeat("zoo ", 23) + "vote")
	f.Add(strings.Repeat("zoo ", 24))
	f.Add("abandom")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseWords(text)
		if err != nil {
			if !errors.Is(err, ErrInvalidBackup) {
				t.Fatalf("%v is no ErrInvalidBackup", err)
			}
			return
		}
		words, err := b.Words()
		if err != nil || words != strings.Join(strings.Fields(strings.ToLower(text)), " ") {
			t.Fatalf("%q became %q, %v", text, words, err)
		}
	})
}

func FuzzDecryptBackup(f *testing.F) {
	seed, s := testSeed(f, 7)
	own, err := Backup{Alias: "blog", Name: s.name, seed: seed}.encode()
	if err != nil {
		f.Fatal(err)
	}
	other, err := Backup{Alias: "blog", Name: s.name, key: s}.encode()
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := seal(own, "open sesame", testWork)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add(other)
	f.Add(sealed)
	f.Add([]byte(`{"version": 2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func() (Backup, error){
			func() (Backup, error) { return decodeBackup(data) },
			func() (Backup, error) { return decryptBackup(bytes.NewReader(data), "open sesame", testWork) },
		} {
			b, err := read()
			if err != nil {
				if !errors.Is(err, ErrInvalidBackup) && !errors.Is(err, ErrPassphrase) {
					t.Fatalf("%v is neither ErrInvalidBackup nor ErrPassphrase", err)
				}
				continue
			}
			text, err := b.encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := decodeBackup(text)
			if err != nil || again.Name != b.Name || again.Alias != b.Alias || again.seed != b.seed {
				t.Fatalf("a backup that was read and written is another: %v", err)
			}
		}
	})
}

// cutOff is what is killed, by its name, at each step.
var cutOff = map[string]func(k *Keyring) error{
	"new":           func(k *Keyring) error { _, err := k.New("blog"); return err },
	"new encrypted": func(k *Keyring) error { k.cfg.Encrypt = true; _, err := k.New("blog"); return err },
	"restore": func(k *Keyring) error {
		_, err := k.Restore("blog", backupOf(9), Name{})
		return err
	},
	"encrypt":   func(k *Keyring) error { return k.Encrypt("blog", "open sesame") },
	"decrypt":   func(k *Keyring) error { return k.Decrypt("blog") },
	"supersede": func(k *Keyring) error { return k.Supersede("blog", "blog-next", "blog-was") },
}

func backupOf(b byte) Backup {
	seed := Seed(bytes.Repeat([]byte{b}, 32))
	s, err := seed.signer()
	if err != nil {
		panic(err)
	}
	return Backup{Alias: "blog", Name: s.name, seed: seed}
}

func openTestRing(t testing.TB, dir string) *Keyring {
	t.Helper()
	k, err := KeyringConfig{Dir: dir, Work: testWork, Passphrase: func(string) (string, error) { return "open sesame", nil }}.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestCutOffChild is the process that TestWhateverEndsTheProcessAKeyIsWhole kills: it ends itself before a step.
func TestCutOffChild(t *testing.T) {
	var what string
	var left int
	if _, err := fmt.Sscanf(os.Getenv("HOLDFAST_TEST_CUT_OFF"), "%d %q", &left, &what); err != nil {
		t.Skip("only as a process of another test")
	}
	k := openTestRing(t, os.Getenv("HOLDFAST_TEST_KEYS"))
	k.files.before = func() {
		if left--; left < 0 {
			os.Exit(9)
		}
	}
	if err := cutOff[what](k); err != nil {
		t.Fatal(err)
	}
}

// runCutOff runs one of cutOff in a process that is killed before a step, and tells whether it was.
func runCutOff(t *testing.T, what, dir string, step int) (killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCutOffChild$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("HOLDFAST_TEST_CUT_OFF=%d %q", step, what), "HOLDFAST_TEST_KEYS="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 9 {
		return true
	}
	if err != nil {
		t.Fatalf("%s, killed before step %d: %v\n%s", what, step, err, out)
	}
	return false
}

func TestWhateverEndsTheProcessAKeyIsWholeAndHasItsSeed(t *testing.T) {
	for what := range cutOff {
		if what == "supersede" { // one key takes the place of another: see below
			continue
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for step, killed := 0, true; killed; step++ {
				dir := filepath.Join(t.TempDir(), "keys")
				k := openTestRing(t, dir)
				var before KeyInfo
				var err error
				switch what {
				case "encrypt", "decrypt":
					if before, err = k.New("blog"); err == nil && what == "decrypt" {
						err = k.Encrypt("blog", "open sesame")
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				killed = runCutOff(t, what, dir, step)
				if step > 50 {
					t.Fatal("it never ends")
				}
				afterCut(t, openTestRing(t, dir), what, step, before)
			}
		})
	}
}

// afterCut checks that there is the key with its seed, or none, and that doing it again ends it.
func afterCut(t *testing.T, k *Keyring, what string, step int, before KeyInfo) {
	t.Helper()
	whole := func(when string) {
		t.Helper()
		s, err := k.Signer("blog")
		if errors.Is(err, ErrNoKey) && before.Alias == "" && when == "at once" {
			return
		}
		if err != nil {
			t.Fatalf("%s killed before step %d, %s: %v", what, step, when, err)
		}
		seed, err := k.Seed("blog")
		if err != nil {
			t.Fatalf("%s killed before step %d, %s: a key without its seed: %v", what, step, when, err)
		}
		if own, err := seed.signer(); err != nil || own.name != s.Name() || own.recovery != s.Recovery() {
			t.Fatalf("%s killed before step %d, %s: another seed, %v", what, step, when, err)
		}
		if before.Alias != "" && s.Name() != before.Name {
			t.Fatalf("%s killed before step %d, %s: another key", what, step, when)
		}
	}
	whole("at once")
	if err := cutOff[what](k); err != nil && !errors.Is(err, ErrKeyExists) {
		t.Fatalf("%s again, killed before step %d: %v", what, step, err)
	}
	whole("done again")
}

func TestWhateverEndsTheProcessAnAliasHasTheOldKeyOrTheNewOneAndNoSeedIsLost(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for step, killed := 0, true; killed; step++ {
			dir := filepath.Join(t.TempDir(), "keys")
			k := openTestRing(t, dir)
			k.cfg.Encrypt = encrypted
			was := newTestKey(t, k, "blog")
			if err := k.MarkBackedUp("blog", time.Now()); err != nil {
				t.Fatal(err)
			}
			next := newTestKey(t, k, "blog-next")
			killed = runCutOff(t, "supersede", dir, step)
			if step > 50 {
				t.Fatal("it never ends")
			}
			k = openTestRing(t, dir)
			at, err := k.Info("blog")
			if err != nil || at.Name != was.Name && at.Name != next.Name {
				t.Fatalf("killed before step %d: blog is %+v, %v", step, at, err)
			}
			if _, err := k.Seed("blog"); err != nil && at.Name == was.Name {
				t.Fatalf("killed before step %d: the old key has no seed any more: %v", step, err)
			}
			if err := k.Supersede("blog", "blog-next", "blog-was"); err != nil && !(errors.Is(err, ErrNoKey) && at.Name == next.Name) {
				t.Fatalf("again, killed before step %d: %v", step, err)
			}
			wantSuperseded(t, k, step, was, next)
		}
	}
}

func newTestKey(t *testing.T, k *Keyring, alias string) KeyInfo {
	t.Helper()
	info, err := k.New(alias)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// wantSuperseded wants the new key with its seed under the alias, the old one under the archive's, and no others.
func wantSuperseded(t *testing.T, k *Keyring, step int, was, next KeyInfo) {
	t.Helper()
	keys, err := k.List()
	if err != nil || len(keys) != 2 {
		t.Fatalf("killed before step %d: there are the keys %+v, %v", step, keys, err)
	}
	now, archive := keys[0], keys[1]
	if now.Alias != "blog" || now.Name != next.Name || now.Recovery != next.Recovery || !now.BackedUp.IsZero() {
		t.Errorf("killed before step %d: blog is %+v", step, now)
	}
	if seed, err := k.Seed("blog"); err != nil || seed.IsZero() {
		t.Errorf("killed before step %d: the new key has no seed: %v", step, err)
	}
	if archive.Alias != "blog-was" || archive.Name != was.Name {
		t.Errorf("killed before step %d: the archive is %+v", step, archive)
	}
	for _, alias := range []string{"blog", "blog-was"} {
		if _, err := k.Signer(alias); err != nil {
			t.Errorf("killed before step %d: %v", step, err)
		}
	}
}

func TestSupersedeRefusesAnArchiveOfAnotherKey(t *testing.T) {
	k := openTestRing(t, filepath.Join(t.TempDir(), "keys"))
	was := newTestKey(t, k, "blog")
	newTestKey(t, k, "blog-next")
	newTestKey(t, k, "other")
	if err := k.Supersede("blog", "blog-next", "other"); !errors.Is(err, ErrKeyExists) {
		t.Errorf("an archive that is taken: %v", err)
	}
	if err := k.Supersede("blog", "nobody", "blog-was"); !errors.Is(err, ErrNoKey) {
		t.Errorf("no next key: %v", err)
	}
	if at, err := k.Info("blog"); err != nil || at.Name != was.Name || !at.HasSeed {
		t.Errorf("blog is %+v, %v", at, err)
	}
}

func TestAKeyFileThatWouldTakeForeverIsRefused(t *testing.T) {
	_, s := testSeed(t, 7)
	text, err := encodeKey(s)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := seal(text, "open sesame", testWork+1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unseal(sealed, "open sesame", testWork); err == nil || errors.Is(err, ErrPassphrase) {
		t.Errorf("more work than allowed: %v", err)
	}
}

func TestWhatIsLeftOfAKilledProcessGoes(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, tempPrefix+"1")
	fresh := filepath.Join(dir, tempPrefix+"2")
	for _, name := range []string{old, fresh} {
		if err := os.WriteFile(name, []byte("half a key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(old)
	if err != nil {
		t.Fatal(err)
	}
	then := info.ModTime().Add(-2 * staleAfter)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	openTestRing(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one is still there: %v", err)
	}
	if _, err := os.Stat(fresh); err != nil {
		t.Errorf("what another process is writing went: %v", err)
	}
}
