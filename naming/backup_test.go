package naming_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// The test vectors of BIP-39 for 256 bits.
var bip39 = map[string]string{
	"7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f": "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
	"8080808080808080808080808080808080808080808080808080808080808080": "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless",
	"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff": strings.Repeat("zoo ", 23) + "vote",
	"68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
	"9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863": "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed nation flash devote level hobby quick inner drive ghost inside",
}

func TestTheWordsAreThoseOfBIP39(t *testing.T) {
	list, err := os.ReadFile("backup_english.txt")
	if err != nil || crc32.ChecksumIEEE(list) != 0xc1dbd296 {
		t.Fatalf("the word list is not BIP-39's: %v", err)
	}
	for seed, words := range bip39 {
		b, err := naming.ParseWords(words)
		if err != nil {
			t.Errorf("%s: %v", words, err)
			continue
		}
		got, err := b.Seed()
		if err != nil || hex.EncodeToString(got[:]) != seed {
			t.Errorf("%s: another seed, %v", words, err)
		}
		if again, err := b.Words(); err != nil || again != words {
			t.Errorf("%s became %s, %v", words, again, err)
		}
		loud := "\n\t " + strings.ToUpper(strings.ReplaceAll(words, " ", "  \r\n")) + "\n"
		if c, err := naming.ParseWords(loud); err != nil || c.Name != b.Name {
			t.Errorf("in capitals and with blanks: %v", err)
		}
	}
}

func TestWrongWordsAreNamedAndNothingElseIsTold(t *testing.T) {
	good := strings.Fields(bip39["68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c"])
	with := func(i int, w string) string {
		words := append([]string{}, good...)
		words[i] = w
		return strings.Join(words, " ")
	}
	for what, c := range map[string]struct{ text, want string }{
		"a slip of the pen":   {with(2, "privat"), `word 3, "privat", is not on the list; is it "private"?`},
		"its first letters":   {with(10, "razo"), `word 11, "razo", is not on the list; is it "razor"?`},
		"no word at all":      {with(0, "xyzzyq"), `word 1, "xyzzyq", is not on the list`},
		"a passphrase":        {with(5, "correct-horse-battery"), "word 6 is not on the list: it is too long"},
		"another word":        {with(5, "zone"), "don't belong together"},
		"two exchanged":       {strings.Join(append([]string{good[1], good[0]}, good[2:]...), " "), "don't belong together"},
		"one too few":         {strings.Join(good[1:], " "), "it takes 24 words, and these are 23"},
		"one too many":        {strings.Join(good, " ") + " zoo", "it takes 24 words, and these are 25"},
		"nothing":             {"", "it takes 24 words, and these are 0"},
		"a novel":             {strings.Repeat("call me ishmael ", 1000), "these are not 24 words"},
		"nothing but nothing": {strings.Repeat("abandon ", 23) + "art", "don't belong together"},
	} {
		_, err := naming.ParseWords(c.text)
		if !errors.Is(err, naming.ErrInvalidBackup) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
			continue
		}
		for _, w := range good {
			if strings.Contains(err.Error(), fmt.Sprintf("%q", w)) && !strings.Contains(c.want, w) {
				t.Errorf("%s: the error tells the word %q: %v", what, w, err)
			}
		}
	}
}

// cheapRing opens a keyring whose encryption costs a test nothing.
func cheapRing(t testing.TB, dir, passphrase string) *naming.Keyring {
	t.Helper()
	k, err := naming.KeyringConfig{Dir: dir, Work: 2, Passphrase: func(string) (string, error) { return passphrase, nil }}.Open()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestABackupBringsTheSiteBackOnAnEmptyMachine(t *testing.T) {
	k, _ := openRing(t)
	blog := newKey(t, k, "blog")
	if blog.Recovery.IsZero() || !blog.HasSeed || !blog.BackedUp.IsZero() {
		t.Fatalf("a new key is %+v", blog)
	}
	b, err := k.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	words, err := b.Words()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := b.Encrypt(&file, "open sesame"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(file.String(), "-----BEGIN AGE ENCRYPTED FILE-----\n") {
		t.Errorf("the file begins with %.40q", file.String())
	}
	if _, err := naming.DecryptBackup(bytes.NewReader(file.Bytes()), "open sesam"); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("another passphrase: %v, want ErrPassphrase", err)
	}
	if err := b.Encrypt(&bytes.Buffer{}, ""); !errors.Is(err, naming.ErrPassphrase) {
		t.Errorf("no passphrase: %v", err)
	}
	fromFile, err := naming.DecryptBackup(&file, "open sesame")
	if err != nil || fromFile.Alias != "blog" {
		t.Fatalf("the file is of %q, %v", fromFile.Alias, err)
	}
	fromWords, err := naming.ParseWords(words)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string]naming.Backup{"file": fromFile, "words": fromWords} {
		if err := k.CheckBackup("blog", b); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		empty, _ := openRing(t)
		got, err := empty.Restore("weblog", b, blog.Name)
		if err != nil || got.Name != blog.Name || got.Recovery != blog.Recovery || !got.HasSeed {
			t.Errorf("%s: what came back is %+v, %v", what, got, err)
		}
		s, err := empty.Signer("weblog")
		if err != nil || s.Name() != blog.Name || s.Recovery() != blog.Recovery {
			t.Errorf("%s: it signs for %v, %v", what, s, err)
		}
		if seed, err := empty.Seed("weblog"); err != nil || seed.IsZero() {
			t.Errorf("%s: the seed: %v", what, err)
		}
	}
}

func TestRestoreRefusesWhatIsAnotherSites(t *testing.T) {
	k, dir := openRing(t)
	newKey(t, k, "blog")
	docs := newKey(t, k, "docs")
	b, err := k.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Restore("docs", b, naming.Name{}); !errors.Is(err, naming.ErrKeyExists) {
		t.Errorf("over another key: %v, want ErrKeyExists", err)
	}
	if _, err := k.Restore("new", b, docs.Name); !errors.Is(err, naming.ErrInvalidBackup) {
		t.Errorf("with another name wanted: %v, want ErrInvalidBackup", err)
	}
	if err := k.CheckBackup("docs", b); !errors.Is(err, naming.ErrInvalidBackup) {
		t.Errorf("CheckBackup against another key: %v, want ErrInvalidBackup", err)
	}
	wrong := b
	wrong.Name = docs.Name
	if _, err := k.Restore("new", wrong, naming.Name{}); !errors.Is(err, naming.ErrInvalidBackup) {
		t.Errorf("that says another name: %v, want ErrInvalidBackup", err)
	}
	if _, err := k.Restore("new", naming.Backup{}, naming.Name{}); !errors.Is(err, naming.ErrInvalidBackup) {
		t.Errorf("that is empty: %v, want ErrInvalidBackup", err)
	}
	if _, err := k.Signer("new"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("something was kept: %v", err)
	}
	// A seed that lies about without a key is another's, too: nobody may lose it.
	if err := os.Rename(filepath.Join(dir, "docs.recovery"), filepath.Join(dir, "new.recovery")); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Restore("new", b, naming.Name{}); !errors.Is(err, naming.ErrKeyExists) {
		t.Errorf("beside another's seed: %v, want ErrKeyExists", err)
	}
	if _, err := k.Import("new", strings.NewReader(opensslKey)); !errors.Is(err, naming.ErrKeyExists) {
		t.Errorf("Import beside another's seed: %v, want ErrKeyExists", err)
	}
}

func TestTheSeedLeavesWithTheBackupAndComesBackWithIt(t *testing.T) {
	k, dir := openRing(t)
	blog := newKey(t, k, "blog")
	b, err := k.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if err := errors.Join(k.MarkBackedUp("blog", at), k.ForgetSeed("blog"), k.ForgetSeed("blog")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blog.recovery")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the seed's file: %v", err)
	}
	if _, err := k.Seed("blog"); !errors.Is(err, naming.ErrNoSeed) {
		t.Errorf("Seed: %v, want ErrNoSeed", err)
	}
	if _, err := k.Backup("blog"); !errors.Is(err, naming.ErrNoSeed) {
		t.Errorf("a second backup: %v, want ErrNoSeed", err)
	}
	info, err := k.Info("blog")
	if err != nil || info.HasSeed || !info.BackedUp.Equal(at) || info.Recovery != blog.Recovery {
		t.Errorf("the key is %+v, %v", info, err)
	}
	s, err := k.Signer("blog")
	if err != nil || s.Recovery() != blog.Recovery {
		t.Errorf("without its seed it signs with %v, %v", s, err)
	}
	if got, err := k.Restore("blog", b, naming.Name{}); err != nil || !got.HasSeed {
		t.Errorf("over the same key: %+v, %v", got, err)
	}
}

func TestAKeyFromElsewhereHasABackupButNoWords(t *testing.T) {
	k, _ := openRing(t)
	info, err := k.Import("blog", strings.NewReader(opensslKey))
	if err != nil || !info.Recovery.IsZero() || info.HasSeed {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := k.Seed("blog"); !errors.Is(err, naming.ErrNoSeed) {
		t.Errorf("Seed: %v, want ErrNoSeed", err)
	}
	b, err := k.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Words(); !errors.Is(err, naming.ErrNoSeed) {
		t.Errorf("Words: %v, want ErrNoSeed", err)
	}
	var file bytes.Buffer
	if err := b.Encrypt(&file, "open sesame"); err != nil {
		t.Fatal(err)
	}
	read, err := naming.DecryptBackup(&file, "open sesame")
	if err != nil {
		t.Fatal(err)
	}
	empty, _ := openRing(t)
	if got, err := empty.Restore("blog", read, info.Name); err != nil || got.Name != info.Name || got.HasSeed {
		t.Errorf("what came back is %+v, %v", got, err)
	}
}

func TestExportAndImportCarryTheCommitment(t *testing.T) {
	from, _ := openRing(t)
	blog := newKey(t, from, "blog")
	var text bytes.Buffer
	if err := from.Export("blog", &text); err != nil {
		t.Fatal(err)
	}
	good := text.String()
	to, _ := openRing(t)
	if got, err := to.Import("blog", strings.NewReader(good)); err != nil || got.Recovery != blog.Recovery || got.HasSeed {
		t.Fatalf("Import is %+v, %v", got, err)
	}
	if _, err := to.Backup("blog"); !errors.Is(err, naming.ErrNoSeed) {
		t.Errorf("a backup without the seed: %v, want ErrNoSeed", err)
	}
	lines := strings.SplitN(good, "\n", 3)
	for what, bad := range map[string]string{
		"without its checksum": lines[0] + "\n" + lines[1][:len(lines[1])-9] + "\n" + lines[2],
		"another digit":        strings.Replace(good, "recovery "+blog.Recovery.String()[:4], "recovery 0000", 1),
		"of another key":       nameLineOf(newKey(t, from, "docs")) + "\n" + lines[1] + "\n" + lines[2],
		"twice":                lines[0] + "\n" + lines[1] + "\n" + lines[1] + "\n" + lines[2],
		"another word":         strings.Replace(good, "# recovery", "# recov3ry", 1),
		"without a name":       lines[1] + "\n" + lines[2],
	} {
		if _, err := to.Import("bad", strings.NewReader(bad)); !errors.Is(err, naming.ErrInvalidKey) {
			t.Errorf("a recovery line %s: %v, want ErrInvalidKey", what, err)
		}
	}
}
