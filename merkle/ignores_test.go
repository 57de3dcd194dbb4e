package merkle

import (
	"os"
	"path/filepath"
	"testing"
)

func TestIgnoresSayWhatABuildLeavesOut(t *testing.T) {
	top := t.TempDir()
	sub := filepath.Join(top, "docs")
	for path, text := range map[string]string{
		IgnoreFile:                        "/drafts/\n*.log\n",
		filepath.Join("docs", IgnoreFile): "!kept.log\n/local.html\n",
	} {
		path = filepath.Join(top, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at, err := TopIgnores(top)
	if err != nil {
		t.Fatal(err)
	}
	below, err := at.Below("docs", sub)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in     Ignores
		name   string
		folder bool
		want   bool
	}{
		{at, "drafts", true, true},
		{at, "drafts", false, false},
		{at, "a.log", false, true},
		{at, "kept.log", false, true},
		{at, ".git", true, true},
		{at, ".#index.html", false, true},
		{at, "#index.html#", false, true},
		{at, "#1.html", false, false},
		{at, "local.html", false, false},
		{below, "drafts", true, false},
		{below, "a.log", false, true},
		{below, "kept.log", false, false},
		{below, "local.html", false, true},
		{below, "index.html", false, false},
	} {
		if got := c.in.Ignored(c.name, c.folder); got != c.want {
			t.Errorf("%q (folder %v) below %q: ignored is %v", c.name, c.folder, c.in.parts, got)
		}
	}
}

func TestAnIgnoreFileThatCantBeReadLeavesTheOtherRules(t *testing.T) {
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(top, IgnoreFile), 0o755); err != nil {
		t.Fatal(err)
	}
	at, err := TopIgnores(top)
	if err == nil {
		t.Error("no error for a folder in its place")
	}
	if !at.Ignored(".git", true) || at.Ignored("index.html", false) {
		t.Error("the defaults are gone")
	}
}
