package gateway

import (
	"bytes"
	"slices"
	"strings"

	redirects "github.com/ipfs/go-ipfs-redirects-file"
)

// maxCatchAll bounds the rules that each later one is compared with.
const maxCatchAll = 256

// IdleRule is a well-formed line of a _redirects file that no request comes to.
type IdleRule struct {
	Line  int    // from 1
	From  string // as it is written
	There string // the path of the site that it is for, and that is there; else an earlier rule answers, or no path is like it
}

// IdleRules are the rules of a site's _redirects file that have no effect. there
// tells whether the site answers for a path (that begins with a slash) without them.
func IdleRules(text []byte, there func(path string) bool) (idle []IdleRule) {
	seen := make(map[string]bool)
	var catchAll []pattern
	number := 0
	for line := range bytes.Lines(text) {
		number++
		lines, err := redirects.Parse(bytes.NewReader(line))
		if err != nil || len(lines) == 0 {
			continue
		}
		from, err := parsePattern(lines[0].From)
		if err != nil {
			continue
		}
		found := IdleRule{Line: number, From: lines[0].From}
		path, exact := from.path()
		covered := func(earlier pattern) bool { return earlier.covers(from) }
		switch {
		case strings.ContainsAny(found.From, "?#"), seen[strings.TrimSuffix(found.From, "/")], slices.ContainsFunc(catchAll, covered):
			idle = append(idle, found)
		case exact && there(path):
			found.There = path
			idle = append(idle, found)
		}
		seen[strings.TrimSuffix(found.From, "/")] = true
		if from.splat && len(catchAll) < maxCatchAll {
			catchAll = append(catchAll, from)
		}
	}
	return idle
}

// path is the only one that the pattern matches, where there is only one.
func (p pattern) path() (path string, only bool) {
	if p.splat || slices.ContainsFunc(p.segments, func(s segment) bool { return s.placeholder != "" }) {
		return "", false
	}
	if len(p.segments) == 1 {
		return "/", true
	}
	for _, s := range p.segments[1:] {
		path += "/" + s.text
	}
	return path, true
}

// covers tells whether a pattern with a splat matches all that another one does.
func (p pattern) covers(other pattern) bool {
	if p.head != "" || len(p.segments) > len(other.segments) {
		return false
	}
	for i, s := range p.segments {
		if o := other.segments[i]; s.placeholder == "" && (o.placeholder != "" || s.text != o.text) {
			return false
		}
	}
	return true
}
