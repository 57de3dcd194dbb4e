package preflight

import (
	"bytes"

	"golang.org/x/net/html"
)

// link is a reference as it stands in a page: not yet resolved.
type link struct {
	ref   []byte // character references resolved; may be a part of the page
	pos   int    // where its tag begins, in bytes
	loads bool   // with the page, unasked
}

// maxLinks bounds the links of one page that are looked at.
const maxLinks = 1 << 20

// page is what one HTML page refers to.
type page struct {
	links []link
	base  []byte // of the first <base href>; nil: none
}

// scan collects the links of a page. It reads markup as browsers do, as far
// as golang.org/x/net/html does (which a fuzz test compares it with), but
// looks at attributes only where they can hold a link: a page of highlighted source
// is nothing but tags, and a publish must not wait for them. What is too odd
// for it, it leaves to that package.
func (p *page) scan(text []byte) {
	p.links, p.base = p.links[:0], nil
	s := scanner{text: text}
	for {
		i := bytes.IndexByte(s.text[s.at:], '<')
		if i < 0 || s.at+i+1 >= len(text) {
			return
		}
		start := s.at + i
		s.at = start + 1
		switch c := text[s.at]; {
		case isLetter(c):
			if !s.startTag(p, start) {
				return
			}
		case c == '/':
			s.at++
			s.endTag()
		case c == '!' || c == '?':
			s.declaration()
		}
		if s.odd {
			p.scanSlowly(text)
			return
		}
	}
}

// scanner is a position in a page, always within it or at its end.
type scanner struct {
	text []byte
	at   int
	odd  bool // only the reference knows what browsers make of this

	attrs []attribute // of the current tag, where it may hold links
}

// startTag reads a tag from its name on. False at the end of the page, where
// a tag that isn't closed counts for nothing.
func (s *scanner) startTag(p *page, start int) bool {
	name := s.tagName()
	e := elementOf(name)
	if e == plain && hasUpper(name) {
		name = bytes.ToLower(name)
		e = elementOf(name)
	}
	s.attrs = s.attrs[:0]
	if !s.attributes(e.links()) {
		return false
	}
	if len(s.attrs) > 0 {
		p.take(e, resolved(s.attrs, s.text[start:s.at]), start)
	}
	if e.raw() {
		s.skipRaw(name)
	}
	return true
}

func (s *scanner) tagName() []byte {
	rest := s.text[s.at:]
	for i, c := range rest {
		if endsName[c]&inTag != 0 {
			s.at += i
			return rest[:i]
		}
	}
	s.at = len(s.text)
	return rest
}

// attributes reads up to and with the closing bracket, or reports false at the end.
func (s *scanner) attributes(keep bool) bool {
	for {
		if s.skipSpace(); s.at >= len(s.text) {
			return false
		}
		if s.text[s.at] == '>' {
			s.at++
			return true
		}
		key := s.key()
		value, ok := s.value()
		if !ok {
			return false
		}
		if keep {
			s.attrs = addAttribute(s.attrs, key, value)
		}
	}
}

// key ends before a space, a bracket, a slash, or an equals sign that isn't its first byte.
func (s *scanner) key() []byte {
	rest := s.text[s.at:]
	for i, c := range rest {
		if endsName[c]&inKey != 0 && (i > 0 || c != '=') {
			s.at += i
			return rest[:i]
		}
	}
	s.at = len(s.text)
	return rest
}

// value is what follows a key; false at the end of the page.
func (s *scanner) value() ([]byte, bool) {
	s.skipSpace()
	if s.at >= len(s.text) {
		return nil, false
	}
	switch s.text[s.at] {
	case '/':
		s.at++
		return nil, true
	case '=':
		s.at++
	default:
		return nil, true
	}
	s.skipSpace()
	if s.at >= len(s.text) {
		return nil, false
	}
	quote := s.text[s.at]
	if quote == '"' || quote == '\'' {
		s.at++
		n := bytes.IndexByte(s.text[s.at:], quote)
		if n < 0 {
			return nil, false
		}
		v := s.text[s.at : s.at+n]
		s.at += n + 1
		return v, true
	}
	start := s.at
	for s.at < len(s.text) && !isSpace(s.text[s.at]) && s.text[s.at] != '>' {
		s.at++
	}
	return s.text[start:s.at], s.at < len(s.text)
}

func (s *scanner) skipSpace() {
	for s.at < len(s.text) && isSpace(s.text[s.at]) {
		s.at++
	}
}

// skipTo puts the position behind the next mark, or at the end.
func (s *scanner) skipTo(mark string) {
	if i := bytes.Index(s.text[s.at:], []byte(mark)); i >= 0 {
		s.at += i + len(mark)
		return
	}
	s.at = len(s.text)
}

// endTag reads from behind "</"; its attributes mean nothing, but may hold brackets.
func (s *scanner) endTag() {
	if s.at < len(s.text) && isLetter(s.text[s.at]) {
		s.tagName()
		if !s.attributes(false) {
			s.at = len(s.text)
		}
		return
	}
	s.skipTo(">")
}

// declaration reads from the mark of "<!" or "<?": a comment, a document type, or
// what counts as a comment.
func (s *scanner) declaration() {
	rest := s.text[s.at:]
	if !bytes.HasPrefix(rest, []byte("!--")) {
		s.skipTo(">")
		return
	}
	// "<!-->" and "<!--->" are whole comments, "--!>" ends one too.
	end := bytes.Index(rest, []byte("--"+">"))
	if end < 3 || bytes.Contains(rest[:end], []byte("--!>")) {
		s.odd = true
		return
	}
	s.at += end + 3
}

// skipRaw passes over what is text whatever it looks like, up to the end tag.
func (s *scanner) skipRaw(name []byte) {
	if string(name) == "plaintext" {
		s.at = len(s.text)
		return
	}
	start := s.at
	for {
		s.skipTo("</")
		rest := s.text[s.at:]
		if len(rest) <= len(name) {
			s.at = len(s.text)
			break
		}
		if c := rest[len(name)]; (isSpace(c) || c == '/' || c == '>') && bytes.EqualFold(rest[:len(name)], name) {
			s.at -= len("</")
			break
		}
	}
	if string(name) == "script" && bytes.Contains(s.text[start:s.at], []byte("<!--")) {
		s.odd = true // the end tag may be inside a string inside a comment
	}
}

// endsName says what a byte ends: a tag's name, an attribute's name.
var endsName = [256]uint8{' ': inTag | inKey, '\n': inTag | inKey, '\t': inTag | inKey, '\r': inTag | inKey, '\f': inTag | inKey,
	'/': inTag | inKey, '>': inTag | inKey, '=': inKey}

const (
	inTag = 1 << iota
	inKey
)

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }

func hasUpper(name []byte) bool {
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// scanSlowly is scan by the reference.
func (p *page) scanSlowly(text []byte) {
	p.links, p.base = p.links[:0], nil
	z := html.NewTokenizer(bytes.NewReader(text))
	at := 0
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return
		}
		start := at
		at += len(z.Raw())
		if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
			continue
		}
		name, more := z.TagName()
		if string(name) == "noscript" {
			z.NextIsNotRawText() // those without scripts follow its links
		}
		if e := elementOf(name); more && e.links() {
			p.take(e, attributesOf(z, nil), start)
		}
	}
}
