package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// user is somebody at a keyboard, with a home.
type user struct {
	t    *testing.T
	dir  string // of files; short, since the control socket lies in it
	home string
	vars map[string]string
	in   io.Reader
	ctx  context.Context
	// person answers what commands ask; nil: nobody is there
	person asker
}

func newUser(t *testing.T) *user {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &user{t: t, dir: dir, home: filepath.Join(dir, "home"), vars: map[string]string{"XDG_RUNTIME_DIR": dir}, ctx: t.Context()}
}

func (u *user) path(name string) string { return filepath.Join(u.dir, name) }

// file writes a file and returns its path.
func (u *user) file(name, text string) string {
	u.t.Helper()
	p := u.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
		u.t.Fatal(err)
	}
	return p
}

// site writes a small folder.
func (u *user) site(name string) string {
	u.file(name+"/index.html", "<h1>hello</h1>")
	u.file(name+"/sub/page.html", "a page")
	return u.path(name)
}

type outcome struct {
	code     int
	out, err string
}

// run runs the program in this process.
func (u *user) run(args ...string) outcome {
	u.t.Helper()
	var out, errs bytes.Buffer
	in := u.in
	if in == nil {
		in = strings.NewReader("")
	}
	e := &env{in: in, out: &out, err: &errs, getenv: func(k string) string { return u.vars[k] }, person: u.person, keyWork: 2}
	code := run(u.ctx, append([]string{"--home", u.home}, args...), e)
	return outcome{code, out.String(), errs.String()}
}

// must runs a command that has to succeed.
func (u *user) must(args ...string) outcome {
	u.t.Helper()
	o := u.run(args...)
	if o.code != 0 {
		u.t.Fatalf("%q: exit code %d\n%s%s", args, o.code, o.out, o.err)
	}
	return o
}

// json runs a command with --json and decodes its one object.
func (u *user) json(args ...string) map[string]any {
	u.t.Helper()
	o := u.must(append(args, "--json")...)
	v := oneObject(u.t, o.out)
	if v["error"] != nil {
		u.t.Fatalf("%q succeeded with %v", args, v)
	}
	return v
}

// fails runs a command that has to fail: the exit code is the kind's, the
// message is on stderr for people and in one object on stdout for programs.
func (u *user) fails(code int, text string, args ...string) {
	u.t.Helper()
	kinds := map[int]string{1: "failed", 2: "usage", 3: "not_found", 4: "conflict", 5: "unavailable", 6: "corrupt"}
	o := u.run(args...)
	if o.code != code || !strings.Contains(o.err, text) || !strings.Contains("\n"+o.err, "\nholdfast: ") {
		u.t.Errorf("%q: exit code %d, want %d with %q\nstdout %s\nstderr %s", args, o.code, code, text, o.out, o.err)
	}
	if o.out != "" {
		u.t.Errorf("%q: a failure printed on stdout: %s", args, o.out)
	}
	o = u.run(append([]string{"--json"}, args...)...)
	body, _ := oneObject(u.t, o.out)["error"].(map[string]any)
	message, _ := body["message"].(string)
	if o.code != code || body["kind"] != kinds[code] || !strings.Contains(message, text) {
		u.t.Errorf("%q --json: exit code %d, %s", args, o.code, o.out)
	}
}

func oneObject(t *testing.T, s string) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(strings.NewReader(s))
	if err := d.Decode(&v); err != nil || v == nil {
		t.Fatalf("no JSON object: %v: %q", err, s)
	}
	if rest, _ := io.ReadAll(io.MultiReader(d.Buffered())); strings.TrimSpace(string(rest)) != "" {
		t.Fatalf("more than one object: %q", s)
	}
	return v
}

// hasExactly checks the names of an object's fields.
func hasExactly(t *testing.T, what string, v any, names ...string) {
	t.Helper()
	m, ok := v.(map[string]any)
	if !ok {
		t.Errorf("%s: not an object: %v", what, v)
		return
	}
	for _, n := range names {
		if _, ok := m[n]; !ok {
			t.Errorf("%s lacks %q: %v", what, n, m)
		}
	}
	for n := range m {
		if !slices.Contains(names, n) {
			t.Errorf("%s has %q, which nobody asked for: %v", what, n, m)
		}
	}
}

// commands are all of the program's, as paths.
func commands() (paths [][]string) {
	var walk func(prefix []string, cmds []*cli.Command)
	walk = func(prefix []string, cmds []*cli.Command) {
		for _, c := range cmds {
			p := append(slices.Clone(prefix), c.Name)
			paths = append(paths, p)
			walk(p, c.Subcommands)
		}
	}
	walk(nil, (&env{}).app().Commands)
	return paths
}

func TestEveryCommandExplainsItself(t *testing.T) {
	u := newUser(t)
	for _, p := range append(commands(), nil) {
		for _, h := range []string{"--help", "-h"} {
			o := u.must(append(slices.Clone(p), h)...)
			if !strings.Contains(o.out, "USAGE:") || !strings.Contains(o.out, strings.Join(append([]string{"holdfast"}, p...), " ")) || o.err != "" {
				t.Errorf("%v %s: %s%s", p, h, o.out, o.err)
			}
		}
	}
	if o := u.must(); !strings.Contains(o.out, "demo") {
		t.Errorf("without arguments: %s", o.out)
	}
	if o := u.must("help", "publish"); !strings.Contains(o.out, "holdfast publish") {
		t.Errorf("help publish: %s", o.out)
	}
	if o := u.must("host"); !strings.Contains(o.out, "list the hosts") {
		t.Errorf("host alone: %s", o.out)
	}
	if o := u.must("--version"); !strings.Contains(o.out, version()) {
		t.Errorf("--version: %s", o.out)
	}
	if _, err := os.Stat(u.home); !errors.Is(err, os.ErrNotExist) {
		t.Error("a home was made for help")
	}
}

func TestWhatIsMisspeltIsAUsageErrorThatSaysWhatToDo(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	for _, tt := range []struct {
		text string
		args []string
	}{
		{"no command", []string{"pubish", dir}},
		{"holdfast help", []string{"pubish"}},
		{"no command", []string{"key", "lst"}},
		{"holdfast key --help", []string{"key", "lst"}},
		{"nosuch", []string{"publish", dir, "--nosuch", "x"}},
		{"holdfast publish --help", []string{"publish", dir, "--nosuch"}},
		{"nosuch", []string{"--nosuch", "sites"}},
		{"--site needs a value", []string{"publish", dir, "--site"}},
		{"copies", []string{"publish", dir, "--copies", "many"}},
		{"publish needs DIR", []string{"publish"}},
		{"publish needs DIR", []string{"publish", dir, dir}},
		{"DIR is empty", []string{"publish", ""}},
		{"--symlinks must be follow or keep", []string{"publish", dir, "--symlinks", "perhaps"}},
		{"--no-wait hands the work to a running node", []string{"publish", dir, "--no-wait"}},
		{"up needs DIR", []string{"up"}},
		{"build needs PATH", []string{"build"}},
		{"--profile must be", []string{"build", dir, "--profile", "v7"}},
		{"--symlinks must be", []string{"build", dir, "--symlinks", "v7"}},
		{"serve takes no arguments", []string{"serve", dir}},
		{"--pins is for hosts", []string{"serve", "--pins", "127.0.0.1:0"}},
		{"contradict", []string{"serve", "--host", "--network", "offline"}},
		{"--network must be private, public or offline", []string{"serve", "--network", "local"}},
		{"status takes one site", []string{"status", "a", "b"}},
		{"history needs SITE", []string{"history"}},
		{"get needs -o", []string{"get", "x"}},
		{"get needs ADDRESS", []string{"get", "-o", u.path("out")}},
		{"cat needs ADDRESS", []string{"cat"}},
		{"import needs CAR", []string{"import"}},
		{"export needs -o", []string{"export", "x"}},
		{"name resolve needs NAME", []string{"name", "resolve"}},
		{"name get needs NAME", []string{"name", "get"}},
		{"name put needs FILE", []string{"name", "put"}},
		{"give --name", []string{"name", "put", dir + "/index.html"}},
		{"key new needs ALIAS", []string{"key", "new"}},
		{"only a-z, 0-9 and hyphens", []string{"key", "new", "My_Site"}},
		{"key export needs -o", []string{"key", "export", "blog"}},
		{"key import needs ALIAS and FILE", []string{"key", "import", "blog"}},
		{"key backup needs ALIAS", []string{"key", "backup"}},
		{"contradict", []string{"key", "backup", "blog", "--keep-seed", "--forget-seed"}},
		{"go with no -o", []string{"key", "backup", "blog", "--words", "-o", "x"}},
		{"key restore needs FILE", []string{"key", "restore"}},
		{"key restore needs ALIAS", []string{"key", "restore", "--words"}},
		{"key remove needs ALIAS", []string{"key", "remove"}},
		{"key encrypt needs ALIAS", []string{"key", "encrypt"}},
		{"key decrypt needs ALIAS", []string{"key", "decrypt"}},
		{"host add needs INVITE or URL", []string{"host", "add"}},
		{"--label is KEY=VALUE", []string{"host", "add", "http://127.0.0.1:1", "--token", "t", "--label", "x"}},
		{"host remove needs NAME", []string{"host", "remove"}},
		{"operator invite needs LABEL", []string{"operator", "invite"}},
		{"token create needs LABEL", []string{"token", "create"}},
		{"token revoke needs ID", []string{"token", "revoke"}},
		{"demo takes one folder", []string{"demo", "a", "b"}},
	} {
		u.fails(2, tt.text, tt.args...)
	}
}

func TestWithoutAHomeTheUserIsAskedForOne(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{in: strings.NewReader(""), out: &out, err: &errs, getenv: func(string) string { return "" }}
	if code := run(t.Context(), []string{"sites"}, e); code != 2 || !strings.Contains(errs.String(), "--home") {
		t.Errorf("%d: %s", code, errs.String())
	}
}

func TestTheHomeComesFromTheFlagThenTheEnvironmentThenTheDataFolder(t *testing.T) {
	u := newUser(t)
	for _, tt := range []struct {
		vars map[string]string
		args []string
		want string
	}{
		{map[string]string{"HOLDFAST_HOME": u.path("e"), "XDG_DATA_HOME": u.path("d")}, []string{"--home", u.path("f")}, u.path("f")},
		{map[string]string{"HOLDFAST_HOME": u.path("e"), "XDG_DATA_HOME": u.path("d")}, nil, u.path("e")},
		{map[string]string{"XDG_DATA_HOME": u.path("d"), "HOME": u.path("h")}, nil, u.path("d/holdfast")},
	} {
		tt.vars["XDG_RUNTIME_DIR"] = u.dir
		var out, errs bytes.Buffer
		e := &env{in: strings.NewReader(""), out: &out, err: &errs, getenv: func(k string) string { return tt.vars[k] }}
		if code := run(t.Context(), append([]string{"key", "new", "blog"}, tt.args...), e); code != 0 {
			t.Fatal(errs.String())
		}
		if _, err := os.Stat(filepath.Join(tt.want, "keys")); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigIsReadStrictlyAndFlagsWinOverIt(t *testing.T) {
	u := newUser(t)
	u.file("home/config.toml", "netwrok = \"offline\"\n[gateway]\nlissten = \"x\"\n")
	u.fails(2, "netwrok", "sites")
	u.fails(2, "gateway.lissten", "sites")
	u.file("home/config.toml", "network = [\n")
	u.fails(2, "config.toml", "sites")
	u.file("home/config.toml", "network = \"local\"\n")
	u.fails(2, "private, public or offline", "sites")
	u.must("sites", "--help")

	u.file("home/config.toml", "[publish]\nsymlinks = \"perhaps\"\n")
	u.fails(2, "--symlinks must be follow or keep", "build", u.dir)
	u.file("home/config.toml", "network = \"offline\"\n[publish]\ncopies = 0\n")
	dir := u.site("blog")
	if v := u.json("publish", dir); v["root"] == "" {
		t.Error("config.toml's copies and network did not count")
	}
	u.fails(5, "hosts", "publish", dir, "--copies", "1")
}

func TestAnInterruptedCommandSaysSo(t *testing.T) {
	u := newUser(t)
	var cancel context.CancelFunc
	u.ctx, cancel = context.WithCancel(t.Context())
	cancel()
	u.fails(1, "interrupted", "publish", u.site("blog"), "--copies", "0", "--network", "offline")
}
