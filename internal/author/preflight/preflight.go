// Package preflight looks at a site as it is about to be published and tells
// what would surprise its readers: links that lead nowhere, or only on some
// machines and some addresses.
//
// It reads the DAG, so it speaks of what is published, and only reads. It
// promises the same findings whether a site is looked at for the first time or as a
// change of one that it has looked at before, in bounded memory whatever the pages
// hold. It never asks another site, and takes what a rule answers for answered.
package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is what sort of surprise a finding is.
type Kind string

// The kinds of finding.
const (
	BrokenLink   Kind = "broken_link"   // nothing of the site is there, and no rule answers
	WrongCase    Kind = "wrong_case"    // it is there in other case, which is another name
	RootAbsolute Kind = "root_absolute" // right on an origin of the site's own, wrong under /ipfs/<cid>/
	NoIndex      Kind = "no_index"      // a folder without index.html: readers see a list of files
	LocalLink    Kind = "local_link"    // to the machine that the reader sits at
	LargeFile    Kind = "large_file"    // over MaxFile
	CleanURL     Kind = "clean_url"     // right where pages are found without their extension, which isn't everywhere
	IgnoredField Kind = "ignored_field" // of _headers: gateways don't let a site set it
	IgnoredFile  Kind = "ignored_file"  // says to another host how the site is served
	StaleCoding  Kind = "stale_coding"  // name.br, .zst or .gz that doesn't decode to the name beside it
	IdleRule     Kind = "idle_rule"     // of _redirects: no request comes to it
)

// kinds in the order in which people are told.
var kinds = [manyKinds]Kind{BrokenLink, WrongCase, NoIndex, LocalLink, StaleCoding, IgnoredField, IgnoredFile, IdleRule, RootAbsolute, CleanURL, LargeFile}

const manyKinds = 11

// MaxFile is the size, in bytes, over which a file is told: more than other
// hosts of static sites take for one (Cloudflare Pages: 25 MiB), and
// what a public gateway may cut off or be a minute about.
const MaxFile = 25 << 20

// Limits of what is kept of findings.
const (
	maxReported = 250     // of each kind in a Report
	maxKept     = 50_000  // of one site, for the next check
	maxLink     = 1 << 10 // bytes of a link or target
)

// Finding is one surprise.
type Finding struct {
	Kind Kind   `json:"kind"`
	Page string `json:"page"`           // slash path of the page, or of the large file; empty: the site itself
	Line int    `json:"line,omitempty"` // of the tag, from 1
	Link string `json:"link,omitempty"` // as it is written, cut after 1 KiB
	// Target is the path of the site that the link leads to.
	Target string `json:"target,omitempty"`
	// Suggestion is what to write in place of the link; empty where nothing is near.
	Suggestion string `json:"suggestion,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"` // of a large file
	// Others, of the first finding of its kind with its target: how many pages have the same.
	Others  int    `json:"others,omitempty"`
	Message string `json:"message"`
}

func compare(a, b Finding) int {
	if c := slices.Index(kinds[:], a.Kind) - slices.Index(kinds[:], b.Kind); c != 0 {
		return c
	}
	if c := strings.Compare(a.Page, b.Page); c != 0 {
		return c
	}
	if a.Line != b.Line {
		return a.Line - b.Line
	}
	return strings.Compare(a.Link, b.Link)
}

// say fills in what the finding means, for people. What comes from the site is quoted.
func (f *Finding) say() {
	var b strings.Builder
	if f.Page != "" {
		fmt.Fprintf(&b, "%q", f.Page)
		if f.Line > 0 {
			fmt.Fprintf(&b, " line %d", f.Line)
		}
		b.WriteString(": ")
	}
	switch f.Kind {
	case BrokenLink:
		fmt.Fprintf(&b, "%q leads to nothing", f.Link)
	case WrongCase:
		fmt.Fprintf(&b, "%q differs in case from what is there", f.Link)
	case RootAbsolute:
		fmt.Fprintf(&b, "%q counts from the top of the origin, which isn't the site's under /ipfs/", f.Link)
	case NoIndex:
		if f.Link == "" {
			b.WriteString("there is no index.html at the top: readers will see a list of files")
		} else {
			fmt.Fprintf(&b, "%q leads to a folder without index.html: readers will see a list of files", f.Link)
		}
	case LocalLink:
		fmt.Fprintf(&b, "%q leads to the reader's own machine", f.Link)
	case CleanURL:
		fmt.Fprintf(&b, "%q has no extension: other gateways, and Kubo's, don't find the page", f.Link)
	case IgnoredField:
		fmt.Fprintf(&b, "%q is not for a site to set; gateways leave it out", f.Link)
	case IgnoredFile:
		b.WriteString("nobody reads it here; write its rules into _redirects and _headers, and leave the file out")
	case StaleCoding:
		fmt.Fprintf(&b, "is not %q compressed: browsers that take the coding are sent it in place of that; make it anew or leave it out", f.Target)
	case IdleRule:
		fmt.Fprintf(&b, "the rule for %q has no effect: ", f.Link)
		switch {
		case f.Target != "":
			b.WriteString("there is a page or file at it, and rules count for what is not there")
		case strings.ContainsAny(f.Link, "?#"):
			b.WriteString("paths are matched without what follows ? or #")
		default:
			b.WriteString("an earlier rule answers for all that it is for")
		}
	case LargeFile:
		fmt.Fprintf(&b, "%d bytes, more than %d: many gateways are slow with such files or refuse them", f.Bytes, MaxFile)
	}
	if f.Suggestion != "" {
		fmt.Fprintf(&b, "; %q would do", f.Suggestion)
	}
	f.Message = b.String()
}

// Report is what a check tells.
type Report struct {
	Total  int          `json:"total"`
	Counts map[Kind]int `json:"counts,omitempty"` // of all that were found
	// Findings are the first 250 of each kind, by kind, page and line.
	Findings []Finding `json:"findings"`
}

// Text tells the findings for people: of each kind at most shown that lead to
// different targets, a line each. Nothing in it can upset a terminal.
func (r Report) Text(shown int) string {
	var b strings.Builder
	for _, k := range kinds {
		name := strings.ReplaceAll(string(k), "_", " ")
		lines, told := 0, 0
		seen := make(map[flaw]bool)
		for _, f := range r.Findings {
			if f.Kind != k || lines == shown || seen[f.flaw()] {
				continue
			}
			seen[f.flaw()] = true
			fmt.Fprintf(&b, "%s: %s", name, f.Message)
			if f.Others > 0 {
				fmt.Fprintf(&b, " (on %d other pages, too)", f.Others)
			}
			b.WriteByte('\n')
			lines++
			told += 1 + f.Others
		}
		if more := r.Counts[k] - told; more > 0 {
			fmt.Fprintf(&b, "%s: and %d more\n", name, more)
		}
	}
	return b.String()
}

// flaw is what pages have in common that link to the same target.
type flaw struct {
	kind         Kind
	target, page string
}

func (f Finding) flaw() flaw {
	switch {
	case f.Target != "":
		return flaw{f.Kind, f.Target, ""}
	case f.Link != "":
		return flaw{f.Kind, f.Link, ""}
	}
	return flaw{f.Kind, "", f.Page}
}
