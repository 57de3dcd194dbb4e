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
	if !strings.ContainsFunc(s, bad) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if bad(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// progress shows events: a bar on a terminal, lines in a pipe (a step's first,
// then one every few seconds), nothing when quiet or for programs.
type progress struct {
	e     *env
	mu    sync.Mutex
	bar   *progressbar.ProgressBar
	step  string               // of the bar
	lines map[string]time.Time // when a step last had a line
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
		p.clear()
		p.e.say(p.e.err, "%-8s %s\n", ev.Step, strings.TrimSpace(ev.Host+" "+ev.Message))
	case p.e.terminal:
		p.draw(ev)
	default:
		p.line(ev)
	}
}

// draw moves the bar of a step.
func (p *progress) draw(ev author.Event) {
	key := ev.Step + "/" + ev.Host
	if p.bar == nil || p.step != key {
		p.clear()
		p.step = key
		total := ev.Total
		if total == 0 {
			total = -1 // not known: a counter instead of a bar
		}
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.e.err), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription(fmt.Sprintf("%-8s %s", ev.Step, harmless(ev.Host))),
			progressbar.OptionThrottle(80*time.Millisecond), progressbar.OptionSetWidth(24))
	}
	_ = p.bar.Set64(ev.Done)
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
		p.bar = nil
	}
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// size writes a number of bytes for people.
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1000, 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[i])
}

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
	case d < 2*time.Minute:
		s = fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		s = fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		s = fmt.Sprintf("%d h", int(d.Hours()))
	default:
		s = fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	if ago {
		return s + " ago"
	}
	return t.Local().Format(time.DateOnly) + " (in " + s + ")"
}
