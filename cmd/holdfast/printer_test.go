package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
)

func TestControlCharactersDoNotReachTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain":            "plain",
		"größe 日本 ✓":       "größe 日本 ✓",
		"two\nlines":       "two\nlines",
		"\x1b[31mred":      `\x1b[31mred`,
		"a\rb\tc\x00":      `a\rb\tc\x00`,
		"abc\u202egpj.exe": `abc\u202egpj.exe`,
		"c1 \u009b2J":      `c1 \u009b2J`,
		"raw \x9b2J \xff":  `raw \x9b2J \xff`,
		"zero\u200bwidth":  `zero\u200bwidth`,
		"real \ufffd":      "real \ufffd",
	} {
		if got := harmless(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	var b bytes.Buffer
	e := &env{out: &b, err: &b}
	e.printf("%s %v %d\n", "\x1b]0;x\x07", errors.New("\x1b[2J"), 3)
	e.fail(errors.New("host said \x1b[2J"))
	p := e.progress()
	p.event(json.RawMessage(`{"step":"place","host":"\u001b[2J","message":"\u001b[2J"}`))
	p.event(json.RawMessage(`{"step":"fetch","host":"\u001b[2J","message":"\u001b[2J","done":5}`))
	if strings.ContainsRune(b.String(), 0x1b) {
		t.Errorf("%q", b.String())
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add("a\x1b[0m\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := harmless(s)
		for _, r := range got {
			if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q: %q", s, got)
			}
		}
		if harmless(got) != got {
			t.Fatalf("%q: quoted again: %q", s, harmless(got))
		}
	})
}

func TestSizesAreWrittenInDecimalUnits(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1049: "1.0 kB", 1_500_000: "1.5 MB", 999_949: "999.9 kB", 999_999: "1.0 MB",
		67_000_000_000: "67.0 GB", 1 << 62: "4.6 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestTimesAreToldAsPeopleTellThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		now := time.Now()
		for d, want := range map[time.Duration]string{
			0: "just now", -time.Second: "just now", time.Second: "just now",
			-30 * time.Second: "30 s ago", -90 * time.Second: "90 s ago", -10 * time.Minute: "10 min ago",
			-3 * time.Hour: "3 h ago", -72 * time.Hour: "3 days ago",
			30 * time.Second:     now.Add(30*time.Second).Local().Format(time.DateOnly) + " (in 30 s)",
			365 * 24 * time.Hour: now.Add(365*24*time.Hour).Local().Format(time.DateOnly) + " (in 365 days)",
		} {
			at := now.Add(d)
			if got := when(&at); got != want {
				t.Errorf("%v: %q, want %q", d, got, want)
			}
		}
	})
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	if got := when(&last); got != "9999-12-31" {
		t.Errorf("the last time of all: %q", got)
	}
	if got := when(nil); got != "-" {
		t.Errorf("no time: %q", got)
	}
}

func TestProgressInAPipeIsALineNowAndThen(t *testing.T) {
	tell := func(e *env, evs ...author.Event) {
		p := e.progress()
		for _, ev := range evs {
			raw, _ := json.Marshal(ev)
			p.event(raw)
		}
		p.done()
	}
	many := []author.Event{{Step: "ask", Message: "who"}}
	for i := range int64(1000) {
		many = append(many, author.Event{Step: "fetch", Host: "alice", Done: i + 1, Total: 1000}, author.Event{Step: "fetch", Host: "bob", Done: i + 1, Total: 1000})
	}
	var b bytes.Buffer
	tell(&env{err: &b}, many...)
	if n := strings.Count(b.String(), "\n"); n != 3 {
		t.Errorf("%d lines for 2001 events:\n%s", n, b.String())
	}
	b.Reset()
	tell(&env{err: &b, quiet: true}, many...)
	tell(&env{err: &b, json: true}, many...)
	if b.Len() > 0 {
		t.Errorf("not asked for: %q", b.String())
	}
	tell(&env{err: &b, json: true, tellSteps: true}, many...)
	if b.Len() == 0 {
		t.Error("--progress with --json shows nothing")
	}
}
