package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// headersFile holds the header fields that a site wants its answers to have, in
// Netlify's syntax, at its root.
const headersFile = "_headers"

// byteOrderMark is what some editors put before a text. It says nothing.
const byteOrderMark = "\ufeff"

// Limits of such a file.
const (
	maxHeadersFile = 64 << 10 // bytes
	maxHeaderRules = 1000     // paths
	maxHeaderValue = 4 << 10  // bytes of one field
)

// Headers are a site's own header fields. The zero value has none; they are not changed once they are parsed.
type Headers struct {
	rules []headerRule
	// Ignored are the fields that a gateway doesn't take from a site, in order.
	Ignored []IgnoredHeader
}

// IgnoredHeader is a well-formed line of a _headers file that has no effect.
type IgnoredHeader struct {
	Line int // from 1
	Name string
}

// headerRule gives the answers for some paths their fields.
type headerRule struct {
	path   glob
	fields []headerField
}

type headerField struct{ name, value string }

// ParseHeaders reads the text of a _headers file. The error names every line
// that can't be used; the Headers hold what can be, so that one bad line takes no
// page away. Of a file that is too large nothing is used.
func ParseHeaders(text []byte) (Headers, error) {
	var p headersParser
	if len(text) > maxHeadersFile {
		return p.out, fmt.Errorf("%s: larger than %d bytes", headersFile, maxHeadersFile)
	}
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if err := p.line(number, strings.TrimSpace(string(line))); err != nil {
			p.errs = append(p.errs, fmt.Errorf("%s: line %d: %w", headersFile, number, err))
		}
	}
	return p.out, errors.Join(p.errs...)
}

type headersParser struct {
	out     Headers
	open    bool // a path was read that fields can belong to
	refused bool // a path was read that can't be used, and neither can its fields
	errs    []error
}

func (p *headersParser) line(number int, line string) error {
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil
	case strings.HasPrefix(line, "/"):
		err := p.path(line)
		p.refused = err != nil
		return err
	case strings.HasPrefix(line, "http://"), strings.HasPrefix(line, "https://"): // as Cloudflare's has it
		p.open, p.refused = false, true
		return fmt.Errorf("%.100q is on a host, and a site has no say over other hosts: write the path alone", line)
	case strings.HasPrefix(line, "!"):
		return fmt.Errorf("%.100q: a field can't be taken back here; set it under the paths that are to have it", line)
	case p.refused:
		return nil
	}
	name, value, ok := strings.Cut(line, ":")
	name, value = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
	switch {
	case !ok:
		return fmt.Errorf("%.100q is neither a path (/…) nor a field (Name: value)", line)
	case !p.open:
		return fmt.Errorf("%.100q stands under no path", name)
	case !validFieldName(name):
		return fmt.Errorf("%.100q is no header name", name)
	case name == "Basic-Auth":
		return fmt.Errorf("%s: nothing here can be kept from readers, and what is published stays published: take away what the password was for, and then this line", name)
	case !siteMaySet(name):
		p.out.Ignored = append(p.out.Ignored, IgnoredHeader{number, name})
		return nil
	}
	if err := checkFieldValue(name, value); err != nil {
		return err
	}
	return p.add(headerField{name, value})
}

func (p *headersParser) path(line string) error {
	p.open = false
	if len(p.out.rules) == maxHeaderRules {
		return fmt.Errorf("more than %d paths", maxHeaderRules)
	}
	g, err := parseGlob(line)
	if err != nil {
		return err
	}
	p.out.rules = append(p.out.rules, headerRule{path: g})
	p.open = true
	return nil
}

// add gives the last path a field. What it has under that name already stays:
// the values are one list, as for a field that is sent twice.
func (p *headersParser) add(f headerField) error {
	last := &p.out.rules[len(p.out.rules)-1]
	for i := range last.fields {
		if have := &last.fields[i]; have.name == f.name {
			switch {
			case f.name == "Content-Type" || f.name == "Content-Disposition":
				return fmt.Errorf("%s stands twice, and is no list", f.name)
			case len(have.value)+len(f.value)+2 > maxHeaderValue:
				return fmt.Errorf("%s is longer than %d bytes with what stands above", f.name, maxHeaderValue)
			}
			have.value += ", " + f.value
			return nil
		}
	}
	last.fields = append(last.fields, f)
	return nil
}

// apply sets the fields that the site wants for a path. All rules that match
// count; where two set the same field, the later one does.
func (hs Headers) apply(path string, h http.Header) {
	for _, r := range hs.rules {
		if !r.path.match(path) {
			continue
		}
		for _, f := range r.fields {
			h.Set(f.name, f.value)
		}
	}
}

// safeFields are the fields, besides most that begin with "X-", that a site may
// set. They concern the site's own origin and how it is shown and kept: nothing that frames
// the message, speaks for the gateway, or reaches past the origin, as cookies do.
var safeFields = []string{
	"Accept-Ch", "Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age", "Cache-Control",
	"Content-Disposition", "Content-Language", "Content-Security-Policy", "Content-Security-Policy-Report-Only",
	"Content-Type", "Critical-Ch", "Cross-Origin-Embedder-Policy", "Cross-Origin-Embedder-Policy-Report-Only",
	"Cross-Origin-Opener-Policy", "Cross-Origin-Opener-Policy-Report-Only", "Cross-Origin-Resource-Policy",
	"Document-Policy", "Feature-Policy", "Integrity-Policy", "Integrity-Policy-Report-Only", "Link", "Nel",
	"No-Vary-Search", "Onion-Location", "Origin-Agent-Cluster", "Permissions-Policy", "Referrer-Policy", "Report-To",
	"Reporting-Endpoints", "Service-Worker-Allowed", "Sourcemap", "Speculation-Rules", "Strict-Transport-Security",
	"Supports-Loading-Mode", "Timing-Allow-Origin",
}

// unsafePrefixes are of fields that gateways, and proxies before them, take as an order.
var unsafePrefixes = []string{"X-Accel-", "X-Chunked-", "X-Forwarded-", "X-Ipfs-", "X-Lighttpd-", "X-Litespeed-", "X-Original-", "X-Real-", "X-Reproxy-", "X-Rewrite-", "X-Sendfile", "X-Stream-"}

// siteMaySet tells whether a site may set the field (canonical spelling).
func siteMaySet(name string) bool {
	if _, found := slices.BinarySearch(safeFields, name); found {
		return true
	}
	return strings.HasPrefix(name, "X-") && !slices.ContainsFunc(unsafePrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

func validFieldName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

func checkFieldValue(name, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s has no value", name)
	case len(value) > maxHeaderValue:
		return fmt.Errorf("%s is longer than %d bytes", name, maxHeaderValue)
	case strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && r < ' ' || r >= 0x7f }):
		return fmt.Errorf("%s holds more than printable ASCII", name)
	case name == "Content-Type":
		if _, _, err := mime.ParseMediaType(value); err != nil {
			return fmt.Errorf("Content-Type: %.100q is no media type", value)
		}
	}
	return nil
}

// glob is a path in which "*" stands for any text, slashes too, and ":name" for one segment.
type glob []globPart

// globPart is text that stands in the path as it is, with what may come before it.
type globPart struct {
	star    bool // any text
	segment bool // one segment that is not empty
	text    string
}

const maxStars = 4 // in one path, since each has to be tried everywhere

func parseGlob(s string) (glob, error) {
	if strings.Count(s, "*") > maxStars {
		return nil, fmt.Errorf("%.100q has more than %d asterisks", s, maxStars)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("%.100q: a path holds no spaces; write %%20", s)
	}
	g := glob{{}}
	text := func(s string) {
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
		g[len(g)-1].text += s
	}
	for i, segment := range strings.Split(s, "/") {
		if i > 0 {
			text("/")
		}
		if len(segment) > 1 && segment[0] == ':' && !strings.Contains(segment, "*") {
			g = append(g, globPart{segment: true})
			continue
		}
		for j, piece := range strings.Split(segment, "*") {
			if j > 0 {
				g = append(g, globPart{star: true})
			}
			text(piece)
		}
	}
	return g, nil
}

// match tells whether the whole path is as the glob says. A splat after a slash matches
// without that slash, too: "/blog/*" is "/blog".
func (g glob) match(path string) bool {
	if g.matchAll(path) {
		return true
	}
	last := g[len(g)-1]
	return last.star && last.text == "" && !strings.HasSuffix(path, "/") && g.matchAll(path+"/")
}

// matchAll goes from left to right, and back to the last star where it is stuck.
// To go further back would help nothing: an earlier star could only take more.
func (g glob) matchAll(path string) bool {
	at, part := 0, 0    // in the path, in the glob
	star, from := -1, 0 // the last star, and where it may try next
	for {
		if part < len(g) {
			p := g[part]
			if p.star && part == len(g)-1 {
				return strings.HasSuffix(path[at:], p.text)
			}
			if p.star {
				star, from = part, at
			}
			if next, ok := p.take(path, at); ok {
				at, part = next, part+1
				continue
			}
		} else if at == len(path) {
			return true
		}
		if star < 0 || from >= len(path) {
			return false
		}
		// The star takes one byte more.
		from++
		if !strings.HasPrefix(path[from:], g[star].text) {
			i := strings.Index(path[from:], g[star].text)
			if i < 0 {
				return false
			}
			from += i
		}
		at, part = from+len(g[star].text), star+1
	}
}

// take matches one part at a place in the path, a star with nothing, and gives the place behind.
func (p globPart) take(path string, at int) (int, bool) {
	if p.segment {
		n := strings.IndexByte(path[at:], '/')
		if n < 0 {
			n = len(path) - at
		}
		if n == 0 {
			return 0, false
		}
		at += n
	}
	if !strings.HasPrefix(path[at:], p.text) {
		return 0, false
	}
	return at + len(p.text), true
}

// capAge shortens every time in a Cache-Control value that is longer than left.
// Browsers must not go on with what a record said after the record's end.
func capAge(value string, left time.Duration) string {
	most := max(int64(left/time.Second), 0)
	parts := strings.Split(value, ",")
	for i, part := range parts {
		name, age, ok := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		default:
			continue
		}
		if n, err := strconv.ParseInt(strings.Trim(age, `"`), 10, 64); ok && (err != nil || n > most) {
			parts[i] = " " + name + "=" + strconv.FormatInt(most, 10)
		}
	}
	return strings.TrimSpace(strings.Join(parts, ","))
}

// outlives tells whether a Cache-Control value has something kept for longer than left.
func outlives(value string, left time.Duration) bool {
	return strings.Contains(strings.ToLower(value), "immutable") || capAge(value, left) != strings.TrimSpace(value)
}
