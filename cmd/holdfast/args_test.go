package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"publish", "publish"},
		{"publish dir --site blog", "publish --site blog -- dir"},
		{"publish --site blog dir", "publish --site blog -- dir"},
		{"--site blog publish dir", "publish --site blog -- dir"},
		{"publish dir --site=blog", "publish --site=blog -- dir"},
		{"publish dir -m=a=b", "publish -m=a=b -- dir"},
		{"publish dir --json --home h", "--json --home h publish -- dir"},
		{"host list --json", "--json host list"},
		{"host --json list", "--json host list"},
		{"--json=false host list", "--json=false host list"},
		{"get addr -o out", "get -o out -- addr"},
		{"export addr -o -", "export -o - -- addr"},
		{"import -", "import -- -"},
		{"key import blog -", "key import -- blog -"},
		{"cat -- --odd --json", "cat -- --odd --json"},
		{"cat --json -- -x", "--json cat -- -x"},
		{"cat -- a -- b", "cat -- a -- b"},
		// A value, or an argument, may look like something else.
		{"publish publish --site key", "publish --site key -- publish"},
		{"key new list", "key new -- list"},
		{"--home serve key list", "--home serve key list"},
		{"publish dir -m --json", "publish -m --json -- dir"},
		{"publish dir --copies -1", "publish --copies -1 -- dir"},
		{"serve --peer a --p2p c --peer b", "serve --peer a --p2p c --peer b"},
		{"serve --host=false --pins x", "serve --host=false --pins x"},
		// What the parser has to complain about reaches it.
		{"publish dir --nosuch x", "publish --nosuch -- dir x"},
		{"--nosuch publish dir", "publish --nosuch -- dir"},
		{"nosuch a --site b", "--site b -- nosuch a"},
		{"publish -h", "publish -h"},
		{"--help publish", "publish --help"},
		{"help publish", "-- help publish"},
		{"-v", "-v"},
	} {
		got := strings.Join(reorder((&env{}).app(), strings.Fields(tt.in)), " ")
		if got != tt.want {
			t.Errorf("%q\n got %q\nwant %q", tt.in, got, tt.want)
		}
	}
}

// A flag's value can be told from an argument without knowing the command only
// where a name takes a value everywhere, or nowhere.
func TestAFlagNameHasOneArityThroughoutTheProgram(t *testing.T) {
	takes := make(map[string]bool)
	where := make(map[string]string)
	var walk func(path string, flags []cli.Flag, cmds []*cli.Command)
	walk = func(path string, flags []cli.Flag, cmds []*cli.Command) {
		for _, f := range flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, n := range f.Names() {
				if old, ok := takes[n]; ok && old == isBool {
					t.Errorf("--%s takes a value in only one of %q and %q", n, where[n], path)
				}
				takes[n], where[n] = !isBool, path
			}
		}
		for _, c := range cmds {
			for _, f := range c.Flags {
				for _, n := range f.Names() {
					if declares((&env{}).globalFlags(), n) {
						t.Errorf("%s: --%s is a global flag already", c.Name, n)
					}
				}
			}
			walk(path+" "+c.Name, c.Flags, c.Subcommands)
		}
	}
	app := (&env{}).app()
	walk("", app.Flags, app.Commands)
	for _, n := range []string{"h", "help", "v", "version"} {
		if takes[n] {
			t.Errorf("--%s is the library's own, without a value", n)
		}
	}
}

func FuzzReorder(f *testing.F) {
	for _, s := range []string{
		"publish dir --site blog", "--json host add x --token - --label a=b", "cat -- -x --", "-- a -- b", "--home", "-", "key new help", "rollback blog -1 -m x", "history blog --limit -1", "\x00 --= -=",
	} {
		f.Add(strings.Join(strings.Fields(s), "\n"))
	}
	app := (&env{}).app()
	f.Fuzz(func(t *testing.T, joined string) {
		args := strings.Split(joined, "\n")
		if complete(app, args) != nil {
			return
		}
		got := reorder(app, args)
		asksJSON(app, args)
		// Nothing is lost and nothing made up, but for one "--".
		count := make(map[string]int)
		for _, a := range args {
			count[a]++
		}
		for _, a := range got {
			count[a]--
		}
		for a, n := range count {
			switch {
			case a == "--" && n >= -1 && n <= 1:
			case n == 0:
			case isCommandAlias(app, a): // a command is called by its first name
			default:
				t.Errorf("%q: %d times too few in %q of %q", a, n, got, args)
			}
		}
		// What stands behind "--" stays there, in order.
		if i := slices.Index(args, "--"); i >= 0 && !flagValue(app, args, i) {
			if behind := args[i+1:]; len(behind) > 0 && !slices.Equal(got[len(got)-len(behind):], behind) {
				t.Errorf("%q does not end in %q", got, behind)
			}
		}
		// The order is a fixed point: it means the same when put in order again.
		if again := reorder(app, got); !slices.Equal(again, got) {
			t.Errorf("%q\nonce  %q\ntwice %q", args, got, again)
		}
	})
}

// isCommandAlias tells whether a word may come back under its first name.
func isCommandAlias(app *cli.App, a string) bool {
	var any func([]*cli.Command) bool
	any = func(cmds []*cli.Command) bool {
		return slices.ContainsFunc(cmds, func(c *cli.Command) bool { return slices.Contains(c.Aliases, a) || any(c.Subcommands) })
	}
	return any(app.Commands)
}

// flagValue tells whether args[i] is the value of a flag, by counting from the start.
func flagValue(app *cli.App, args []string, i int) bool {
	takes := valueFlags(app)
	for j := 0; j < i; j++ {
		name, _, has := strings.Cut(strings.TrimLeft(args[j], "-"), "=")
		if args[j] != "-" && strings.HasPrefix(args[j], "-") && !has && takes[name] {
			j++
			if j == i {
				return true
			}
		}
	}
	return false
}

func TestOnlyARealJSONFlagAsksForJSON(t *testing.T) {
	app := (&env{}).app()
	for in, want := range map[string]bool{
		"publish --nosuch --json": true, "--json nosuch": true, "-json x": true, "--json=true x": true,
		"--json=false x": false, "cat -- --json": false, "publish d -m --json": false, "cat json": false, "": false,
	} {
		if got := asksJSON(app, strings.Fields(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}
