package gateway

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	gopath "path"
	"regexp"
	"strings"

	redirects "github.com/ipfs/go-ipfs-redirects-file"
)

// rulesFile holds a site's redirects and rewrites, at its root
// (https://specs.ipfs.tech/http-gateways/web-redirects-file/).
const rulesFile = "_redirects"

// maxRulesFile bounds it, in bytes.
const maxRulesFile = redirects.MaxFileSizeInBytes

// Redirects are a site's rules, in the order in which they count. They are not
// changed once they are parsed.
type Redirects []rule

// rule is one line of the file.
type rule struct {
	from   pattern
	to     target
	status int
	// all tells that it answers with some page for whatever is not there. That is no
	// use to whoever wants a script, and was not written for the path that is asked for.
	all bool
}

// ParseRedirects reads the text of a _redirects file, at most 64 KiB, as
// strictly as the gateway does when it carries it out. The error says what is
// wrong, and in which lines.
func ParseRedirects(text []byte) (Redirects, error) {
	if len(text) > maxRulesFile {
		return nil, fmt.Errorf("could not parse %s: redirects file size cannot exceed %d bytes", rulesFile, maxRulesFile)
	}
	lines, err := redirects.Parse(bytes.NewReader(text))
	var rules Redirects
	if err == nil && bytes.IndexByte(text, 0) < 0 {
		if rules, err = compileRules(lines); err == nil {
			return rules, nil
		}
	}
	if refused := refusedLines(text); refused != nil {
		return nil, refused
	}
	return nil, fmt.Errorf("could not parse %s: %w", rulesFile, err)
}

func compileRules(lines []redirects.Rule) (Redirects, error) {
	rules := make(Redirects, 0, len(lines))
	for _, l := range lines {
		from, err := parsePattern(l.From)
		if err != nil {
			return nil, err
		}
		to, err := parseTarget(l)
		if err != nil {
			return nil, err
		}
		all := from.splat && (l.Status == http.StatusOK || l.Status == http.StatusNotFound)
		rules = append(rules, rule{from, to, l.Status, all})
	}
	return rules, nil
}

// match is the first rule that matches a path that is not there, with what its
// placeholders stand for.
func (rs Redirects) match(path string) (rule, match, bool) {
	have := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for _, r := range rs {
		if m, ok := r.from.match(have); ok {
			return r, m, true
		}
	}
	return rule{}, nil, false
}

// Answer tells what the rules do about a path that is not in the site: where
// answered, which path of the site is sent instead, or nothing for a redirect. A
// rule that answers with an error does not count as an answer.
func (rs Redirects) Answer(path string) (instead string, answered bool) {
	r, m, ok := rs.match(path)
	switch {
	case !ok, r.leadsBack(path, m):
		return "", false
	case r.status >= 300 && r.status < 400:
		return "", true
	case r.status == http.StatusOK:
		return r.to.contentPath(m), true
	}
	return "", false
}

// leadsBack tells whether a redirect leads to where it was asked for, but for a slash at
// the end, which makes no difference to rules: a browser would go round for ever.
func (r rule) leadsBack(path string, m match) bool {
	return r.status >= 300 && r.status < 400 && r.to.origin == "" &&
		strings.TrimRight(r.to.contentPath(m), "/") == strings.TrimRight(path, "/")
}

// match is what the placeholders of a rule stand for in one request, unescaped.
type match map[string]string

// pattern is a path in which ":name" stands for one segment and a final "*"
// for the rest. A final slash makes no difference.
type pattern struct {
	segments []segment // the first is empty: paths begin with a slash
	splat    bool
	head     string // what the splat's first segment begins with: "/a*" has "a", "/a/*" nothing
}

// segment is a part of a path between slashes: itself, or any that is not empty.
type segment struct{ text, placeholder string }

func parsePattern(from string) (pattern, error) {
	path, splat := strings.CutSuffix(strings.TrimSuffix(from, "/"), "*")
	p := pattern{splat: splat}
	seen := map[string]bool{}
	parts := strings.Split(path, "/")
	for i, s := range parts {
		name, ok := strings.CutPrefix(s, ":")
		switch {
		case !ok, name == "", splat && i == len(parts)-1: // what is escaped means itself, as in the path that is asked for
			for text := range strings.SplitSeq(unescaped(s), "/") {
				p.segments = append(p.segments, segment{text: text})
			}
			continue
		case seen[name]:
			return p, fmt.Errorf("%.100q: placeholder :%s stands twice", from, name)
		}
		seen[name] = true
		p.segments = append(p.segments, segment{placeholder: name})
	}
	if last := len(p.segments) - 1; splat {
		p.segments, p.head = p.segments[:last], p.segments[last].text
	}
	return p, nil
}

// unescaped resolves what is percent-encoded; what only looks so stays.
func unescaped(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// match compares the pattern with the segments of a path.
func (p pattern) match(have []string) (match, bool) {
	if len(have) < len(p.segments) || !p.splat && len(have) > len(p.segments) {
		return nil, false
	}
	for i, want := range p.segments {
		if want.text != have[i] && (want.placeholder == "" || have[i] == "") {
			return nil, false
		}
	}
	rest := have[len(p.segments):]
	if p.head != "" && (len(rest) == 0 || !strings.HasPrefix(rest[0], p.head)) {
		return nil, false
	}
	m := match{}
	if p.splat {
		m["splat"] = strings.Join(rest, "/")[len(p.head):]
	}
	for i, want := range p.segments {
		if want.placeholder != "" {
			m[want.placeholder] = have[i]
		}
	}
	return m, true
}

// target is where a rule leads: a path of the same site, or a URL whose origin
// is written in the rule and which no request can change.
type target struct {
	origin   string // "https://example.org", or empty
	path     string // templates, with :placeholders
	query    string
	fragment string
}

var (
	absoluteTarget = regexp.MustCompile(`^((?:https?|ipfs|ipns)://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?)([/?#].*)?$`)
	placeholder    = regexp.MustCompile(`:[A-Za-z][A-Za-z0-9_-]*`)
)

// parseTarget checks a rule's target against its status.
func parseTarget(r redirects.Rule) (target, error) {
	var t target
	rest := r.To
	if !strings.HasPrefix(rest, "/") {
		m := absoluteTarget.FindStringSubmatch(rest)
		if m == nil {
			return t, fmt.Errorf("%.100q is neither a path nor a URL with a plain host", r.To)
		}
		t.origin, rest = m[1], m[2]
	} else if len(rest) > 1 && (rest[1] == '/' || rest[1] == '\\') {
		return t, fmt.Errorf("%.100q names another host without saying so: write the whole URL", r.To)
	}
	if t.origin != "" && (r.Status < 300 || r.Status >= 400) {
		return t, fmt.Errorf("%.100q: status %d (%s) is possible for paths of the site only", r.To, r.Status, http.StatusText(r.Status))
	}
	rest, t.fragment, _ = strings.Cut(rest, "#")
	t.path, t.query, _ = strings.Cut(rest, "?")
	return t, nil
}

// fill replaces the placeholders of a template that m knows, and has the text
// between them pass through literal. One pass: a value that looks like a placeholder stays what it is.
func (m match) fill(template string, literal, value func(string) string) string {
	var b strings.Builder
	at := 0
	for _, span := range placeholder.FindAllStringIndex(template, -1) {
		name := template[span[0]+1 : span[1]]
		v, ok := m[name]
		for !ok { // of ":year-:month" the dash is text, of ":my-slug" it may be name
			cut := strings.LastIndexByte(name, '-')
			if cut < 0 {
				break
			}
			name = name[:cut]
			v, ok = m[name]
		}
		if ok {
			b.WriteString(literal(template[at:span[0]]))
			b.WriteString(value(v))
			at = span[0] + 1 + len(name)
		}
	}
	b.WriteString(literal(template[at:]))
	return b.String()
}

func itself(s string) string { return s }

// expand puts the values in, each escaped for its place.
func (t target) expand(m match) (path, query, fragment string) {
	segments := func(v string) string { return (&url.URL{Path: "/" + v}).EscapedPath()[1:] }
	return m.fill(t.path, itself, segments), m.fill(t.query, itself, url.QueryEscape), m.fill(t.fragment, itself, url.PathEscape)
}

// contentPath is the path that a rewrite reads, in the site and nowhere above it.
func (t target) contentPath(m match) string {
	path := m.fill(t.path, unescaped, itself)
	clean := gopath.Clean("/" + path)
	if strings.HasSuffix(path, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
