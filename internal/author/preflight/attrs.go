package preflight

import (
	"bytes"
	"slices"

	"golang.org/x/net/html"
)

// element says what preflight wants to know of an element.
type element uint8

const (
	plain    element = iota
	rawText          // what it holds is text, whatever it looks like
	anchor           // its links are followed when the reader says so
	linking          // what its links lead to is loaded with the page
	rawLinks         // both linking and rawText
	base
	meta
	form
	object
)

func (e element) raw() bool   { return e == rawText || e == rawLinks }
func (e element) links() bool { return e >= anchor }

// elementOf knows the elements that matter, by lower-case name.
func elementOf(name []byte) element {
	switch string(name) {
	case "a", "area", "button":
		return anchor
	case "audio", "embed", "frame", "image", "img", "input", "link", "source", "track", "use", "video":
		return linking
	case "iframe", "script":
		return rawLinks
	case "noembed", "noframes", "plaintext", "style", "textarea", "title", "xmp":
		return rawText
	case "base":
		return base
	case "meta":
		return meta
	case "form":
		return form
	case "object":
		return object
	}
	return plain
}

// role is what an attribute can mean.
type role uint8

const (
	none role = iota
	href
	src
	srcset
	imagesrcset
	poster
	formaction
	xlink
	action  // of forms
	data    // of objects
	equiv   // of meta
	content // of meta
)

func roleOf(key []byte) role {
	switch string(key) {
	case "href":
		return href
	case "src":
		return src
	case "srcset":
		return srcset
	case "imagesrcset":
		return imagesrcset
	case "poster":
		return poster
	case "formaction":
		return formaction
	case "xlink:href":
		return xlink
	case "action":
		return action
	case "data":
		return data
	case "http-equiv":
		return equiv
	case "content":
		return content
	}
	if hasUpper(key) {
		return roleOf(bytes.ToLower(key))
	}
	return none
}

// attribute is one that can matter.
type attribute struct {
	role  role
	value []byte
}

// addAttribute adds one, unless the tag has had it: the first counts.
func addAttribute(attrs []attribute, key, value []byte) []attribute {
	r := roleOf(key)
	if r == none || slices.ContainsFunc(attrs, func(a attribute) bool { return a.role == r }) {
		return attrs
	}
	return append(attrs, attribute{r, value})
}

// take notes the links of a tag.
func (p *page) take(e element, attrs []attribute, pos int) {
	if e == meta {
		p.takeMeta(attrs, pos)
		return
	}
	for _, a := range attrs {
		switch a.role {
		case href:
			if e != base {
				p.add(a.value, pos, e != anchor && e != form)
			} else if p.base == nil {
				p.base = append([]byte{}, a.value...)
			}
		case srcset, imagesrcset:
			p.takeSet(a.value, pos)
		case src, poster, formaction, xlink:
			p.add(a.value, pos, e != anchor && e != form)
		case action:
			if e == form {
				p.add(a.value, pos, e != anchor && e != form)
			}
		case data:
			if e == object {
				p.add(a.value, pos, e != anchor && e != form)
			}
		}
	}
}

func (p *page) add(ref []byte, pos int, loads bool) {
	if len(p.links) < maxLinks {
		p.links = append(p.links, link{ref, pos, loads})
	}
}

// takeSet takes the candidates of a srcset: "URL descriptor, URL descriptor". A
// URL may hold commas, but not begin or end with one.
func (p *page) takeSet(set []byte, pos int) {
	for {
		set = bytes.TrimLeft(set, " \t\n\r\f,")
		if len(set) == 0 {
			return
		}
		end := bytes.IndexAny(set, " \t\n\r\f")
		if end < 0 {
			end = len(set)
		}
		ref := bytes.TrimRight(set[:end], ",")
		p.add(ref, pos, true)
		set = set[end:]
		if len(ref) == end { // a descriptor follows, up to a comma outside of parentheses
			if i := bytes.IndexByte(set, ','); i >= 0 {
				set = set[i:]
			} else {
				return
			}
		}
	}
}

// takeMeta takes the URL of a refresh: "5; url='x'".
func (p *page) takeMeta(attrs []attribute, pos int) {
	var does, what []byte
	for _, a := range attrs {
		switch a.role {
		case equiv:
			does = a.value
		case content:
			what = a.value
		}
	}
	_, rest, ok := bytes.Cut(what, []byte(";"))
	if !ok || !bytes.EqualFold(does, []byte("refresh")) {
		return
	}
	rest = trimLeft(rest)
	if len(rest) > 3 && bytes.EqualFold(rest[:3], []byte("url")) {
		if r := trimLeft(rest[3:]); len(r) > 0 && r[0] == '=' {
			rest = trimLeft(r[1:])
		}
	}
	if len(rest) > 0 && (rest[0] == '"' || rest[0] == '\'') {
		q := rest[0]
		rest = rest[1:]
		if i := bytes.IndexByte(rest, q); i >= 0 {
			rest = rest[:i]
		}
	}
	if len(rest) > 0 {
		p.add(rest, pos, false)
	}
}

func trimLeft(b []byte) []byte { return bytes.TrimLeft(b, " \t\n\r\f") }

// resolved replaces the character references and line ends in a tag's values
// by what they mean. The simple case, "&amp;", is done here; the rest by
// reading the tag once more with the reference.
func resolved(attrs []attribute, tag []byte) []attribute {
	hard := false
	for i, a := range attrs {
		if bytes.IndexByte(a.value, '\r') >= 0 || bytes.IndexByte(a.value, 0) >= 0 {
			hard = true
			break
		}
		n := bytes.Count(a.value, []byte("&"))
		if n == 0 {
			continue
		}
		if n != bytes.Count(a.value, []byte("&amp;")) {
			hard = true
			break
		}
		attrs[i].value = bytes.ReplaceAll(a.value, []byte("&amp;"), []byte("&"))
	}
	if !hard {
		return attrs
	}
	z := html.NewTokenizer(bytes.NewReader(tag))
	z.Next()
	z.TagName()
	return attributesOf(z, attrs[:0])
}

// attributesOf copies the attributes of the reference's current tag.
func attributesOf(z *html.Tokenizer, attrs []attribute) []attribute {
	for {
		key, value, more := z.TagAttr()
		attrs = addAttribute(attrs, key, bytes.Clone(value))
		if !more {
			return attrs
		}
	}
}
