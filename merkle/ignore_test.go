package merkle

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestWhatIsIgnoredIsListedAndNotBuilt(t *testing.T) {
	top := tree(t, map[string]string{
		"index.html":               "x",
		".git/config":              "x",
		".DS_Store":                "x",
		"sub/.DS_Store":            "x",
		"sub/._index.html":         "x",
		"sub/page.html~":           "x",
		"sub/.page.html.swp":       "x",
		"Thumbs.db":                "x",
		".well-known/security.txt": "x",
		".nojekyll":                "",
		"node_modules/a.js":        "x",
		"drafts/one.html":          "x",
		"drafts/keep.html":         "x",
		"logs/today.log":           "x",
		"logs/today.txt":           "x",
		"sub/only-here.txt":        "x",
		"only-here.txt":            "x",
		"sub/deep/x.tmp":           "x",
		"back/.hg/x":               "x",
		"hash#tag":                 "x",
		"trailing\\ ":              "x",
		IgnoreFile:                 "\ufeff# a comment\r\n\r\n*.log\r\n/drafts/*\n!/drafts/keep.html\nsub/**/*.tmp\n!.hg\n\\#x\nlogs/nothing/",
		"sub/" + IgnoreFile:        "/only-here.txt\n",
	})
	scan, err := ScanFolder(context.Background(), top, BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := sorted([]string{
		".git/", ".DS_Store", "sub/.DS_Store", "sub/._index.html", "sub/page.html~", "sub/.page.html.swp", "Thumbs.db",
		"drafts/one.html", "logs/today.log", "sub/only-here.txt", "sub/deep/x.tmp", IgnoreFile, "sub/" + IgnoreFile,
	})
	if !slices.Equal(scan.Ignored, want) {
		t.Errorf("ignored %q\nwant    %q", scan.Ignored, want)
	}
	built := build(t, newTestStore(), top, BuildOptions{})
	if built.Files != scan.Files || built.Bytes != scan.Bytes || !slices.Equal(built.Ignored, scan.Ignored) {
		t.Errorf("built %d files, %d bytes; scanned %d, %d", built.Files, built.Bytes, scan.Files, scan.Bytes)
	}
	if want := int64(23 - len(want)); built.Files != want {
		t.Errorf("%d files, want %d", built.Files, want)
	}
}

func TestAnIgnoredFolderIsNotLookedInto(t *testing.T) {
	// Its dangling link would be refused.
	top := tree(t, map[string]string{"a": "a", "skip/dangling": "->nowhere", IgnoreFile: "skip/\n"})
	build(t, newTestStore(), top, BuildOptions{})
}

func TestTheQuickLookAtANameMissesNoDefault(t *testing.T) {
	names := []string{"x", "index.html", ".well-known", "Thumbs", "d", "p", "~"}
	for _, p := range defaultIgnores {
		names = append(names, p, strings.ReplaceAll(p, "*", ""), strings.ReplaceAll(p, "*", "some"), "x"+p, p+"x", strings.ToUpper(p))
	}
	rules := newIgnoreRules()
	for _, name := range names {
		if got, want := rules.ignored([]string{name}, false), rules.matcher.Match([]string{name}, false); got != want {
			t.Errorf("%q: %v, the patterns say %v", name, got, want)
		}
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.log\n!keep.log\n/a/**/b\n\\#x", "a/x/b")
	f.Add("[", "[")
	f.Add("**/**/**\n/\n!\n \\ ", "a/b/c")
	f.Add("a[^b-]*\\", "ab")
	f.Fuzz(func(t *testing.T, file, path string) {
		if len(file) > 4096 || len(path) > 256 {
			return
		}
		rules := newIgnoreRules().with(strings.Split(file, "\n"), nil)
		parts := strings.Split(path, "/")
		rules.ignored(parts, true)
		rules.ignored(parts, false)
		rules.with(strings.Split(file, "\n"), parts[:1]).ignored(parts, false)
	})
}
