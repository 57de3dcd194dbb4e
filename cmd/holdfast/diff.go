package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "which files differ between two releases, or two folders", ArgsUsage: "SITE [FROM [TO]] | ADDRESS ADDRESS",
		Description: "FROM and TO are numbers from `holdfast history` (-1 is the release before the newest), CIDs or addresses.\n" +
			"Without them, the newest release is compared with the one before it; with FROM alone, with FROM.\n" +
			"Example: holdfast diff blog 3 5",
		Flags: append(networkFlags(), &cli.IntFlag{Name: "limit", Usage: "how many files are listed; all are counted", Value: 10_000}),
		Action: func(c *cli.Context) error {
			if c.NArg() < 1 || c.NArg() > 3 || c.Args().First() == "" {
				return usage("diff needs SITE, and takes FROM and TO; see `holdfast diff --help`")
			}
			if c.Int("limit") < 1 {
				return usage("--limit must be at least 1")
			}
			req := author.DiffRequest{Site: c.Args().First(), From: c.Args().Get(1), To: c.Args().Get(2), Limit: c.Int("limit")}
			return ask(c.Context, e, c, node.Connected, "diff", req, e.showDiff)
		},
	}
}

// marks of a change, as patch tools write them.
var marks = map[string]string{"added": "+", "removed": "-", "modified": "~", "renamed": ">"}

func (e *env) showDiff(d author.Diff) {
	e.say(e.err, "from %s\n  to %s\n", sideName(d.From), sideName(d.To))
	for _, f := range d.Files {
		sizes := "-"
		switch {
		case f.Before != nil && f.After != nil && *f.Before != *f.After:
			sizes = size(*f.Before) + " → " + size(*f.After)
		case f.After != nil:
			sizes = size(*f.After)
		case f.Before != nil:
			sizes = size(*f.Before)
		}
		path := f.Path
		if f.Was != "" {
			path = f.Was + " → " + f.Path
		}
		e.printf("%s %-21s %s\n", marks[f.Change], sizes, strings.ReplaceAll(path, "\n", `\n`))
	}
	if d.Unlisted > 0 {
		e.printf("  and %d more\n", d.Unlisted)
	}
	if d.Added+d.Removed+d.Changed+d.Renamed == 0 {
		e.printf("no difference\n")
		return
	}
	e.printf("%d added, %d removed, %d changed, %d renamed; %s\n", d.Added, d.Removed, d.Changed, d.Renamed, growth(d.Growth))
}

func sideName(s author.Side) string {
	if s.Number > 0 {
		return fmt.Sprintf("release %d, %s", s.Number, s.Root)
	}
	return s.Root
}

func growth(n int64) string {
	if n < 0 {
		return size(-n) + " less"
	}
	return size(n) + " more"
}
