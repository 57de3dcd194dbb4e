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

// ParseRedirects checks the text of a _redirects file, at most 64 KiB, as
// strictly as the gateway does when it carries it out. The error says what is wrong.
func ParseRedirects(text []byte) ([]redirects.Rule, error) {
	if len(text) > redirects.MaxFileSizeInBytes {
		return nil, fmt.Errorf("larger than %d bytes", redirects.MaxFileSizeInBytes)
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, fmt.Errorf("holds a NUL byte")
	}
	rules, err := redirects.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if err := checkPlaceholders(r.From); err != nil {
			return nil, err
		}
		if _, err := parseTarget(r); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// Answer tells what rules do about a path that is not in the site, by the
// first that matches: where answered, which path of the site is sent instead, or
// nothing for a redirect. A rule that answers with an error does not count as one.
func Answer(rules []redirects.Rule, path string) (instead string, answered bool) {
	for _, r := range rules {
		m, ok := matchRule(r.From, path)
		if !ok {
			continue
		}
		to, err := parseTarget(r)
		switch {
		case err != nil:
			return "", false
		case r.Status >= 300 && r.Status < 400:
			return "", true
		case r.Status == http.StatusOK:
			return to.contentPath(m), true
		}
		return "", false
	}
	return "", false
}

func checkPlaceholders(from string) error {
	seen := map[string]bool{}
	for seg := range strings.SplitSeq(from, "/") {
		if name, ok := strings.CutPrefix(seg, ":"); ok {
			if seen[name] {
				return fmt.Errorf("%.100q: placeholder :%s stands twice", from, name)
			}
			seen[name] = true
		}
	}
	return nil
}

// match is what the placeholders of a rule stand for in one request, unescaped.
type match map[string]string

// matchRule matches a rule's path, in which ":name" stands for one segment and
// a final "*" for the rest, with a path. A final slash makes no difference.
func matchRule(from, path string) (match, bool) {
	path = strings.TrimSuffix(path, "/")
	from = strings.TrimSuffix(from, "/")
	m := match{}
	head, splat := strings.CutSuffix(from, "*")
	want := strings.Split(head, "/")
	have := strings.Split(path, "/")
	if splat {
		// "/a/*" ends in an empty segment, "/a*" in one that only begins so.
		last := want[len(want)-1]
		want = want[:len(want)-1]
		if len(have) < len(want) {
			return nil, false
		}
		rest, ok := strings.CutPrefix(strings.Join(have[len(want):], "/"), last)
		if !ok {
			return nil, false
		}
		m["splat"] = rest
		have = have[:len(want)]
	}
	if len(want) != len(have) {
		return nil, false
	}
	for i, w := range want {
		if name, ok := strings.CutPrefix(w, ":"); ok && have[i] != "" {
			m[name] = have[i]
		} else if w != have[i] {
			return nil, false
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
	placeholder    = regexp.MustCompile(`:[A-Za-z][A-Za-z0-9_]*`)
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

// expand puts the values in, each escaped for its place. One pass: a value
// that looks like a placeholder stays what it is.
func (t target) expand(m match) (path, query, fragment string) {
	put := func(template string, escape func(string) string) string {
		return placeholder.ReplaceAllStringFunc(template, func(p string) string {
			if v, ok := m[p[1:]]; ok {
				return escape(v)
			}
			return p
		})
	}
	segments := func(v string) string { return (&url.URL{Path: "/" + v}).EscapedPath()[1:] }
	return put(t.path, segments), put(t.query, url.QueryEscape), put(t.fragment, url.PathEscape)
}

// contentPath is the path that a rewrite reads, in the site and nowhere above it.
func (t target) contentPath(m match) string {
	path := placeholder.ReplaceAllStringFunc(t.path, func(p string) string {
		if v, ok := m[p[1:]]; ok {
			return v
		}
		return p
	})
	if plain, err := url.PathUnescape(t.path); err == nil && !placeholder.MatchString(t.path) {
		path = plain
	}
	clean := gopath.Clean("/" + path)
	if strings.HasSuffix(path, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}
