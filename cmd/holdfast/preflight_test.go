package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestWhatPreflightFindsIsToldShortlyAndInFull(t *testing.T) {
	u := newUser(t)
	var links strings.Builder
	for i := range 12 {
		fmt.Fprintf(&links, "<a href='gone%d'>\n", i)
	}
	u.file("bad/index.html", links.String()+"<a href='\x1b[2J'><a href=/index.html>")
	publish := []string{"publish", u.path("bad"), "--copies", "0", "--network", "offline"}

	o := u.must(publish...)
	for _, want := range []string{
		"warning: broken link: \"index.html\" line 1: \"gone0\" leads to nothing\n",
		"warning: broken link: and 3 more\n", "--json lists more of these\n", "warning: root absolute: ",
	} {
		if !strings.Contains(o.err, want) {
			t.Errorf("not told: %q in\n%s", want, o.err)
		}
	}
	if strings.Contains(o.err, "\x1b") {
		t.Errorf("a terminal obeys this: %q", o.err)
	}
	found := u.json(publish...)["preflight"].(map[string]any)
	if list := found["findings"].([]any); found["total"] != 14.0 || len(list) != 14 {
		t.Errorf("%v", found)
	} else {
		hasExactly(t, "a finding", list[13], "kind", "page", "line", "link", "target", "suggestion", "message")
	}

	u.fails(1, "gone0", append(publish, "--strict")...)
	u.fails(1, "gone0", "build", u.path("bad"), "--strict")
	u.fails(1, "gone0", "up", u.path("bad"), "--strict", "--network", "offline", "--gateway", "127.0.0.1:0")
	u.file("home/config.toml", "[publish]\nstrict = true\n")
	u.fails(1, "gone0", publish...)
	u.must(append(publish, "--strict=false")...)
	u.must("build", u.path("bad"))
	if o := u.must("build", u.path("bad"), "--check", "--strict=false"); !strings.Contains(o.err, "gone0") {
		t.Errorf("%s", o.err)
	}
	u.fails(1, "gone0", "build", u.path("bad"), "--check")
}
