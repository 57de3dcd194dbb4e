package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
)

func (e *env) runKeyImport(c *cli.Context) error {
	if err := exactly(c, "ALIAS", "FILE"); err != nil {
		return err
	}
	ring, err := e.newKeys(c.Context, c.Bool("encrypt"))
	if err != nil {
		return err
	}
	in, path := e.in, c.Args().Get(1)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	k, err := ring.Import(c.Args().Get(0), in)
	if err != nil {
		return err
	}
	return e.showKey(ring, k.Alias, "")
}

func (e *env) runKeyExport(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	alias, out := c.Args().First(), c.String("output")
	switch out {
	case "":
		return usage("key export needs -o: a file, or - for standard output")
	case "-":
		if e.json {
			return errBothOutput
		}
		return ring.Export(alias, e.out)
	}
	if err := writeSecret(out, func(w io.Writer) error { return ring.Export(alias, w) }); err != nil {
		return err
	}
	e.print(map[string]string{"alias": alias, "file": out}, func() {
		e.say(e.err, "%s is the key of %s: whoever has it can publish the site\n", out, alias)
	})
	return nil
}

// writeSecret makes a file, 0600, that is on stable storage when it returns; on error there is none.
func writeSecret(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return usage("%s exists already, and may be the only copy of a key: choose another file", path)
	}
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// syncFolder makes a file's name as durable as its content.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // folders can't be synced there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (e *env) runKeyRemove(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	alias := c.Args().First()
	ring, err := e.keys(c.Context)
	if err != nil {
		return err
	}
	k, err := ring.Info(alias)
	switch {
	case errors.Is(err, naming.ErrInvalidKey) && c.Bool("force"): // a damaged one may go
		k.Alias = alias
	case err != nil:
		return err
	case !backedUp(k) && !c.Bool("force"):
		return usage("no backup of %s is known of, and without one its name is lost for good: `holdfast key backup %s` first, or --force", alias, alias)
	}
	meaning := e.meaningOfRemoval(c, k)
	if !c.Bool("yes") {
		if e.person == nil {
			return usage("key remove asks before it does so: say --yes, or run it on a terminal")
		}
		e.say(e.err, "%s", meaning)
		typed, err := e.person.Line(c.Context, "Type the alias to remove its key: ")
		if err != nil {
			return err
		}
		if typed != alias {
			return usage("%s is not the alias: nothing was removed", typed)
		}
		meaning = ""
	}
	if err := ring.Remove(alias); err != nil {
		return err
	}
	e.print(map[string]any{"alias": alias, "name": k.Name.String(), "removed": true}, func() {
		e.printf("the key of %s is gone from this machine\n", alias)
		if !e.quiet {
			e.say(e.err, "%s", meaning)
		}
	})
	return nil
}

// meaningOfRemoval is what happens to the site whose key goes: whole lines, none where nothing was published.
func (e *env) meaningOfRemoval(c *cli.Context, k naming.KeyInfo) string {
	n, err := e.node(c.Context, c, node.Records)
	if err != nil {
		return ""
	}
	defer n.close()
	var sites node.Sites
	if err := n.Call(c.Context, "status", author.StatusRequest{Alias: k.Alias}, &sites, nil); err != nil || len(sites.Sites) != 1 {
		return ""
	}
	until := "its record ends"
	if end := sites.Sites[0].ValidUntil; end != nil {
		until = end.UTC().Format(time.DateOnly)
	}
	return "What was published as " + k.Alias + " stays online until " + until + " for as long as hosts keep it. Nobody can change, renew or move it without a backup.\n"
}
