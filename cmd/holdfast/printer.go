package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/holdfast-sites/holdfast/internal/author"
)

// say prints for people. Control characters that come from names, messages
// and errors of others are quoted: a terminal obeys them.
func (e *env) say(w io.Writer, format string, args ...any) {
	for i, a := range args {
		switch v := a.(type) {
		case string:
			args[i] = harmless(v)
		case error:
			args[i] = harmless(v.Error())
		}
	}
	fmt.Fprintf(w, format, args...)
}

func (e *env) printf(format string, args ...any) { e.say(e.out, format, args...) }

// note tells something beside the result.
func (e *env) note(s string) {
	if !e.quiet {
		e.say(e.err, "note: %s\n", s)
	}
}

// harmless quotes what a terminal would act on, and marks that turn the
// direction of text.
func harmless(s string) string {
	bad := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, bad) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if bad(r) || r == utf8.RuneError && n == 1 { // a byte by itself may be an 8-bit control character
			q := strconv.Quote(s[:n])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// progress shows events: a bar on a terminal, lines in a pipe (a step's first,
// then one every few seconds), nothing when quiet or for programs.
type progress struct {
	e     *env
	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	step  string                  // of the bar
	parts map[string]author.Event // what the bar sums up: the latest of each host
	lines map[string]time.Time    // when a step last had a line
}

// lineEvery is how often a step that goes on has a line in a pipe.
const lineEvery = 5 * time.Second

func (e *env) progress() *progress { return &progress{e: e, lines: make(map[string]time.Time)} }

func (p *progress) event(raw json.RawMessage) {
	if p.e.quiet || p.e.json && !p.e.tellSteps {
		return
	}
	var ev author.Event
	if json.Unmarshal(raw, &ev) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case ev.Total == 0 && ev.Done == 0:
		if p.bar != nil {
			_ = p.bar.Clear() // it goes on below the line
		}
		p.e.say(p.e.err, "%-8s %s\n", ev.Step, strings.TrimSpace(ev.Host+" "+ev.Message))
	case p.e.terminal:
		p.draw(ev)
	default:
		p.line(ev)
	}
}

// draw moves the bar of a step. Hosts that work at the same time share it.
func (p *progress) draw(ev author.Event) {
	if p.step != ev.Step {
		p.clear()
		p.step, p.parts = ev.Step, make(map[string]author.Event)
	}
	p.parts[ev.Host] = ev
	var done, total int64
	for _, part := range p.parts {
		done, total = done+part.Done, total+part.Total
	}
	if total == 0 {
		total = -1 // not known: a counter instead of a bar
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.e.err), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription(fmt.Sprintf("%-8s", ev.Step)),
			progressbar.OptionThrottle(80*time.Millisecond), progressbar.OptionSetWidth(24),
			progressbar.OptionSetSpinnerChangeInterval(0)) // else a goroutine draws on after the end
	}
	if total > 0 && p.bar.GetMax64() != total {
		p.bar.ChangeMax64(total)
	}
	_ = p.bar.Set64(done)
}

// line tells how far a step is, not too often.
func (p *progress) line(ev author.Event) {
	key := ev.Step + "/" + ev.Host
	if time.Since(p.lines[key]) < lineEvery {
		return
	}
	p.lines[key] = time.Now()
	far := size(ev.Done)
	if ev.Total > 0 {
		far += " of " + size(ev.Total)
	}
	p.e.say(p.e.err, "%-8s %s\n", ev.Step, strings.Join(strings.Fields(ev.Host+" "+far+" "+ev.Message), " "))
}

func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar, p.step = nil, ""
	}
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// counted writes a number of things for people: "1 file", "2 files".
func counted(n int64, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

// farAway is from when on nobody counts the days; a time.Duration ends after 292 years.
const farAway = 100 * 365 * 24 * time.Hour

// when writes a time for people: the date, and how far away it is.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	d := time.Until(*t)
	ago := d < 0
	if ago {
		d = -d
	}
	var s string
	switch {
	case d > farAway:
		return t.UTC().Format(time.DateOnly)
	case d < 2*time.Second: // clocks of two machines differ by more
		return "just now"
	case d < 2*time.Minute:
		s = fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		s = fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		s = fmt.Sprintf("%d h", int(d.Hours()))
	default:
		s = fmt.Sprintf("%d days", int(d.Hours()/24+0.5))
	}
	if ago {
		return s + " ago"
	}
	return t.Local().Format(time.DateOnly) + " (in " + s + ")"
}
