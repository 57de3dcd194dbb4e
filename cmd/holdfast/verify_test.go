package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// spoil flips a bit of some text where it lies in the home's segments.
func (u *user) spoil(text string) {
	u.t.Helper()
	segments, err := filepath.Glob(filepath.Join(u.home, "blocks", "segments", "*.car"))
	if err != nil || len(segments) == 0 {
		u.t.Fatalf("%v, %v", segments, err)
	}
	for _, path := range segments {
		b, err := os.ReadFile(path)
		if err != nil {
			u.t.Fatal(err)
		}
		at := bytes.Index(b, []byte(text))
		if at < 0 {
			continue
		}
		b[at] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			u.t.Fatal(err)
		}
		return
	}
	u.t.Fatalf("%q is in no segment", text)
}

func TestVerifyNamesDamageAndFixTakesItFromTheFolder(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.must(offline("publish", dir, "--site", "blog", "--copies", "0")...)
	v := u.json("verify")
	hasExactly(t, "verify", v, "blocks", "bytes", "garbage", "damaged", "missing", "unlisted", "fixed", "left", "advice", "caches")
	if v["left"] != 0.0 {
		t.Errorf("%v", v)
	}
	if o := u.must("verify"); !strings.Contains(o.out, "all is well") {
		t.Errorf("%s", o.out)
	}
	u.spoil("a page")
	o := u.run("verify")
	if o.code != 6 || !strings.Contains(o.out, `needed by site "blog"`) || !strings.Contains(o.out, "verify --fix") {
		t.Errorf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
	o = u.run("verify", "--json")
	body, _ := oneObject(t, o.out)["error"].(map[string]any)
	found, _ := body["verify"].(map[string]any)
	if damaged, _ := found["damaged"].([]any); o.code != 6 || body["kind"] != "corrupt" || len(damaged) != 1 {
		t.Errorf("exit code %d: %s", o.code, o.out)
	}
	if o := u.must(offline("verify", "--fix")...); !strings.Contains(o.out, "all is well now") {
		t.Errorf("%s", o.out)
	}
	if o := u.must("verify"); !strings.Contains(o.out, "all is well") {
		t.Errorf("%s", o.out)
	}
}

func TestVerifySaysWhatToDoAboutWhatNobodyHas(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	u.must(offline("publish", dir, "--site", "blog", "--copies", "0")...)
	u.spoil("a page")
	if err := os.WriteFile(filepath.Join(dir, "sub", "page.html"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := u.run(offline("verify", "--fix")...)
	if o.code != 6 || !strings.Contains(o.out, "holdfast publish "+dir+" --site blog") || !strings.Contains(o.out, "offline") {
		t.Errorf("exit code %d\n%s%s", o.code, o.out, o.err)
	}
}

func TestADamagedIndexIsSaidAndVerifyFixMakesItAnew(t *testing.T) {
	u := newUser(t)
	u.must(offline("publish", u.site("site"), "--site", "blog", "--copies", "0")...)
	if err := os.RemoveAll(filepath.Join(u.home, "blocks", "index")); err != nil {
		t.Fatal(err)
	}
	u.fails(6, "holdfast verify --fix", "gc")
	u.fails(6, "holdfast verify --fix", "verify")
	if o := u.must(offline("verify", "--fix")...); !strings.Contains(o.out, "made anew") || !strings.Contains(o.out, "all is well now") {
		t.Errorf("%s", o.out)
	}
	if o := u.must(offline("cat", "blog/sub/page.html")...); o.out != "a page" {
		t.Errorf("%q", o.out)
	}
	if v := u.json("gc"); v["blocks"] != 0.0 {
		t.Errorf("%v", v)
	}
}

func TestAFlippedBitInTheIndexIsFoundByVerifyAndFixed(t *testing.T) {
	u := newUser(t)
	for i := range 100 {
		u.file(fmt.Sprintf("site/%d.txt", i), strings.Repeat(fmt.Sprintf("%9d", i), 100))
	}
	u.must(offline("publish", u.path("site"), "--site", "blog", "--copies", "0")...)
	tables, err := filepath.Glob(filepath.Join(u.home, "blocks", "index", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("%q, %v", tables, err)
	}
	for _, path := range tables {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/3] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u.fails(6, "holdfast verify --fix", "verify")
	if o := u.must(offline("verify", "--fix")...); !strings.Contains(o.out, "made anew") || !strings.Contains(o.out, "all is well now") {
		t.Errorf("%s", o.out)
	}
	if o := u.must(offline("cat", "blog/7.txt")...); len(o.out) != 900 {
		t.Errorf("%q", o.out)
	}
}

func TestGCGivesBackWhatNobodyKeepsAndADryRunOnlySaysSo(t *testing.T) {
	u := newUser(t)
	other := newUser(t)
	root := other.json("build", other.site("site"))["root"].(string)
	other.must(offline("export", root, "-o", u.path("a.car"))...)
	u.must(offline("publish", u.site("site"), "--site", "blog", "--copies", "0")...)
	u.file("site/index.html", "<h1>second</h1>")
	u.must(offline("publish", u.path("site"), "--site", "blog", "--copies", "0", "--no-grace")...)
	v := u.json("gc", "--dry-run")
	hasExactly(t, "gc", v, "dry_run", "blocks", "bytes", "disk")
	if v["dry_run"] != true || v["blocks"] == 0.0 || v["disk"] != 0.0 {
		t.Fatalf("%v", v)
	}
	if did := u.json("gc"); did["dry_run"] != false || did["blocks"] != v["blocks"] || did["bytes"] != v["bytes"] {
		t.Errorf("%v, said %v", did, v)
	}
	if o := u.must("gc"); o.out != "nothing to give back\n" {
		t.Errorf("%s", o.out)
	}
	if o := u.must(offline("cat", "blog/index.html")...); o.out != "<h1>second</h1>" {
		t.Errorf("%q", o.out)
	}
	u.fails(2, "no arguments", "gc", "now")
	u.fails(2, "no arguments", "verify", "now")
	u.fails(2, "--rate", "verify", "--rate", "fast")
	u.must("verify", "--rate", "1GB/s", "--restart")
}

func TestStatusSaysWhatASiteTakesHere(t *testing.T) {
	u := newUser(t)
	u.must(offline("publish", u.site("site"), "--site", "blog", "--copies", "0")...)
	if o := u.must("status"); strings.Contains(o.out, "here ") {
		t.Errorf("%s", o.out)
	}
	if o := u.must("status", "--usage"); !strings.Contains(o.out, "  here  ") {
		t.Errorf("%s", o.out)
	}
	sites := u.json("status", "--usage")["sites"].([]any)
	stored := sites[0].(map[string]any)["stored"].(map[string]any)
	if stored["bytes"] == 0.0 || stored["bytes"] != stored["unique_bytes"] {
		t.Errorf("%v", stored)
	}
}

func TestRatesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "800": 800, "50MB/s": 50e6, "50 MB/s": 50e6, "50mb": 50e6, "1.5GiB": 3 << 29, "20k": 20_000, "1KiB/s": 1024, "7B/s": 7, "2T": 2e12,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"fast", "-1", "0", "MB", "1XB", "1e30", "NaN", "Inf", "1iB", "/s", "5/min"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"50MB/s", "1.5GiB", "", "ki", "0x1p3k"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := parseRate(s); err == nil && (v < 0 || v == 0 && s != "") {
			t.Errorf("%q is %d", s, v)
		}
	})
}

// stopper ends a command when it says something.
type stopper struct {
	bytes.Buffer
	at   string
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), s.at) {
		s.stop()
	}
	return s.Buffer.Write(b)
}

func TestAnInterruptedVerifySaysHowFarItIsAndTheNextGoesOn(t *testing.T) {
	u := newUser(t)
	for i := range 400 {
		u.file(fmt.Sprintf("site/%d.txt", i), strings.Repeat(fmt.Sprintf("%9d", i), 100))
	}
	u.must(offline("publish", u.path("site"), "--site", "blog", "--copies", "0")...)
	ctx, cancel := context.WithCancel(t.Context())
	errs := &stopper{at: "verify", stop: cancel}
	e := &env{in: strings.NewReader(""), out: &bytes.Buffer{}, err: errs, getenv: func(k string) string { return u.vars[k] }}
	code := run(ctx, []string{"--home", u.home, "verify", "--rate", "300kB/s"}, e)
	if code != 1 || !strings.Contains(errs.String(), "the next verify goes on there") || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	if v := u.json("verify"); v["left"] != 0.0 {
		t.Errorf("%v", v)
	}
}

func TestALostReleaseBlockDoesNotEndASite(t *testing.T) {
	u := newUser(t)
	dir := u.site("site")
	args := offline("publish", dir, "--site", "blog", "--copies", "0")
	u.must(append(args, "-m", "a message of its own")...)
	u.spoil("a message of its own")
	v := u.json(args...)
	if warnings := fmt.Sprint(v["warnings"]); v["number"] != 2.0 || !strings.Contains(warnings, "release 1 can't be read") {
		t.Errorf("%v", v)
	}
	u.file("site/index.html", "<h1>hello again</h1>")
	v = u.json(args...)
	if warnings := fmt.Sprint(v["warnings"]); v["number"] != 3.0 || strings.Contains(warnings, "can't be read") {
		t.Errorf("%v", v)
	}
}
