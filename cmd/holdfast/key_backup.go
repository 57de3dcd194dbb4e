package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/naming"
)

// backupResult is what key backup has done.
type backupResult struct {
	Alias    string `json:"alias"`
	Name     string `json:"name"`
	File     string `json:"file,omitempty"`
	Words    string `json:"words,omitempty"`
	Tested   bool   `json:"tested"` // read back, and what it holds has signed
	SeedHere bool   `json:"seed_here"`
}

// backingUp is one backup on its way.
type backingUp struct {
	*env
	ring   *naming.Keyring
	backup naming.Backup
	keep   bool // the seed stays on this machine
	forget bool // the seed goes, also where nobody has shown that the backup is good
}

func (e *env) runKeyBackup(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	alias, out := c.Args().First(), c.String("output")
	if c.Bool("keep-seed") && c.Bool("forget-seed") {
		return usage("--keep-seed and --forget-seed contradict each other")
	}
	if c.Bool("words") && out != "" {
		return usage("--words are printed: they go with no -o")
	}
	b, err := e.beginBackup(c.Context, alias)
	if err != nil {
		return err
	}
	b.keep, b.forget = c.Bool("keep-seed"), c.Bool("forget-seed")
	switch {
	case c.Bool("words"):
		return b.words(c.Context)
	case out == "-":
		return b.toOutput(c.Context)
	case out == "":
		if out = e.defaultBackupFile(alias); out == "" {
			return usage("there is no home folder to put the backup into: say where with -o FILE")
		}
	}
	return b.toFile(c.Context, out)
}

func (e *env) beginBackup(ctx context.Context, alias string) (*backingUp, error) {
	ring, err := e.keys(ctx)
	if err != nil {
		return nil, err
	}
	backup, err := ring.Backup(alias)
	if errors.Is(err, naming.ErrNoSeed) {
		return nil, control.Errorf(control.NotFound, "the seed of %s has left this machine with a backup, and copies of that are as good as a new one; "+
			"`holdfast key export %s` still writes the key that signs", alias, alias)
	}
	if err != nil {
		return nil, err
	}
	return &backingUp{env: e, ring: ring, backup: backup}, nil
}

// defaultBackupFile is in the user's home folder, not in the working folder, which may be the one that is published; "" where
// there is none.
func (e *env) defaultBackupFile(alias string) string {
	home := e.getenv("HOME")
	if home == "" {
		home = e.getenv("USERPROFILE")
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, "holdfast-"+alias+".backup")
}

// toFile writes the file, and shows by signing with what is in it that it is a backup, before the seed goes.
func (b *backingUp) toFile(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return usage("%s exists already, and may be the only backup of a key: choose another file", path)
	}
	p, err := b.newPassphrase(ctx, backupPassphraseVar, "passphrase for the backup")
	if err != nil {
		return err
	}
	if err := writeSecret(path, func(w io.Writer) error { return b.backup.Encrypt(w, p) }); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	read, err := naming.DecryptBackup(f, p)
	if err == nil {
		err = b.ring.CheckBackup(b.backup.Alias, read)
	}
	if err != nil {
		return fmt.Errorf("%s was written, and is no good: %w", path, err)
	}
	if err := b.done(true); err != nil {
		return err
	}
	return b.show(backupResult{File: path, Tested: true}, func() {
		b.printf("%s  backup in %s, read back and tested by signing\n", b.backup.Alias, path)
		b.say(b.err, "Keep the file and its passphrase apart from this machine.\n")
	})
}

// toOutput writes the backup where it can't be read back, so that the seed stays unless it was told to go.
func (b *backingUp) toOutput(ctx context.Context) error {
	if b.json {
		return errBothOutput
	}
	p, err := b.newPassphrase(ctx, backupPassphraseVar, "passphrase for the backup")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := b.backup.Encrypt(&text, p); err != nil {
		return err
	}
	if _, err := b.out.Write(text.Bytes()); err != nil {
		return err
	}
	if !b.forget {
		b.note("the seed stays on this machine: what was written here could not be read back; --forget-seed takes it off")
		return nil
	}
	return b.done(true)
}

// words prints the words, and has three of them typed back.
func (b *backingUp) words(ctx context.Context) error {
	words, err := b.backup.Words()
	if errors.Is(err, naming.ErrNoSeed) {
		return usage("the key of %s came from elsewhere, and there are no words for it: make a file", b.backup.Alias)
	}
	if err != nil {
		return err
	}
	if read, err := naming.ParseWords(words); err != nil || b.ring.CheckBackup(b.backup.Alias, read) != nil {
		return fmt.Errorf("the words of %s don't bring its key back", b.backup.Alias)
	}
	if !b.json {
		if err := printWords(b.out, words); err != nil {
			return err
		}
	}
	sure := b.forget
	if b.person != nil && !b.json && !sure {
		if sure, err = b.typedBack(ctx, strings.Fields(words)); err != nil {
			return err
		}
	}
	if sure {
		if err := b.done(true); err != nil {
			return err
		}
	}
	result := backupResult{Tested: true}
	if b.json {
		result.Words = words
	}
	return b.show(result, func() {
		if !sure {
			b.note("the seed stays on this machine, since nobody has shown that the words were written down; --forget-seed takes it off")
		}
	})
}

func printWords(w io.Writer, words string) error {
	for line := range slices.Chunk(strings.Fields(words), 6) {
		if _, err := fmt.Fprintln(w, strings.Join(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// typedBack asks for three of the words. False where they were not written down after a few tries.
func (b *backingUp) typedBack(ctx context.Context, words []string) (bool, error) {
	b.say(b.err, "Write them on paper, in this order. Whoever has them is the site.\n")
	asked, err := chooseThree(len(words))
	if err != nil {
		return false, err
	}
	for _, i := range asked {
		right := false
		for range passphraseTries {
			typed, err := b.person.Line(ctx, fmt.Sprintf("Word %d is: ", i+1))
			if err != nil {
				return false, err
			}
			if right = strings.EqualFold(typed, words[i]); right {
				break
			}
			b.say(b.err, "that is not word %d\n", i+1)
		}
		if !right {
			return false, nil
		}
	}
	return true, nil
}

// chooseThree is three different numbers below n, in order.
func chooseThree(n int) ([]int, error) {
	var out []int
	for len(out) < 3 {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, int(i.Int64())) {
			out = append(out, int(i.Int64()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// done notes a good backup, and takes the seed off this machine: a thief of it must not get what the backup is for.
func (b *backingUp) done(forget bool) error {
	if err := b.ring.MarkBackedUp(b.backup.Alias, time.Now()); err != nil {
		return err
	}
	if !forget || b.keep {
		return nil
	}
	return b.ring.ForgetSeed(b.backup.Alias)
}

// show ends a backup.
func (b *backingUp) show(r backupResult, human func()) error {
	info, err := b.ring.Info(b.backup.Alias)
	if err != nil {
		return err
	}
	r.Alias, r.Name, r.SeedHere = info.Alias, info.Name.String(), info.HasSeed
	b.print(r, func() {
		human()
		if !b.quiet && !r.SeedHere && !info.Recovery.IsZero() {
			b.say(b.err, "The site's seed has left this machine: a thief of it can publish, but only the backup can move the site to a new key.\n")
		}
	})
	return nil
}

// offerBackup asks a person, after the first release of a site, whether to make its backup now, and tells scripts of it in
// a line. The publish has succeeded: what goes wrong here is only told.
func (e *env) offerBackup(ctx context.Context, p author.Published, dir string) {
	if p.Sequence != 1 || e.json || e.quiet {
		return
	}
	ring, err := e.keys(ctx)
	if err != nil {
		return
	}
	k, err := ring.Info(p.Alias)
	if err != nil || backedUp(k) {
		return
	}
	if e.person == nil {
		e.note("the key of " + p.Alias + " has no backup: `holdfast key backup " + p.Alias + "` makes one")
		return
	}
	if err := e.backupNow(ctx, p.Alias, dir); err != nil && ctx.Err() == nil {
		e.say(e.err, "no backup was made: %s; `holdfast key backup %s` makes one\n", err, p.Alias)
	}
}

// backupNow asks where the backup of a site should go, which is not into the folder that is published.
func (e *env) backupNow(ctx context.Context, alias, dir string) error {
	e.say(e.err, "If this machine is lost, so is %s: nobody could ever change it again.\n", alias)
	answer, err := e.person.Line(ctx, "Make a backup now? [Y/n] ")
	if err != nil {
		return err
	}
	if a := strings.ToLower(answer); a != "" && a != "y" && a != "yes" {
		e.note("`holdfast key backup " + alias + "` makes one at any time")
		return nil
	}
	path := e.defaultBackupFile(alias)
	answer, err = e.person.Line(ctx, "File, or \"words\" for paper ["+harmless(path)+"]: ")
	if err != nil {
		return err
	}
	b, err := e.beginBackup(ctx, alias)
	if err != nil {
		return err
	}
	if answer == "words" {
		return b.words(ctx)
	}
	if answer != "" {
		path = answer
	}
	if path == "" {
		return usage("no file was named")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(dir, abs); err == nil && filepath.IsLocal(rel) {
		return usage("%s is in the folder that is published", path)
	}
	return b.toFile(ctx, abs)
}
