package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/naming"
)

func (e *env) nameCommand() *cli.Command {
	return &cli.Command{
		Name: "name", Usage: "resolve names, and move raw records",
		Subcommands: []*cli.Command{
			{
				Name: "resolve", Usage: "find the best valid record of a name or alias", ArgsUsage: "NAME", Flags: networkFlags(),
				Action: func(c *cli.Context) error {
					if err := exactly(c, "NAME"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Connected, "name resolve", node.Address{Address: c.Args().First()}, func(r author.NameResult) {
						e.printf("/ipfs/%s\n", r.Root)
						e.say(e.err, "sequence %d, valid until %s, from %s\n", int64(r.Sequence), when(r.ValidUntil), r.Source)
					})
				},
			},
			{
				Name: "get", Usage: "write a name's raw record", ArgsUsage: "NAME [-o FILE]",
				Flags:  append(networkFlags(), outFlag("the file; default: standard output")),
				Action: func(c *cli.Context) error { return e.runNameGet(c) },
			},
			{
				Name: "put", Usage: "check a raw record, keep it, and hand it on", ArgsUsage: "FILE",
				Flags: append(networkFlags(),
					&cli.StringFlag{Name: "name", Usage: "the record's name", DefaultText: "from the file's name"}),
				Action: func(c *cli.Context) error { return e.runNamePut(c) },
			},
		},
	}
}

func (e *env) runNameGet(c *cli.Context) error {
	if err := exactly(c, "NAME"); err != nil {
		return err
	}
	n, err := e.node(c.Context, c, node.Connected)
	if err != nil {
		return err
	}
	defer n.close()
	var rec author.NameRecord
	if err := n.Call(c.Context, "name get", node.Address{Address: c.Args().First()}, &rec, nil); err != nil {
		return err
	}
	out := c.String("output")
	if out != "" && out != "-" {
		if err := os.WriteFile(out, rec.Record, 0o644); err != nil {
			return err
		}
		e.print(map[string]any{"name": rec.Name, "bytes": len(rec.Record), "source": rec.Source}, func() {
			e.say(e.err, "%d bytes from %s in %s\n", len(rec.Record), rec.Source, out)
		})
		return nil
	}
	if e.json {
		e.print(rec, nil)
		return nil
	}
	_, err = e.out.Write(rec.Record)
	return err
}

func (e *env) runNamePut(c *cli.Context) error {
	if err := exactly(c, "FILE"); err != nil {
		return err
	}
	path := c.Args().First()
	raw, err := readBounded(e.in, path, naming.MaxRecordSize)
	if err != nil {
		return err
	}
	name := c.String("name")
	if name == "" {
		// Records are passed around as files named for them: k51….ipns-record.
		name, _, _ = strings.Cut(filepath.Base(path), ".")
		name, _, _ = strings.Cut(name, "_")
		if _, err := naming.ParseName(name); err != nil {
			return usage("the file's name does not say whose record it is: give --name")
		}
	}
	return ask(c.Context, e, c, node.Connected, "name put", author.PutRequest{Name: name, Record: raw}, func(r author.PutResult) {
		e.printf("%s  sequence %d\n", r.Name, int64(r.Sequence))
		for _, a := range r.Put {
			if a.Error != "" {
				e.say(e.err, "warning: %s: %s\n", a.Source, a.Error)
			}
		}
	})
}

// readBounded reads a file, or standard input for "-", of at most limit bytes.
func readBounded(in io.Reader, path string, limit int64) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, control.Errorf(control.Corrupt, "%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

// keys opens the keyring: keys are files that any number of processes may use.
func (e *env) keys() (*naming.Keyring, error) {
	return naming.OpenKeyring(filepath.Join(e.home, "keys"))
}

type keyInfo struct {
	Alias string `json:"alias"`
	Name  string `json:"name"`
}

func (e *env) keyCommand() *cli.Command {
	show := func(k naming.KeyInfo) {
		e.print(keyInfo{k.Alias, k.Name.String()}, func() { e.printf("%s  %s\n", k.Alias, k.Name.String()) })
	}
	return &cli.Command{
		Name: "key", Usage: "the keys that sign your sites",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the keys", Action: func(c *cli.Context) error { return e.runKeyList(c) }},
			{Name: "new", Usage: "make a key", ArgsUsage: "ALIAS", Action: func(c *cli.Context) error {
				if err := exactly(c, "ALIAS"); err != nil {
					return err
				}
				ring, err := e.keys()
				if err != nil {
					return err
				}
				k, err := ring.New(c.Args().First())
				if err == nil {
					show(k)
				}
				return err
			}},
			{Name: "export", Usage: "write a key, to move it to another machine; keep the file secret", ArgsUsage: "ALIAS -o FILE",
				Flags:  []cli.Flag{outFlag("the file, made with permissions 0600; - is standard output")},
				Action: func(c *cli.Context) error { return e.runKeyExport(c) }},
			{Name: "import", Usage: "take a key that was exported (PEM, or Kubo's format)", ArgsUsage: "ALIAS FILE",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "ALIAS", "FILE"); err != nil {
						return err
					}
					ring, err := e.keys()
					if err != nil {
						return err
					}
					k, err := e.importKey(ring, c.Args().Get(0), c.Args().Get(1))
					if err == nil {
						show(k)
					}
					return err
				}},
		},
	}
}

func (e *env) importKey(ring *naming.Keyring, alias, path string) (naming.KeyInfo, error) {
	if path == "-" {
		return ring.Import(alias, e.in)
	}
	f, err := os.Open(path)
	if err != nil {
		return naming.KeyInfo{}, err
	}
	defer f.Close()
	return ring.Import(alias, f)
}

func (e *env) runKeyList(c *cli.Context) error {
	ring, err := e.keys()
	if err != nil {
		return err
	}
	ks, err := ring.List()
	if err != nil {
		return err
	}
	out := []keyInfo{}
	for _, k := range ks {
		out = append(out, keyInfo{k.Alias, k.Name.String()})
	}
	e.print(map[string]any{"keys": out}, func() {
		if len(out) == 0 {
			e.note("no keys; the first publish of a site makes its key")
		}
		for _, k := range out {
			e.printf("%-20s %s\n", k.Alias, k.Name)
		}
	})
	return nil
}

func (e *env) runKeyExport(c *cli.Context) error {
	if err := exactly(c, "ALIAS"); err != nil {
		return err
	}
	ring, err := e.keys()
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
	f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return usage("%s exists already, and may be the only copy of a key: choose another file", out)
	}
	if err != nil {
		return err
	}
	err = ring.Export(alias, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(out)
		return err
	}
	e.print(map[string]string{"alias": alias, "file": out}, func() {
		e.say(e.err, "%s is the key of %s: whoever has it can publish the site\n", out, alias)
	})
	return nil
}
