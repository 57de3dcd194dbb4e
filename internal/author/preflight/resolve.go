package preflight

import (
	"bytes"
	"strings"
)

// leads is where a reference leads, as far as it matters here.
type leads uint8

const (
	nowhere leads = iota // to its own page, another origin, a mail program, …
	inside               // to a path of the site
	toTop                // the same, and only where the site has an origin of its own
	astray               // to the reader's own machine
)

// resolver turns the references of one page into paths of the site, as a
// browser and the gateway after it do.
type resolver struct {
	dir   string // what relative references are relative to
	top   bool   // dir was given from the top
	away  bool   // dir is on another origin
	space []byte // of the last target
}

// reset makes r the resolver of a page.
func (r *resolver) reset(page string, baseRef []byte) {
	r.dir, _ = split(page)
	r.top, r.away = false, false
	if len(baseRef) == 0 {
		return
	}
	path, how := r.resolve(baseRef, true)
	switch how {
	case nowhere, astray:
		// "?x" and "#x" lead nowhere new; all else is elsewhere.
		r.away = baseRef[0] != '#' && baseRef[0] != '?'
	default:
		r.top = how == toTop
		r.dir = string(path)
		if ref, _, _ := bytes.Cut(baseRef, []byte("#")); !bytes.HasSuffix(bytes.TrimSpace(ref), []byte("/")) {
			r.dir, _ = split(r.dir)
		}
	}
}

// What the bytes of a reference can be.
const (
	isColon = 1 << iota
	isSlash
	isEnd
	isBackslash
	isPercent
	isBreak
)

var meaning = [256]uint8{':': isColon, '/': isSlash, '?': isEnd, '#': isEnd, '\\': isBackslash, '%': isPercent,
	'\t': isBreak, '\n': isBreak, '\r': isBreak}

// resolve finds the path without slashes at its ends, "" for the top, valid
// until the next call. loads says that the page loads it by itself.
func (r *resolver) resolve(ref []byte, loads bool) ([]byte, leads) {
	for len(ref) > 0 && ref[0] <= ' ' {
		ref = ref[1:]
	}
	for len(ref) > 0 && ref[len(ref)-1] <= ' ' {
		ref = ref[:len(ref)-1]
	}
	seen, colon := uint8(0), -1
	path := ref
	for i, c := range ref {
		m := meaning[c]
		if m == isColon && seen&(isSlash|isBackslash) == 0 && colon < 0 {
			colon = i
		}
		if seen |= m; m == isEnd {
			path = ref[:i]
			break
		}
	}
	if seen&isBreak != 0 { // browsers leave these out wherever they stand
		return r.resolve(dropBreaks(ref), loads)
	}
	if colon > 0 && isScheme(path[:colon]) {
		if misled(path[:colon], path[colon+1:], loads) {
			return nil, astray
		}
		return nil, nowhere
	}
	if len(path) == 0 {
		return nil, nowhere
	}
	if seen&isBackslash != 0 {
		path = bytes.ReplaceAll(path, []byte(`\`), []byte("/"))
	}
	top := path[0] == '/'
	if top && len(path) > 1 && path[1] == '/' || r.away {
		return nil, nowhere
	}
	if seen&isPercent != 0 {
		path = unescape(path)
	}
	r.space = r.space[:0]
	if !top {
		r.space = append(r.space, r.dir...)
		top = r.top
	}
	if r.follow(path) {
		top = true
	}
	if !top {
		return r.space, inside
	}
	if ns, _, _ := bytes.Cut(r.space, []byte("/")); string(ns) == "ipfs" || string(ns) == "ipns" {
		return nil, nowhere // somebody else's content, through the same gateway
	}
	return r.space, toTop
}

// follow walks from the folder in space. It reports whether that climbed above
// the top, where browsers stay on an origin of the site's own.
func (r *resolver) follow(path []byte) (climbed bool) {
	for len(path) > 0 {
		part := path
		if i := bytes.IndexByte(path, '/'); i >= 0 {
			part, path = path[:i], path[i+1:]
		} else {
			path = nil
		}
		switch {
		case len(part) == 0 || len(part) == 1 && part[0] == '.':
		case len(part) == 2 && part[0] == '.' && part[1] == '.':
			climbed = climbed || len(r.space) == 0
			r.space = r.space[:max(0, bytes.LastIndexByte(r.space, '/'))]
		default:
			if len(r.space) > 0 {
				r.space = append(r.space, '/')
			}
			r.space = append(r.space, part...)
		}
	}
	return climbed
}

func dropBreaks(ref []byte) []byte {
	out := make([]byte, 0, len(ref))
	for _, c := range ref {
		if meaning[c] != isBreak {
			out = append(out, c)
		}
	}
	return out
}

func isScheme(s []byte) bool {
	for i, c := range s {
		if !isLetter(c) && (i == 0 || !(c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return true
}

// misled says that an absolute reference leads to the reader's own machine: a
// file there, or what was loaded from a preview server. A mere link to localhost
// may be meant: manuals have them.
func misled(scheme, rest []byte, loads bool) bool {
	switch strings.ToLower(string(scheme)) {
	case "file":
		return true
	case "http", "https", "ws", "wss":
	default:
		return false
	}
	host := bytes.TrimLeft(rest, `/\`)
	if i := bytes.IndexAny(host, `/\?#:`); i >= 0 {
		host = host[:i]
	}
	return loads && (bytes.EqualFold(host, []byte("localhost")) || string(host) == "127.0.0.1")
}

// unescape resolves what is percent-encoded; what only looks so stays.
func unescape(path []byte) []byte {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if hi, lo := unhex(path[i+1]), unhex(path[i+2]); hi < 16 && lo < 16 {
				out = append(out, hi<<4|lo)
				i += 2
				continue
			}
		}
		out = append(out, path[i])
	}
	return out
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 255
}

// relative writes the reference that leads from a page to a path.
func relative(page, target string, isFolder bool) string {
	from := strings.Split(page, "/")
	from = from[:len(from)-1]
	to := strings.Split(target, "/")
	if target == "" {
		to = nil
	}
	same := 0
	for same < len(from) && same < len(to)-1 && from[same] == to[same] {
		same++
	}
	var b strings.Builder
	for range from[same:] {
		b.WriteString("../")
	}
	for i, name := range to[same:] {
		if i > 0 {
			b.WriteByte('/')
		}
		escape(&b, name)
	}
	switch {
	case isFolder && len(to) > 0:
		b.WriteByte('/')
	case b.Len() == 0:
		return "./"
	}
	ref := b.String()
	if first, _, _ := strings.Cut(ref, "/"); strings.Contains(first, ":") {
		return "./" + ref
	}
	return ref
}

// escape writes a name so that it means itself in a reference.
func escape(b *strings.Builder, name string) {
	const hex = "0123456789ABCDEF"
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ', c == 0x7f, strings.IndexByte(`%?#"<>\^`+"`{|}", c) >= 0:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
}
