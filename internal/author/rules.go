package author

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/merkle"
)

// maxRules is the size, in bytes, up to which gateways read a file with a site's rules
// (https://specs.ipfs.tech/http-gateways/web-redirects-file/).
const maxRules = 64 << 10

// SiteFiles are the texts of the files at a site's top that say how it is to be
// served; nil where there is none.
type SiteFiles struct{ Redirects, Headers, Options []byte }

// SiteRules are what these say, as far as a preflight needs it. The zero value is of a site without rules.
type SiteRules struct {
	// Answers says what the rules do about a path that isn't there: where answered, the
	// path of the site that is sent instead, or nothing for a redirect. nil: nothing.
	Answers func(path string) (instead string, answered bool)
	// CleanURLs says that pages are found without their extension.
	CleanURLs bool
	// Known is what is well-formed in them and has no effect.
	Known []preflight.Finding
	// Idle adds to it, given what the site answers for without its rules (a path
	// begins with a slash); nil: nothing.
	Idle func(there func(path string) bool) []preflight.Finding
}

// Check looks at everything under a root of the store, as a publish does before
// it signs. Errors: that the site's rules can't be used, and those of reading it.
func (a *Author) Check(ctx context.Context, root cid.Cid, report func(Event)) (preflight.Report, error) {
	return a.check(ctx, root, "", false, report)
}

// rules reads the site's rules, which must be as gateways want them.
func (a *Author) rules(ctx context.Context, root cid.Cid) (SiteRules, error) {
	var files SiteFiles
	for _, f := range []struct {
		name string
		text *[]byte
	}{{"_redirects", &files.Redirects}, {"_headers", &files.Headers}, {"_options", &files.Options}} {
		text, err := a.ruleFile(ctx, root, f.name)
		if err != nil {
			return SiteRules{}, err
		}
		*f.text = text
	}
	rules, err := a.Rules(files)
	if err != nil {
		return SiteRules{}, fmt.Errorf("the site's rules can't be used: %w", err)
	}
	if rules.Idle != nil {
		paths := merkle.NewPaths(a.Store, maxFolders)
		rules.Known = append(rules.Known, rules.Idle(func(path string) bool { return isThere(ctx, paths, root, path, rules.CleanURLs) })...)
	}
	for _, name := range elsewhere {
		_, err := merkle.Resolve(ctx, a.Store, root, name)
		switch {
		case err == nil:
			rules.Known = append(rules.Known, preflight.Finding{Kind: preflight.IgnoredFile, Page: name})
		case !errors.Is(err, merkle.ErrNoPath):
			return SiteRules{}, err
		}
	}
	return rules, nil
}

// maxFolders is how much of decoded folders is kept while rules are compared with them, in bytes.
const maxFolders = 8 << 20

// isThere tells whether there is a file or a page at a path of the site, which
// gateways show before they look at rules.
func isThere(ctx context.Context, paths *merkle.Paths, root cid.Cid, path string, clean bool) bool {
	isFile := func(path string) bool {
		at, err := paths.Walk(ctx, root, path)
		if err == nil {
			at, err = paths.Open(ctx, at)
		}
		return err == nil && at.IsFile()
	}
	return isFile(path) || isFile(path+"/index.html") || clean && path != "/" && isFile(path+".html")
}

// elsewhere are the files at a site's top in which it tells other hosts how it is to be served.
var elsewhere = []string{".htaccess", "_worker.js", "netlify.toml", "staticwebapp.config.json", "vercel.json"}

// ruleFile reads one of the files; nil where there is none, or the root is one file.
func (a *Author) ruleFile(ctx context.Context, root cid.Cid, name string) ([]byte, error) {
	c, err := merkle.Resolve(ctx, a.Store, root, name)
	if errors.Is(err, merkle.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := merkle.OpenFile(ctx, a.Store, c)
	if err != nil {
		return nil, &merkle.PathError{Path: name, CID: c, Err: errors.New("must be a file")}
	}
	defer f.Close()
	text, err := readUpTo(f, maxRules+1)
	if err != nil {
		return nil, err
	}
	if len(text) > maxRules {
		return nil, &merkle.PathError{Path: name, CID: c, Err: fmt.Errorf("is larger than %d bytes, which no gateway reads", maxRules)}
	}
	return text, nil
}
