package gateway

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/maypok86/otter/v2"

	"github.com/holdfast-sites/holdfast/merkle"
)

// A site carries rules for how it is served in files at its top. They are read
// and parsed once for each root.

// maxSiteRules is what is spent, in bytes, on keeping parsed rules of each sort.
const maxSiteRules = 16 << 20

// siteRules keeps the parsed rules of the sites that were asked for last.
type siteRules struct {
	dress     *otter.Cache[siteKey, dress]
	redirects *otter.Cache[siteKey, ruling]
}

// siteKey names a site by its content: a root and, for a DNSLink with a path, where under it the site begins.
type siteKey struct {
	root cid.Cid
	base string
}

// dress is how a site wants its answers to look.
type dress struct {
	headers Headers
	options Options
	bytes   int64 // of the files
}

// ruling is what a _redirects file says, or why it says nothing.
type ruling struct {
	rules Redirects
	err   error
	bytes int64 // of the file
}

// expansion is how much larger than its file a parsed rule may be.
const expansion = 24

func newSiteRules() siteRules {
	return siteRules{
		dress:     newKept(maxSiteRules, func(_ siteKey, d dress) int64 { return expansion * d.bytes }),
		redirects: newKept(maxSiteRules, func(_ siteKey, r ruling) int64 { return expansion * r.bytes }),
	}
}

// dressOf reads the site's headers and options. A file with mistakes counts as far as
// it can be understood, since its pages are there all the same; one that can't be
// had is an error, since what it forbids isn't known.
func (c *content) dressOf(ctx context.Context, s siteKey) (dress, error) {
	if d, ok := c.rules.dress.GetIfPresent(s); ok || !s.root.Defined() {
		return d, nil
	}
	var d dress
	headers, err := c.siteFile(ctx, s, headersFile, maxHeadersFile)
	if err != nil {
		return d, err
	}
	options, err := c.siteFile(ctx, s, optionsFile, maxOptionsFile)
	if err != nil {
		return d, err
	}
	d.headers, _ = ParseHeaders(headers)
	d.options, _ = ParseOptions(options)
	d.bytes = int64(len(headers) + len(options))
	c.rules.dress.Set(s, d)
	return d, nil
}

// redirectsOf reads the site's redirects; none is no error. One that is malformed is remembered too.
func (c *content) redirectsOf(ctx context.Context, s siteKey) (Redirects, error) {
	if r, ok := c.rules.redirects.GetIfPresent(s); ok || !s.root.Defined() {
		return r.rules, r.err
	}
	text, err := c.siteFile(ctx, s, rulesFile, maxRulesFile)
	if err != nil && !errors.Is(err, merkle.ErrNoPath) {
		return nil, err
	}
	r := ruling{err: err, bytes: int64(len(text))}
	if err == nil {
		r.rules, r.err = ParseRedirects(text)
	}
	c.rules.redirects.Set(s, r)
	return r.rules, r.err
}

// siteFile reads a file at the site's top, and one byte more than most where it
// is larger; nothing where there is none. ErrNoPath says that something else is
// there, which is a mistake in rules and none in headers: a folder may have any name.
func (c *content) siteFile(ctx context.Context, s siteKey, name string, most int64) ([]byte, error) {
	id, err := c.lookUp(ctx, s.root, strings.TrimPrefix(s.base+"/"+name, "/"))
	if errors.Is(err, merkle.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := merkle.OpenFile(ctx, c.blocks, id)
	if errors.Is(err, merkle.ErrNoPath) && name != rulesFile {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most+1))
}
