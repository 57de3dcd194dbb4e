package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/naming"
)

// keyInfo is a key as programs see it.
type keyInfo struct {
	Alias      string     `json:"alias"`
	Name       string     `json:"name"`
	Encrypted  bool       `json:"encrypted"`
	Recovery   string     `json:"recovery"` // the commitment to the recovery key, hex; "" where the site can't be moved
	SeedHere   bool       `json:"seed_here"`
	BackedUp   bool       `json:"backed_up"`
	BackedUpAt *time.Time `json:"backed_up_at"` // of the last backup made here
}

func keyInfoOf(k naming.KeyInfo) keyInfo {
	out := keyInfo{
		Alias: k.Alias, Name: k.Name.String(), Encrypted: k.Encrypted, Recovery: k.Recovery.String(), SeedHere: k.HasSeed, BackedUp: backedUp(k),
	}
	if !k.BackedUp.IsZero() {
		out.BackedUpAt = &k.BackedUp
	}
	return out
}

// backedUp tells whether a backup is known of: one made here, or one that the seed has left with.
func backedUp(k naming.KeyInfo) bool {
	return !k.BackedUp.IsZero() || !k.Recovery.IsZero() && !k.HasSeed
}

// state is what a person should know of a key.
func (k keyInfo) state() string {
	words := []string{"not backed up: `holdfast key backup " + k.Alias + "`"}
	if k.BackedUp {
		words[0] = "backed up"
		if k.BackedUpAt != nil {
			words[0] += " " + k.BackedUpAt.Format(time.DateOnly)
		}
		if k.SeedHere {
			words[0] += ", seed still here"
		}
	}
	if k.Encrypted {
		words = append(words, "encrypted")
	} else {
		words = append(words, "not encrypted")
	}
	if k.Recovery == "" {
		words = append(words, "no recovery key")
	}
	return strings.Join(words, "; ")
}

func (e *env) keyCommand() *cli.Command {
	encrypt := &cli.BoolFlag{Name: "encrypt", Usage: "encrypt it with a passphrase; always so where " + keyPassphraseVar + " is set"}
	forget := &cli.BoolFlag{Name: "forget-seed", Usage: "take the seed off this machine, also where nobody shows that the backup is good"}
	keep := &cli.BoolFlag{Name: "keep-seed", Usage: "leave the seed on this machine, where a thief would find it"}
	return &cli.Command{
		Name: "key", Usage: "the keys that sign your sites",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the keys", Action: func(c *cli.Context) error { return e.runKeyList(c) }},
			{Name: "new", Usage: "make a key", ArgsUsage: "ALIAS", Flags: []cli.Flag{encrypt},
				Description: "The first `holdfast publish DIR --site ALIAS` does so, too.\nExample: holdfast key new ci",
				Action:      func(c *cli.Context) error { return e.runKeyNew(c) }},
			{Name: "backup", Usage: "write down what brings a site back on an empty machine: one encrypted file, or 24 words", ArgsUsage: "ALIAS",
				Description: "The file is read back, decrypted and tested by signing. Then the site's seed leaves this machine, so that a thief\n" +
					"of the machine can publish, but never take the site away. The passphrase is asked for, or is " + backupPassphraseVar + ".",
				Flags: []cli.Flag{outFlag("the file, which must not exist; default: holdfast-ALIAS.backup in your home folder; - is standard output"),
					&cli.BoolFlag{Name: "words", Usage: "24 words, to be written on paper"}, keep, forget},
				Action: func(c *cli.Context) error { return e.runKeyBackup(c) }},
			{Name: "restore", Usage: "bring a key back from its backup", ArgsUsage: "[ALIAS] FILE, or --words ALIAS",
				Description: "Example: holdfast key restore holdfast-blog.backup; holdfast key restore --words blog",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "words", Usage: "24 words, from standard input or typed"},
					&cli.StringFlag{Name: "name", Usage: "the name that must come back"}, encrypt, forget},
				Action: func(c *cli.Context) error { return e.runKeyRestore(c) }},
			e.keyRotateCommand(),
			{Name: "remove", Usage: "take a key off this machine for good", ArgsUsage: "ALIAS",
				Description: "The site stays online for as long as its name lives and hosts keep it. `holdfast key restore` brings the key back.\n" +
					"Example: holdfast key remove blog",
				Flags: []cli.Flag{yesFlag(),
					&cli.BoolFlag{Name: "force", Usage: "also where no backup is known of"}},
				Action: func(c *cli.Context) error { return e.runKeyRemove(c) }},
			{Name: "export", Usage: "write a key, to move it to another machine; keep the file secret", ArgsUsage: "ALIAS -o FILE",
				Description: "The file is the key that signs, in clear; it can't move the site. For safe keeping there is `holdfast key backup`.\n" +
					"Example: holdfast key export ci -o ci.key",
				Flags:  []cli.Flag{outFlag("the file, made with permissions 0600; - is standard output")},
				Action: func(c *cli.Context) error { return e.runKeyExport(c) }},
			{Name: "import", Usage: "take a key that was exported (PEM, or Kubo's format)", ArgsUsage: "ALIAS FILE", Flags: []cli.Flag{encrypt},
				Description: "Example: holdfast key import ci ci.key",
				Action:      func(c *cli.Context) error { return e.runKeyImport(c) }},
			{Name: "encrypt", Usage: "encrypt a key with a passphrase, in place", ArgsUsage: "ALIAS",
				Description: "The passphrase is asked for, or is " + keyPassphraseVar + ".\nExample: holdfast key encrypt blog",
				Action:      func(c *cli.Context) error { return e.runKeyEncrypt(c) }},
			{Name: "decrypt", Usage: "put an encrypted key back in clear, in place", ArgsUsage: "ALIAS",
				Action: func(c *cli.Context) error { return e.runKeyDecrypt(c) }},
		},
	}
}

// showKey is the result of a command on one key.
func (e *env) showKey(ring *naming.Keyring, alias, done string) error {
	k, err := ring.Info(alias)
	if err != nil {
		return err
	}
	e.print(keyInfoOf(k), func() {
		e.printf("%s  %s\n", k.Alias, k.Name.String())
		if done != "" && !e.quiet {
			e.say(e.err, "%s\n", done)
		}
	})
	return nil
}

func (e *env) runKeyNew(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	ring, err := e.newKeys(c.Context, c.Bool("encrypt"))
	if err != nil {
		return err
	}
	k, err := ring.New(c.Args().First())
	if err != nil {
		return err
	}
	return e.showKey(ring, k.Alias, keyInfoOf(k).state())
}

func (e *env) runKeyList(c *cli.Context) error {
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	ks, err := ring.List()
	if err != nil {
		return err
	}
	out := []keyInfo{}
	for _, k := range ks {
		out = append(out, keyInfoOf(k))
	}
	e.print(map[string]any{"keys": out}, func() {
		if len(out) == 0 {
			e.note("no keys; the first publish of a site makes its key")
		}
		for _, k := range out {
			e.printf("%-20s %s\n%-20s %s\n", k.Alias, k.Name, "", k.state())
		}
	})
	return nil
}
