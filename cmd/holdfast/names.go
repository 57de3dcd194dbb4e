package main

import (
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
				Description: "Prints the root that the name leads to; what it is signed with goes to standard error.\n" +
					"Example: holdfast name resolve blog",
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
				Description: "Example: holdfast name get blog -o k51….ipns-record",
				Flags:       append(networkFlags(), outFlag("the file; default: standard output")),
				Action:      func(c *cli.Context) error { return e.runNameGet(c) },
			},
			{
				Name: "put", Usage: "check a raw record, keep it, and hand it on", ArgsUsage: "FILE",
				Description: "An older record than the one that is known is refused.\n" +
					"Example: holdfast name put k51….ipns-record; holdfast name put record --name blog",
				Flags: append(networkFlags(),
					&cli.StringFlag{Name: "name", Usage: "the record's name", DefaultText: "from the file's name"}),
				Action: func(c *cli.Context) error { return e.runNamePut(c) },
			},
			{
				Name: "renew", Usage: "let a site's name live longer, without a new release", ArgsUsage: "SITE",
				Description: "Signs what the name says now once more, with a later end of life, and hands it to the hosts.\n" +
					"Example: holdfast name renew blog --lifetime 17520h",
				Flags: append(networkFlags(), restateFlags()...),
				Action: func(c *cli.Context) error {
					req, err := restateRequest(c, "SITE")
					if err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Connected, "name renew", req, e.showRestated)
				},
			},
			{
				Name: "delegate", Usage: "let a deploy key publish a site, so that a build machine needs no other key", ArgsUsage: "SITE KEY",
				Description: "The site's record leads to the deploy key's name from then on; `name revoke` takes it back.\n" +
					"Example: holdfast key new ci && holdfast name delegate blog ci && holdfast key export ci -o ci.key",
				Flags: append(networkFlags(), restateFlags()...),
				Action: func(c *cli.Context) error {
					req, err := restateRequest(c, "SITE", "KEY")
					if err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Connected, "name delegate", author.DelegateRequest{RestateRequest: req, To: c.Args().Get(1)}, e.showRestated)
				},
			},
			{
				Name: "revoke", Usage: "take a site back from its deploy key", ArgsUsage: "SITE",
				Description: "What the deploy key signs from then on is not shown any more. Where it was stolen, say which release is.\n" +
					"Example: holdfast name revoke blog --release 12",
				Flags: append(append(networkFlags(), restateFlags()...),
					&cli.Uint64Flag{Name: "release", Usage: "the release that is shown then", DefaultText: "what the deploy key published last"}),
				Action: func(c *cli.Context) error {
					req, err := restateRequest(c, "SITE")
					if err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Connected, "name revoke", author.RevokeRequest{RestateRequest: req, Release: c.Uint64("release")}, e.showRestated)
				},
			},
		},
	}
}

// restateFlags are those of the commands that sign a name anew.
func restateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lifetime", Usage: "how long the signed name lives without you, from now, such as 90d or 2y; never less than it was to", DefaultText: "one year"},
		&cli.BoolFlag{Name: "rebase", Usage: "also where another machine has published since this one did"},
		&cli.BoolFlag{Name: "force-offline", Usage: "though nobody can say what the newest record is"},
	}
}

func restateRequest(c *cli.Context, args ...string) (author.RestateRequest, error) {
	lifetime, err := lifetime(c)
	if err != nil {
		return author.RestateRequest{}, err
	}
	return author.RestateRequest{
		Alias: c.Args().First(), Lifetime: lifetime, Rebase: c.Bool("rebase"), ForceOffline: c.Bool("force-offline"),
	}, exactly(c, args...)
}

func (e *env) showRestated(r author.Restated) {
	e.printf("%s  leads to %s until %s\n", r.Alias, r.Value, when(r.ValidUntil))
	if r.Hosts > 0 {
		e.printf("  %d of %d hosts have the record\n", r.Told, r.Hosts)
	}
	for _, w := range r.Warnings {
		e.say(e.err, "warning: %s\n", w)
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
		e.printf("%s  leads to %s, sequence %d\n", r.Name, r.Value, int64(r.Sequence))
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
