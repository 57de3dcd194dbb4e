package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
)

func (e *env) keyRotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "move a site to a new key and name for good: the old one was stolen, or is to be retired", ArgsUsage: "SITE",
		Description: "The old name leads to the new one from then on, and nothing can undo it: not even who has the old key.\n" +
			"It needs the site's backup, unless the seed is still on this machine.\n" +
			"Example: holdfast key rotate blog --backup holdfast-blog.backup",
		Flags: append(append(networkFlags(), restateFlags()...),
			&cli.StringFlag{Name: "backup", Usage: "the backup's file; - is standard input"},
			&cli.Uint64Flag{Name: "release", Usage: "the release that the site shows then, where the thief has published", DefaultText: "the newest"},
			&cli.BoolFlag{Name: "words", Usage: "the backup is 24 words, from standard input or typed"},
			yesFlag()),
		Action: func(c *cli.Context) error { return e.runKeyRotate(c) },
	}
}

func (e *env) runKeyRotate(c *cli.Context) error {
	req, err := restateRequest(c, "SITE")
	if err != nil {
		return err
	}
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	backup, err := e.rotationBackup(c, ring, req.Alias)
	if err != nil {
		return err
	}
	if err := e.confirmRotation(c, req.Alias); err != nil {
		return err
	}
	giveBack := func() {}
	if backup != nil {
		if giveBack, err = bringSeed(ring, req.Alias, *backup); err != nil {
			return err
		}
	}
	err = ask(c.Context, e, c, node.Connected, "key rotate", author.RotateRequest{RestateRequest: req, Release: c.Uint64("release")}, func(r author.Rotated) {
		e.printf("%s  has moved to %s\n  from  %s\n", r.Alias, r.Name, r.OldName)
		if r.Hosts > 0 {
			e.printf("  %d of %d hosts have the new record\n", r.Told, r.Hosts)
		}
		for _, w := range r.Warnings {
			e.say(e.err, "warning: %s\n", w)
		}
		if !e.quiet {
			e.say(e.err, "Old addresses go on. The old key is kept as %s, and signs nothing any more.\n"+
				"Now: `holdfast key backup %s` for the new key; where a domain points at the old name, let it point at the new one (`holdfast domain check`).\n", r.OldAlias, r.Alias)
		}
	})
	if c.Context.Err() == nil {
		giveBack()
	} // else a node may be at it still, and the seed that goes would be the new key's
	return err
}

// confirmRotation has a person type the alias.
func (e *env) confirmRotation(c *cli.Context, alias string) error {
	if c.Bool("yes") {
		return nil
	}
	if e.person == nil {
		return usage("key rotate asks before it does so, since nothing can undo it: say --yes, or run it on a terminal")
	}
	e.say(e.err, "%s gets a new key and a new name. The old name will lead there for ever; nothing can be published under it any more.\n", alias)
	typed, err := e.person.Line(c.Context, "Type the alias to go on: ")
	if err != nil {
		return err
	}
	if typed != alias {
		return usage("%q is not the alias: nothing has changed", typed)
	}
	return nil
}

// rotationBackup reads the backup that is named; nil where none is, and the seed is taken from this machine.
func (e *env) rotationBackup(c *cli.Context, ring *naming.Keyring, alias string) (*naming.Backup, error) {
	switch file := c.String("backup"); {
	case c.Bool("words") && file != "":
		return nil, usage("a backup is --words or --backup FILE, not both")
	case c.Bool("words"):
		text, err := e.readWords(c.Context)
		if err != nil {
			return nil, err
		}
		backup, err := naming.ParseWords(text)
		return &backup, err
	case file != "":
		backup, err := e.decryptBackup(c.Context, file)
		return &backup, err
	}
	info, err := ring.Info(alias)
	if err == nil && info.Recovery.IsZero() {
		err = usage("the key of %s came from elsewhere and has no recovery key: its site can't be moved", alias)
	}
	return nil, err // that the seed isn't here is no reason to refuse what was cut off after it had done its work
}

// bringSeed puts the site's seed back on this machine for the rotation. giveBack takes it off again, where it was not
// here before and the rotation has come to nothing; one that is done has done so itself.
func bringSeed(ring *naming.Keyring, alias string, backup naming.Backup) (giveBack func(), err error) {
	before, err := ring.Info(alias)
	if err != nil && !errors.Is(err, naming.ErrNoKey) {
		return nil, err
	}
	info, err := ring.Restore(alias, backup, naming.Name{})
	if errors.Is(err, naming.ErrKeyExists) {
		return nil, usage("this backup is of %s, which is not what %s is published under now; a rotation that was cut off goes on without it", backup.Name, alias)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		if now, err := ring.Info(alias); err == nil && now.Name == info.Name && !before.HasSeed {
			_ = ring.ForgetSeed(alias) // it is in the backup
		}
	}, nil
}
