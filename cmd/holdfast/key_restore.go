package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxBackup bounds what is read of a backup, in bytes; the format allows less.
const maxBackup = 17 << 10

func (e *env) runKeyRestore(c *cli.Context) error {
	var want naming.Name
	if s := c.String("name"); s != "" {
		var err error
		if want, err = naming.ParseName(s); err != nil {
			return err
		}
	}
	backup, alias, err := e.readBackup(c)
	if err != nil {
		return err
	}
	ring, err := e.newKeys(c.Context, c.Bool("encrypt"))
	if err != nil {
		return err
	}
	if _, err := ring.Restore(alias, backup, want); err != nil {
		return err
	}
	if err := ring.MarkBackedUp(alias, time.Now()); err != nil { // it has just been tested
		return err
	}
	if c.Bool("forget-seed") {
		if err := ring.ForgetSeed(alias); err != nil {
			return err
		}
	}
	k, err := ring.Info(alias)
	if err != nil {
		return err
	}
	e.print(keyInfoOf(k), func() {
		e.printf("%s  %s\n", k.Alias, k.Name.String())
		if e.quiet {
			return
		}
		e.say(e.err, "The key is back, and what it signs was tested. The next publish asks hosts and network first for what was published before:\n"+
			"add a host with `holdfast host add` if this machine knows none.\n")
		if k.HasSeed {
			e.say(e.err, "The site's seed is on this machine, too; `holdfast key backup %s` makes a new backup and takes it off.\n", k.Alias)
		}
	})
	return nil
}

// readBackup reads what the arguments name, and the alias that the key is to have.
func (e *env) readBackup(c *cli.Context) (b naming.Backup, alias string, err error) {
	if c.Bool("words") {
		if err := exactly(c, "ALIAS"); err != nil {
			return b, "", err
		}
		alias = c.Args().First()
		if err := naming.CheckAlias(alias); err != nil {
			return b, "", err
		}
		text, err := e.readWords(c.Context)
		if err != nil {
			return b, "", err
		}
		b, err = naming.ParseWords(text)
		return b, alias, err
	}
	file := c.Args().First()
	if c.NArg() == 2 {
		alias, file = file, c.Args().Get(1)
	} else if err := exactly(c, "FILE"); err != nil {
		return b, "", usage("key restore needs FILE, or ALIAS and FILE, or --words and ALIAS")
	}
	b, err = e.decryptBackup(c.Context, file)
	if alias == "" {
		alias = b.Alias
	}
	return b, alias, err
}

// readWords has the words typed, or takes them from standard input.
func (e *env) readWords(ctx context.Context) (string, error) {
	if e.person != nil {
		return e.person.Line(ctx, "The 24 words: ")
	}
	b, err := io.ReadAll(io.LimitReader(e.in, maxBackup))
	return string(b), err
}

func (e *env) decryptBackup(ctx context.Context, file string) (naming.Backup, error) {
	in := e.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return naming.Backup{}, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxBackup))
	if err != nil {
		return naming.Backup{}, err
	}
	for try := 1; ; try++ {
		p := e.getenv(backupPassphraseVar)
		asked := p == ""
		if asked {
			if e.person == nil {
				return naming.Backup{}, nothingSays(backupPassphraseVar, "the backup is encrypted")
			}
			if p, err = e.askSecret(ctx, "Passphrase of the backup: "); err != nil {
				return naming.Backup{}, err
			}
		}
		b, err := naming.DecryptBackup(bytes.NewReader(data), p)
		if errors.Is(err, naming.ErrPassphrase) && asked && try < passphraseTries {
			e.say(e.err, "%s\n", err)
			continue
		}
		return b, err
	}
}
