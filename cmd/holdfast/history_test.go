package main

import (
	"strings"
	"testing"
)

func TestHistoryDiffAndRollbackOfASite(t *testing.T) {
	u := newUser(t)
	dir := u.site("blog")
	u.must(offline("publish", dir, "--copies", "0", "-m", "first")...)
	u.file("blog/sub/page.html", "a longer page")
	u.file("blog/new.txt", "12345")
	u.must(offline("publish", dir, "--copies", "0", "-m", "second\n   3  just now  \x1b[31mnot a line of ours")...)

	got := u.must(offline("history", "blog")...).out
	for _, want := range []string{"*   2", "    1", "first", "kept here", "by holdfast/", `\x1b[31mnot a line`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\x1b") || len(strings.Split(strings.TrimSpace(got), "\n")) != 4 {
		t.Errorf("a message makes lines, or moves the cursor:\n%q", got)
	}
	r := u.json(offline("history", "blog", "--limit", "1")...)
	if list := r["releases"].([]any); len(list) != 1 || list[0].(map[string]any)["current"] != true || list[0].(map[string]any)["number"] != 2.0 {
		t.Errorf("%v", r)
	}
	if v := u.json(offline("history", "--verify", "blog")...); v["releases"] != 2.0 {
		t.Errorf("%v", v)
	}
	if got := u.must(offline("history", "--verify", "blog")...).out; !strings.Contains(got, "2 releases") {
		t.Error(got)
	}

	got = u.must(offline("diff", "blog")...).out
	for _, want := range []string{"+ 5 B", "new.txt", "~ 6 B → 13 B", "sub/page.html", "1 added, 0 removed, 1 changed, 0 renamed; 12 B more"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if d := u.json(offline("diff", "blog", "2", "1")...); d["removed"] != 1.0 || d["growth_bytes"] != -12.0 {
		t.Errorf("%v", d)
	}
	if got := u.must(offline("diff", "blog", "2", "2")...).out; got != "no difference\n" {
		t.Errorf("%q", got)
	}

	p := u.json(offline("rollback", "blog", "-1", "--copies", "0")...)
	if p["number"] != 3.0 {
		t.Errorf("%v", p)
	}
	if got := u.must(offline("history", "blog", "--limit", "1")...).out; !strings.Contains(got, "rollback to release 1") {
		t.Error(got)
	}
	if got := u.must(offline("rollback", "blog", "2", "--copies", "0", "-m", "back again", "--keep", "3")...).out; !strings.Contains(got, "release 4") {
		t.Error(got)
	}
	u.fails(2, "shows now", offline("rollback", "blog", "4", "--copies", "0")...)
	u.fails(2, "no number", offline("rollback", "blog", "yesterday")...)
	u.fails(2, "needs SITE", offline("rollback")...)
	u.fails(2, "needs SITE", offline("diff")...)
	u.fails(2, "at least 1", offline("history", "blog", "--limit", "-1")...)
	u.fails(3, "the newest release is 4", offline("rollback", "blog", "5", "--copies", "0")...)
	u.fails(3, "nothing 4 before", offline("diff", "blog", "-4")...)
	u.fails(3, "no site", offline("history", "nobody")...)
	u.fails(2, "no site", offline("history", p["root"].(string))...)
}
