package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// keyFields are those of a key in JSON.
var keyFields = []string{"alias", "name", "encrypted", "recovery", "seed_here", "backed_up", "backed_up_at"}

// scripted is somebody who answers questions by what is in them, in the order in which the answers stand; whatever else is asked ends the
// test.
type scripted struct {
	t       *testing.T
	answers []answer
	words   []string // for "Word N is:"
	asked   []string
}

type answer struct{ question, text string }

func (s *scripted) Line(_ context.Context, question string) (string, error) {
	s.asked = append(s.asked, question)
	if m := regexp.MustCompile(`^Word (\d+) is: $`).FindStringSubmatch(question); m != nil && len(s.words) > 0 {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return "", err
		}
		return s.words[n-1], nil
	}
	if len(s.answers) == 0 || !strings.Contains(question, s.answers[0].question) {
		s.t.Errorf("asked %q, and the answers left are %v", question, s.answers)
		return "", errors.New("nobody answers")
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	return a.text, nil
}

func (s *scripted) Secret(ctx context.Context, question string) (string, error) {
	return s.Line(ctx, question)
}

func answers(t *testing.T, pairs ...string) *scripted {
	t.Helper()
	s := &scripted{t: t}
	for i := 0; i < len(pairs); i += 2 {
		s.answers = append(s.answers, answer{pairs[i], pairs[i+1]})
	}
	t.Cleanup(func() {
		if len(s.answers) > 0 {
			t.Errorf("never asked: %v", s.answers)
		}
	})
	return s
}

func (u *user) keyFile(name string) string { return filepath.Join(u.home, "keys", name) }

func (u *user) hasFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// slowOnPurpose is for passphrases: guessing them is made dear, and trying them with it.
func slowOnPurpose(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("each passphrase takes a second, under the race detector many; the full suite tries them")
	}
}

func TestABackupFileBringsTheSiteBackOnAnotherMachine(t *testing.T) {
	slowOnPurpose(t)
	u := newUser(t)
	made := u.json("key", "new", "blog")
	hasExactly(t, "key new", made, keyFields...)
	if made["backed_up"] != false || made["seed_here"] != true || len(made["recovery"].(string)) != 64 {
		t.Errorf("a new key: %v", made)
	}
	file := u.path("blog.backup")
	u.fails(2, "HOLDFAST_BACKUP_PASSPHRASE", "key", "backup", "blog", "-o", file)
	u.fails(2, "say where with -o", "key", "backup", "blog")
	u.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesame"
	done := u.json("key", "backup", "blog", "-o", file)
	hasExactly(t, "key backup", done, "alias", "name", "file", "tested", "seed_here")
	if done["tested"] != true || done["seed_here"] != false || u.hasFile(u.keyFile("blog.recovery")) {
		t.Errorf("after the backup: %v", done)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if o := u.must("key", "list"); !strings.Contains(o.out, "backed up 20") {
		t.Errorf("key list: %s", o.out)
	}
	u.fails(3, "copies of that are as good as a new one", "key", "backup", "blog", "-o", u.path("second"))

	other := newUser(t)
	other.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesam"
	other.fails(2, "wrong passphrase for this backup", "key", "restore", file)
	other.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesame"
	other.fails(6, "not of k51qzi5uqu5dgr4lhxvtexugszmm4s7cfrk2bnr2vmzkdnp58gzmyzs2rrvub0", "key", "restore", file,
		"--name", "k51qzi5uqu5dgr4lhxvtexugszmm4s7cfrk2bnr2vmzkdnp58gzmyzs2rrvub0")
	if other.hasFile(other.keyFile("blog.key")) {
		t.Error("the refused backup left a key")
	}
	back := other.json("key", "restore", file, "--name", made["name"].(string))
	if back["name"] != made["name"] || back["recovery"] != made["recovery"] || back["alias"] != "blog" {
		t.Errorf("what came back: %v", back)
	}
	if got := other.json("key", "restore", "weblog", file, "--forget-seed"); got["name"] != made["name"] || got["seed_here"] != false {
		t.Errorf("under another alias: %v", got)
	}
	site := other.site("site")
	if p := other.json("publish", site, "--site", "blog", "--copies", "0", "--network", "offline"); p["name"] != made["name"] {
		t.Errorf("what it publishes: %v", p)
	}
	other.must("key", "new", "docs")
	other.fails(2, "for another site", "key", "restore", "docs", file)
	other.fails(6, "invalid key backup", "key", "restore", other.file("junk", "not a backup"))
}

func TestWordsBringTheSiteBack(t *testing.T) {
	u := newUser(t)
	made := u.json("key", "new", "blog")
	if o := u.must("key", "backup", "blog", "--words"); !strings.Contains(o.err, "the seed stays") || !u.hasFile(u.keyFile("blog.recovery")) {
		t.Errorf("in a script: %s", o.err)
	}
	wrong := answers(t, "Word", "nope", "Word", "nope", "Word", "nope")
	u.person = wrong
	if o := u.must("key", "backup", "blog", "--words"); !strings.Contains(o.err, "the seed stays") || !u.hasFile(u.keyFile("blog.recovery")) {
		t.Errorf("with the wrong words typed: %s", o.err)
	}
	words := u.json("key", "backup", "blog", "--words")["words"].(string)
	person := answers(t)
	person.words = strings.Fields(words)
	u.person = person
	o := u.must("key", "backup", "blog", "--words")
	if strings.Join(strings.Fields(o.out), " ") != words || len(person.asked) != 3 || u.hasFile(u.keyFile("blog.recovery")) {
		t.Errorf("asked %q\n%s%s", person.asked, o.out, o.err)
	}

	other := newUser(t)
	other.in = strings.NewReader(strings.Replace(words, " ", "\n", 5))
	if got := other.json("key", "restore", "--words", "blog"); got["name"] != made["name"] {
		t.Errorf("from standard input: %v", got)
	}
	third := newUser(t)
	third.person = answers(t, "The 24 words", strings.ToUpper(words))
	if got := third.json("key", "restore", "weblog", "--words"); got["name"] != made["name"] || got["alias"] != "weblog" {
		t.Errorf("typed: %v", got)
	}
	u.must("key", "new", "docs")
	if u.json("key", "backup", "docs", "--words", "--forget-seed")["seed_here"] != false {
		t.Error("--forget-seed keeps it")
	}
}

func TestABackupOnStandardOutputKeepsTheSeedUnlessToldOtherwise(t *testing.T) {
	slowOnPurpose(t)
	u := newUser(t)
	made := u.json("key", "new", "blog")
	u.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesame"
	u.wantsBytes(t, "key", "backup", "blog", "-o", "-")
	first := u.must("key", "backup", "blog", "-o", "-")
	if !u.hasFile(u.keyFile("blog.recovery")) {
		t.Error("the seed is gone")
	}
	u.must("key", "backup", "blog", "-o", "-", "--forget-seed")
	if u.hasFile(u.keyFile("blog.recovery")) {
		t.Error("the seed is still here")
	}
	other := newUser(t)
	other.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesame"
	other.in = strings.NewReader(first.out)
	if got := other.json("key", "restore", "-"); got["name"] != made["name"] {
		t.Errorf("%v", got)
	}
}

func TestTheFirstPublishAsksForABackupAndOnlyAPerson(t *testing.T) {
	u := newUser(t)
	publish := []string{"publish", u.site("blog"), "--copies", "0", "--network", "offline"}
	u.person = answers(t)
	if o := u.must(append(publish, "--json")...); strings.Contains(o.err, "backup") {
		t.Errorf("with --json: %s", o.err)
	}
	u.must(append(publish, "--site", "two", "-q")...)
	if o := u.must(append(publish, "--site", "three", "--yes")...); !strings.Contains(o.err, "`holdfast key backup three`") {
		t.Errorf("with --yes: %s", o.err)
	}
	if o := u.must(append(publish, "--site", "three")...); strings.Contains(o.err, "backup") {
		t.Errorf("the second publish: %s", o.err)
	}
	u.person = nil
	if o := u.must(append(publish, "--site", "four")...); !strings.Contains(o.err, "note: the key of four has no backup: `holdfast key backup four`") {
		t.Errorf("in a script: %s", o.err)
	}
	u.person = answers(t, "backup now? [Y/n]", "n")
	u.must(append(publish, "--site", "five")...)
	u.person = answers(t, "backup now? [Y/n]", "", "File, or", u.path("blog/in.backup"))
	if o := u.must(append(publish, "--site", "six")...); !strings.Contains(o.err, "in the folder that is published") || u.hasFile(u.path("blog/in.backup")) {
		t.Errorf("into the site: %s", o.err)
	}
	u.vars["HOME"] = u.dir
	u.person = answers(t, "backup now? [Y/n]", "y", "File, or", "", "New passphrase", "one", "The same again", "two", "New passphrase", "open sesame", "The same again", "open sesame")
	o := u.must(append(publish, "--site", "seven")...)
	if !strings.Contains(o.out, "read back and tested by signing") || !u.hasFile(u.path("holdfast-seven.backup")) || u.hasFile(u.keyFile("seven.recovery")) {
		t.Errorf("%s%s", o.out, o.err)
	}
}

func TestAnEncryptedKeySignsWithItsPassphraseOnly(t *testing.T) {
	u := newUser(t)
	made := u.json("key", "new", "blog")
	u.fails(2, "HOLDFAST_PASSPHRASE", "key", "encrypt", "blog")
	u.person = answers(t, "New passphrase for the key", "open sesame", "The same again", "open sesame")
	if got := u.json("key", "encrypt", "blog"); got["encrypted"] != true || got["name"] != made["name"] {
		t.Errorf("%v", got)
	}
	u.person = nil
	publish := []string{"publish", u.site("blog"), "--copies", "0", "--network", "offline"}
	u.fails(2, "set HOLDFAST_PASSPHRASE, or run this on a terminal", publish...)
	u.fails(2, "encrypted already", "key", "encrypt", "blog")
	if o := u.must("key", "list"); !strings.Contains(o.out, "encrypted") {
		t.Errorf("key list: %s", o.out)
	}
	u.person = answers(t, "Passphrase of the key of blog", "open sesam", "Passphrase of the key of blog", "open sesame")
	if got := u.json(publish...); got["name"] != made["name"] {
		t.Errorf("%v", got)
	}
	u.person = nil
	u.vars["HOLDFAST_PASSPHRASE"] = "open sesam"
	u.fails(2, "wrong passphrase for the key of blog", publish...)
	u.vars["HOLDFAST_PASSPHRASE"] = "open sesame"
	u.must(publish...)
	if got := u.json("key", "new", "docs"); got["encrypted"] != true {
		t.Errorf("a new key where a passphrase is set: %v", got)
	}
	if got := u.json("key", "decrypt", "blog"); got["encrypted"] != false || got["name"] != made["name"] {
		t.Errorf("%v", got)
	}
	delete(u.vars, "HOLDFAST_PASSPHRASE")
	u.must(publish...)
}

func TestARunningNodeGetsThePassphraseFromTheCommand(t *testing.T) {
	u := newUser(t)
	u.vars["HOLDFAST_PASSPHRASE"] = "open sesame"
	u.must("key", "new", "blog")
	delete(u.vars, "HOLDFAST_PASSPHRASE")
	s := serve(t, u, "serve", "--gateway", "127.0.0.1:0", "--p2p", loopback)
	publish := []string{"publish", u.site("blog"), "--copies", "0"}
	s.fails(2, "set HOLDFAST_PASSPHRASE", publish...)
	u.vars["HOLDFAST_PASSPHRASE"] = "open sesame"
	s.must(append(publish, "--site", "docs")...)
	s.must(publish...)
	delete(u.vars, "HOLDFAST_PASSPHRASE")
	s.must(publish...) // the node has it now
	for _, k := range u.json("key", "list")["keys"].([]any) {
		if k.(map[string]any)["encrypted"] != true {
			t.Errorf("the node made a key in clear: %v", k)
		}
	}
}

func TestRemovingAKeyNeedsABackupAndTheAliasTyped(t *testing.T) {
	u := newUser(t)
	u.must("publish", u.site("blog"), "--copies", "0", "--network", "offline")
	u.fails(2, "no backup of blog is known of", "key", "remove", "blog", "--yes")
	u.must("key", "backup", "blog", "--words", "--forget-seed")
	u.fails(2, "say --yes", "key", "remove", "blog")
	u.person = answers(t, "Type the alias", "docs")
	if o := u.run("key", "remove", "blog"); o.code != 2 || !strings.Contains(o.err, "Nobody can change, renew or move it without a backup") || !u.hasFile(u.keyFile("blog.key")) {
		t.Errorf("%d: %s", o.code, o.err)
	}
	u.person = answers(t, "Type the alias", "blog")
	if got := u.json("key", "remove", "blog"); got["removed"] != true || u.hasFile(u.keyFile("blog.key")) {
		t.Errorf("%v", got)
	}
	u.person = nil
	u.must("key", "new", "docs")
	u.must("key", "remove", "docs", "--yes", "--force")
	if left, err := filepath.Glob(u.keyFile("*")); err != nil || len(left) != 0 {
		t.Errorf("there is left %v, %v", left, err)
	}
	u.fails(3, "no such key", "key", "remove", "docs", "--yes", "--force")
}

func TestNoPassphraseIsEverPrinted(t *testing.T) {
	slowOnPurpose(t)
	u := newUser(t)
	u.must("key", "new", "plain")
	u.vars["HOLDFAST_PASSPHRASE"], u.vars["HOLDFAST_BACKUP_PASSPHRASE"] = "open sesame", "close sesame"
	for _, args := range [][]string{
		{"key", "new", "blog", "--verbose"}, {"key", "encrypt", "plain"}, {"key", "list"}, {"key", "backup", "blog", "-o", u.path("b")},
		{"publish", u.site("blog"), "--copies", "0", "--network", "offline", "--verbose"}, {"key", "restore", "again", u.path("b")}, {"key", "decrypt", "blog"},
	} {
		for _, extra := range []string{"--json", "--verbose"} {
			o := u.run(append(args, extra)...)
			if strings.Contains(o.out+o.err, "sesame") {
				t.Errorf("%q prints it: %s%s", args, o.out, o.err)
			}
		}
	}
}
