package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// reorder puts the arguments as urfave/cli v2 wants them, which stops looking
// for flags at the first argument: global flags, command, its flags, "--", arguments. Flags
// may then stand anywhere, and "--" ends them.
func reorder(app *cli.App, args []string) []string {
	flags, words, behind := split(app, args)
	cmds, path := app.Commands, []*cli.Command{}
	n := 0
	for n < len(words) {
		c := find(cmds, words[n])
		if c == nil {
			break
		}
		path = append(path, c)
		cmds = c.Subcommands
		n++
	}
	rest := slices.Concat(words[n:], behind)
	var out, own []string
	for _, f := range flags {
		if declares(app.Flags, f.name) || len(path) == 0 {
			out = append(out, f.texts...)
		} else {
			own = append(own, f.texts...)
		}
	}
	for _, c := range path {
		out = append(out, c.Name)
	}
	out = append(out, own...)
	if len(rest) > 0 {
		out = append(append(out, "--"), rest...)
	}
	return out
}

// flagText is a flag as it was written: alone, or with its value behind it.
type flagText struct {
	name  string
	texts []string
}

// split takes the arguments apart: flags, the words among them, and what
// stands behind "--" and so can be no flag and no command.
func split(app *cli.App, args []string) (flags []flagText, words, behind []string) {
	takes := valueFlags(app)
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return flags, words, args[i+1:]
		}
		if a == "-" || !strings.HasPrefix(a, "-") || isNumber(a) {
			words = append(words, a)
			continue
		}
		name, _, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		f := flagText{name: name, texts: []string{a}}
		if !has && takes[name] && i+1 < len(args) {
			i++
			f.texts = append(f.texts, args[i])
		}
		flags = append(flags, f)
	}
	return flags, words, nil
}

// isNumber tells -1, which is an argument, from flags: none of them is called like that.
func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

// complete refuses a last flag without its value, for which the flag parser
// would take what reorder puts behind it.
func complete(app *cli.App, args []string) error {
	flags, _, _ := split(app, args)
	if len(flags) == 0 {
		return nil
	}
	f := flags[len(flags)-1]
	if len(f.texts) == 1 && !strings.Contains(f.texts[0], "=") && valueFlags(app)[f.name] {
		return usage("%s needs a value", f.texts[0])
	}
	return nil
}

// asksJSON tells whether --json is among the flags.
func asksJSON(app *cli.App, args []string) (yes bool) {
	flags, _, _ := split(app, args)
	for _, f := range flags {
		if f.name == "json" {
			_, v, has := strings.Cut(f.texts[0], "=")
			on, err := strconv.ParseBool(v)
			yes = !has || err == nil && on
		}
	}
	return yes
}

// valueFlags tells which declared flags take a value. A name has one meaning
// throughout the program; a test holds that.
func valueFlags(app *cli.App) map[string]bool {
	out := make(map[string]bool)
	add := func(flags []cli.Flag) {
		for _, f := range flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, n := range f.Names() {
				out[n] = !isBool
			}
		}
	}
	var walk func([]*cli.Command)
	walk = func(cmds []*cli.Command) {
		for _, c := range cmds {
			add(c.Flags)
			walk(c.Subcommands)
		}
	}
	add(app.Flags)
	walk(app.Commands)
	return out
}

func find(cmds []*cli.Command, name string) *cli.Command {
	for _, c := range cmds {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func declares(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == name {
				return true
			}
		}
	}
	return false
}
