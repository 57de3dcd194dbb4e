package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func offline(args ...string) []string { return append(args, "--network", "offline") }

func TestBuildMakesARootAndNoKey(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.file("site/.DS_Store", "junk")
	v := u.json("build", dir)
	hasExactly(t, "build", v, "root", "files", "bytes", "blocks", "added_blocks", "ignored")
	if v["files"] != 2.0 || v["bytes"] != 20.0 || v["ignored"].([]any)[0] != ".DS_Store" {
		t.Errorf("%v", v)
	}
	if again := u.json("build", dir); again["root"] != v["root"] || again["added_blocks"] != 0.0 {
		t.Errorf("the same folder again: %v", again)
	}
	if o := u.must("build", dir); o.out != v["root"].(string)+"\n" {
		t.Errorf("people get %q on stdout, want the root by itself", o.out)
	}
	// A file's root is the file's own CID: these are the bytes' hash.
	one := u.json("build", u.file("hello.txt", "hello"))
	if one["root"] != "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq" || one["files"] != 1.0 {
		t.Errorf("a file: %v", one)
	}
	old := u.json("build", u.path("hello.txt"), "--profile", "unixfs-v0-2015")
	if !strings.HasPrefix(old["root"].(string), "Qm") {
		t.Errorf("the old profile: %v", old)
	}
	if keys := u.json("key", "list")["keys"].([]any); len(keys) != 0 {
		t.Errorf("a build made keys: %v", keys)
	}
	u.fails(3, "nothing-here", "build", u.path("nothing-here"))
}

func TestADryRunListsAndWritesNothing(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.file("site/.git/config", "x")
	for _, cmd := range []string{"build", "publish", "up"} {
		v := u.json(cmd, dir, "--dry-run")
		if v["files"] != 2.0 || v["root"] != "" || len(v["ignored"].([]any)) != 1 {
			t.Errorf("%s: %v", cmd, v)
		}
		if o := u.must(cmd, "--dry-run", dir); !strings.Contains(o.out, "ignored  .git") {
			t.Errorf("%s: %s", cmd, o.out)
		}
		u.fails(3, "nothing-here", cmd, "--dry-run", u.path("nothing-here"))
	}
	if keys := u.json("key", "list")["keys"].([]any); len(keys) != 0 {
		t.Errorf("a dry run made keys: %v", keys)
	}
}

func TestGetCatAndExportReadWhatWasBuilt(t *testing.T) {
	u := newUser(t)
	root := u.json("build", u.site("site"))["root"].(string)

	v := u.json(offline("get", root, "-o", u.path("out"))...)
	hasExactly(t, "get", v, "root", "files", "bytes")
	if v["root"] != root || v["files"] != 2.0 || v["bytes"] != 20.0 {
		t.Errorf("%v", v)
	}
	if b, err := os.ReadFile(u.path("out/sub/page.html")); string(b) != "a page" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	u.fails(2, "not empty", offline("get", root, "-o", u.path("out"))...)
	u.fails(2, "exists already", offline("get", root, "-o", u.path("out/index.html"))...)
	u.must(offline("get", "/ipfs/"+root+"/sub", "-o", u.path("only-sub"))...)
	if _, err := os.Stat(u.path("only-sub/page.html")); err != nil {
		t.Error(err)
	}

	for _, address := range []string{root + "/sub/page.html", "/ipfs/" + root + "/sub/page.html", "ipfs://" + root + "/sub/page%2Ehtml"} {
		if o := u.must(offline("cat", address)...); o.out != "a page" {
			t.Errorf("%s: %q", address, o.out)
		}
	}
	u.fails2(t, 2, "is not a file", offline("cat", root+"/sub")...)
	u.fails2(t, 3, "nope", offline("cat", root+"/nope")...)
	u.fails2(t, 3, "no site of this machine", offline("cat", "unknown")...)
	u.fails2(t, 2, "is not a CID", offline("cat", "/ipfs/unknown")...)
	u.fails(3, "no site of this machine", offline("get", "unknown", "-o", u.path("x"))...)
	u.wantsBytes(t, offline("cat", root+"/index.html")...)

	exported := u.json(offline("export", root, "-o", u.path("a.car"))...)
	hasExactly(t, "export", exported, "root", "files", "bytes")
	car, err := os.ReadFile(u.path("a.car"))
	if err != nil || exported["bytes"] != float64(len(car)) {
		t.Errorf("%v: %d bytes, %v", exported, len(car), err)
	}
	if o := u.must(offline("export", root, "-o", "-")...); o.out != string(car) {
		t.Error("-o - gives another CAR")
	}
	u.wantsBytes(t, offline("export", root, "-o", "-")...)

	other := newUser(t)
	in := other.json("import", u.path("a.car"))
	hasExactly(t, "import", in, "roots", "blocks", "bytes")
	if in["roots"].([]any)[0] != root {
		t.Errorf("%v", in)
	}
	if o := other.must(offline("cat", root+"/index.html")...); o.out != "<h1>hello</h1>" {
		t.Errorf("%q", o.out)
	}
	third := newUser(t)
	third.in = bytes.NewReader(car)
	third.must("import", "-")
	if o := third.must(offline("cat", root+"/index.html")...); o.out != "<h1>hello</h1>" {
		t.Errorf("imported from standard input: %q", o.out)
	}
	third.fails(6, "", "import", u.path("site/index.html"))
	third.fails(3, "nope.car", "import", u.path("nope.car"))
	third.fails(3, "", offline("get", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq", "-o", u.path("absent"))...)
}

// wantsBytes checks that a command whose success is bytes refuses --json.
func (u *user) wantsBytes(t *testing.T, args ...string) {
	t.Helper()
	o := u.run(append(args, "--json")...)
	if body, _ := oneObject(t, o.out)["error"].(map[string]any); o.code != 2 || body["kind"] != "usage" {
		t.Errorf("%q: %d: %s", args, o.code, o.out)
	}
}

// fails2 checks a failure of a command whose success is bytes, not an object.
func (u *user) fails2(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	if o := u.run(args...); o.code != code || !strings.Contains(o.err, text) || o.out != "" {
		t.Errorf("%q: exit code %d, want %d with %q\n%s%s", args, o.code, code, text, o.out, o.err)
	}
}

func TestAFolderCalledHelpIsAFolder(t *testing.T) {
	u := newUser(t)
	t.Chdir(u.dir)
	u.site("help")
	if v := u.json("build", "help"); v["files"] != 2.0 {
		t.Errorf("%v", v)
	}
	if o := u.must("build", "help"); strings.Contains(o.out, "USAGE") {
		t.Errorf("%s", o.out)
	}
	u.must("key", "new", "h")
	u.site("--odd")
	if v := u.json("build", "./--odd"); v["files"] != 2.0 {
		t.Errorf("%v", v)
	}
	if o := u.must("build", "--", "--odd"); o.out == "" {
		t.Error("-- does not end the flags")
	}
}

func TestPublishOnThisMachineOnly(t *testing.T) {
	u := newUser(t)
	dir := u.site("My Blog")
	args := offline("publish", dir, "--copies", "0", "-m", "first light")
	v := u.json(args...)
	hasExactly(t, "publish", v, "alias", "name", "root", "release", "number", "sequence", "files", "bytes", "added_bytes", "preflight",
		"urls", "hosts", "live", "safe_until", "warnings", "notes", "copies", "availability", "target")
	if v["alias"] != "my-blog" || v["number"] != 1.0 || v["live"] != false || v["safe_until"] != nil || len(v["hosts"].([]any)) != 0 {
		t.Errorf("%v", v)
	}
	if v["urls"].([]any)[0] != "http://my-blog.localhost:8080/" {
		t.Errorf("%v", v["urls"])
	}
	if o := u.must(args...); !strings.Contains(o.out, "my-blog") || !strings.Contains(o.err, "nobody else holds this site") || !strings.Contains(o.err, "once `holdfast serve --gateway 127.0.0.1:8080` runs here") {
		t.Errorf("people are told\n%s%s", o.out, o.err)
	}

	status := u.json("status")["sites"].([]any)
	if len(status) != 1 {
		t.Fatalf("%v", status)
	}
	hasExactly(t, "status", status[0], "alias", "name", "root", "release", "number", "sequence", "files", "bytes", "copies",
		"published", "valid_until", "safe_until", "live", "url", "hosts", "name_life",
		"min_copies", "proved", "availability", "target", "standbys", "failures", "repairing", "asked_at")
	one := u.json("status", "my-blog")["sites"].([]any)[0].(map[string]any)
	if one["root"] != v["root"] || one["sequence"].(float64) <= v["sequence"].(float64) || one["safe_until"] != nil {
		t.Errorf("%v", one)
	}
	if o := u.must("status"); !strings.Contains(o.out, "nobody else holds it") {
		t.Errorf("%s", o.out)
	}
	hasExactly(t, "sites", u.json("sites"), "sites")
	if o := u.must("sites"); strings.Count(o.out, "\n") != 2 || !strings.Contains(o.out, "my-blog") || !strings.Contains(o.out, "name valid until") {
		t.Errorf("sites: %q", o.out)
	}

	h := u.json(offline("history", "my-blog")...)
	hasExactly(t, "history", h, "name", "releases", "hosts_asked", "hosts_answered")
	rel := h["releases"].([]any)
	if len(rel) != 1 {
		t.Fatalf("%v", rel)
	}
	hasExactly(t, "a release", rel[0], "number", "release", "root", "time", "message", "files", "bytes", "sequence", "tool", "current", "kept_here", "kept_by_hosts")
	if o := u.must(offline("history", "my-blog")...); !strings.Contains(o.out, "first light") {
		t.Errorf("%s", o.out)
	}

	r := u.json(offline("name", "resolve", "my-blog")...)
	for _, f := range []string{"name", "root", "sequence", "valid_until", "ttl_seconds", "source"} {
		if r[f] == nil || r[f] == "" {
			t.Errorf("name resolve lacks %s: %v", f, r)
		}
	}
	if o := u.must(offline("cat", "my-blog/index.html")...); o.out != "<h1>hello</h1>" {
		t.Errorf("%q", o.out)
	}

	// The raw record travels as a file.
	file := u.path(v["name"].(string) + ".ipns-record")
	u.must(offline("name", "get", "my-blog", "-o", file)...)
	if o := u.must(offline("name", "get", "my-blog")...); !bytes.Equal([]byte(o.out), mustRead(t, file)) {
		t.Error("name get to standard output gives something else")
	}
	other := newUser(t)
	if put := other.json(offline("name", "put", file)...); put["name"] != v["name"] {
		t.Errorf("%v", put)
	}
	other.in = bytes.NewReader(mustRead(t, file))
	other.must(offline("name", "put", "-", "--name", v["name"].(string))...)
	if r := other.json(offline("name", "resolve", v["name"].(string))...); r["root"] != v["root"] {
		t.Errorf("%v", r)
	}
	broken := append(mustRead(t, file), 0xff)
	broken[20] ^= 1
	u.file("broken", string(broken))
	other.fails(6, "", offline("name", "put", u.path("broken"), "--name", v["name"].(string))...)
	u.file("huge", strings.Repeat("x", 11<<10))
	other.fails(6, "larger than", offline("name", "put", u.path("huge"), "--name", v["name"].(string))...)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishRefusesWhatIsNoFolderAndMakesNoKeyForIt(t *testing.T) {
	u := newUser(t)
	u.fails(3, "missing", offline("publish", u.path("missing"), "--copies", "0")...)
	u.fails(2, "is a file", offline("publish", u.file("page.html", "x"), "--copies", "0")...)
	u.fails(2, "is a file", offline("up", u.path("page.html"), "--gateway", "127.0.0.1:0")...)
	u.fails(2, "copies", offline("publish", u.site("site"), "--copies", "-1")...)
	if keys := u.json("key", "list")["keys"].([]any); len(keys) != 0 {
		t.Errorf("keys were made: %v", keys)
	}
	u.fails(2, "only a-z", offline("publish", u.path("site"), "--site", "My Site", "--copies", "0")...)

	if err := os.Mkdir(u.path("empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if v := u.json(offline("publish", u.path("empty"), "--copies", "0")...); v["files"] != 0.0 || v["root"] == "" {
		t.Errorf("an empty folder: %v", v)
	}
}

func TestTheHomeIsNeverPublished(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	outside := u.home
	u.must("key", "new", "other")
	u.fails(2, "everybody could read your keys", "publish", filepath.Join(u.home, "keys"), "--copies", "0", "--network", "offline")
	u.fails(2, "everybody could read your keys", "build", filepath.Join(u.home, "keys", "other.key"))
	u.fails(2, "everybody could read your keys", "build", u.dir)
	u.home = filepath.Join(dir, ".holdfast")
	u.file("site/.holdfastignore", ".holdfast\n")
	u.fails(2, "inside the folder", "publish", dir, "--copies", "0", "--network", "offline")
	u.fails(2, "inside the folder", "publish", dir, "--dry-run")
	u.fails(2, "inside the folder", "up", dir, "--network", "offline", "--gateway", "127.0.0.1:0")
	u.fails(2, "inside the folder", "up", dir, "--watch", "--network", "offline", "--gateway", "127.0.0.1:0")
	u.fails(2, "inside the folder", "build", dir)
	if keys, err := filepath.Glob(filepath.Join(u.home, "keys", "site*")); err != nil || len(keys) > 0 {
		t.Errorf("a key was made: %v, %v", keys, err)
	}
	u.home = outside
	u.must("publish", u.site("public"), "--copies", "0", "--network", "offline")
}

func TestPublishWithoutHostsSaysWhatToDo(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.fails(5, "holdfast host add", offline("publish", dir)...)
	u.fails(5, "holdfast host add", offline("publish", dir, "--copies", "2")...)
}

func TestNothingPublishedIsNoError(t *testing.T) {
	u := newUser(t)
	for cmd, field := range map[string]string{"status": "sites", "sites": "sites", "host list": "hosts", "token list": "tokens", "key list": "keys"} {
		v := u.json(strings.Fields(cmd)...)
		hasExactly(t, cmd, v, field)
		if list, ok := v[field].([]any); !ok || len(list) != 0 {
			t.Errorf("%s: %v", cmd, v)
		}
		if o := u.must(strings.Fields(cmd)...); o.out+o.err == "" {
			t.Errorf("%s says nothing at all", cmd)
		}
	}
	u.fails(3, "nope", "status", "nope")
	u.fails(3, "nope", offline("history", "nope")...)
	u.fails(3, "nope", offline("name", "resolve", "nope")...)
	u.fails(3, "nope", "host", "remove", "nope")
	u.fails(3, "nope", "token", "revoke", "nope")
}

func TestAKeyThatWasNeverUsedHasNoHistory(t *testing.T) {
	u := newUser(t)
	u.must("key", "new", "blog")
	// Another machine may have used it, and nobody can be asked.
	u.fails(5, "could not be resolved", offline("history", "blog")...)
	u.fails2(t, 5, "could not be resolved", offline("cat", "blog/index.html")...)
}

func TestNothingStaysBehindWhenGetFails(t *testing.T) {
	u := newUser(t)
	out := u.path("out")
	u.fails(3, "", offline("get", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq", "-o", out)...)
	if left, _ := filepath.Glob(u.path("out*")); len(left) != 0 {
		t.Errorf("%v", left)
	}
}
