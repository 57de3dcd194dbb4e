package node

import (
	"errors"

	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
)

// readRules reads a site's rules as our gateway does, and takes no mistake in them.
func readRules(files author.SiteFiles) (author.SiteRules, error) {
	redirects, err1 := gateway.ParseRedirects(files.Redirects)
	headers, err2 := gateway.ParseHeaders(files.Headers)
	options, err3 := gateway.ParseOptions(files.Options)
	if err := errors.Join(err1, err2, err3); err != nil {
		return author.SiteRules{}, err
	}
	rules := author.SiteRules{CleanURLs: options.CleanURLs != gateway.CleanOff}
	if len(redirects) > 0 {
		rules.Answers = redirects.Answer
	}
	rules.Idle = func(there func(path string) bool) (found []preflight.Finding) {
		for _, r := range gateway.IdleRules(files.Redirects, there) {
			found = append(found, preflight.Finding{Kind: preflight.IdleRule, Page: "_redirects", Line: r.Line, Link: r.From, Target: r.There})
		}
		return found
	}
	for _, h := range headers.Ignored {
		rules.Known = append(rules.Known, preflight.Finding{Kind: preflight.IgnoredField, Page: "_headers", Line: h.Line, Link: h.Name})
	}
	return rules, nil
}
