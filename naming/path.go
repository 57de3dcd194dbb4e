package naming

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
)

// contentPath is "/ipfs/<cid>" or "/ipns/<name>", perhaps with a path behind it.
type contentPath struct {
	text   string
	root   cid.Cid // of /ipfs/
	target Name    // of /ipns/
	bare   bool    // nothing behind CID or name
}

// parseContentPath reads a record's value. The specification also allows the bytes of a CID. What a browser or a
// file system could take for another path (dots, control characters) is refused rather than cleaned: a signed
// value means one thing.
func parseContentPath(value []byte) (contentPath, error) {
	if len(value) == 0 {
		return contentPath{}, fmt.Errorf("the value is empty")
	}
	if value[0] != '/' {
		c, err := cid.Cast(value)
		if err != nil || c.Type() == cid.Libp2pKey {
			return contentPath{}, fmt.Errorf("the value %.80q is no content path", value)
		}
		return contentPath{text: "/ipfs/" + c.String(), root: c, bare: true}, nil
	}
	text := strings.TrimSuffix(string(value), "/")
	namespace, head, rest, err := splitContentPath(text)
	if err != nil {
		return contentPath{}, err
	}
	p := contentPath{text: text, bare: rest == ""}
	switch namespace {
	case "ipfs":
		p.root, err = cid.Decode(head)
		if err == nil && p.root.Type() == cid.Libp2pKey {
			err = fmt.Errorf("it is a name, whose place is under /ipns/")
		}
	case "ipns":
		p.target, err = ParseName(head)
	default:
		err = fmt.Errorf("it is neither /ipfs/ nor /ipns/")
	}
	if err != nil {
		return contentPath{}, fmt.Errorf("the value %.80q is no content path: %w", text, err)
	}
	return p, nil
}

// splitContentPath cuts "/ipfs/head/rest", with the "/" before rest.
func splitContentPath(text string) (namespace, head, rest string, err error) {
	bad := func(why string) (string, string, string, error) {
		return "", "", "", fmt.Errorf("the path %.80q %s", text, why)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return bad("holds control characters or is not UTF-8")
	}
	if !strings.HasPrefix(text, "/") {
		return bad("doesn't begin with /")
	}
	segments := strings.Split(text[1:], "/")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return bad("has an empty or dot segment")
		}
	}
	if len(segments) < 2 {
		return bad("is too short")
	}
	for _, s := range segments[2:] {
		rest += "/" + s
	}
	return segments[0], segments[1], rest, nil
}
