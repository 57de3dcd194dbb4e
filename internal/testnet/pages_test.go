package testnet

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func TestAPageAboutASiteSaysWhatItsNodeKnowsItself(t *testing.T) {
	t.Parallel()
	n := New(t)
	n.Config = func(c *node.Config) { c.Gateway.Listen = "127.0.0.1:0" }
	alice := n.Host("alice")
	anna := n.Author("anna", alice)
	gate := n.Gateway("gate", alice)
	p := publish(anna, makeSite(n, "told", fileBytes), 1)

	for _, c := range []struct {
		at         *Peer
		page       string
		says, hush []string
	}{
		{anna, "/-/site/blog", []string{"1 of 1 wanted copies proved", "Safe until", "alice", "second"}, nil},
		{anna, "/", []string{"blog.localhost", "1 of 1 copy proved", "/-/site/" + p.Name}, nil},
		{alice, "/-/site/" + p.Name, []string{"1 of 1 wanted copies proved", "(this node)", "kept here", "only the author"}, []string{"Safe until"}},
		{alice, "/", []string{"/-/site/" + p.Name, "published"}, []string{"blog"}},
		{gate, "/-/site/" + p.Name, []string{"The site asks for 1 copy", "none seen here", p.Root, "--peer /ip4/127.0.0.1/"}, []string{"proved.</strong>"}},
		{gate, "/", []string{"No site has been published here"}, []string{p.Name}},
	} {
		at := c.at.Info().Gateway
		status, body, _ := page(t, at, strings.TrimPrefix(at, "http://"), c.page)
		if status != http.StatusOK {
			t.Errorf("%s: %s is %d", c.at.Name, c.page, status)
		}
		for _, s := range c.says {
			if !strings.Contains(body, s) {
				t.Errorf("%s: %s does not say %q: %s", c.at.Name, c.page, s, body)
			}
		}
		for _, s := range c.hush {
			if strings.Contains(body[strings.Index(body, "<main"):], s) {
				t.Errorf("%s: %s says %q", c.at.Name, c.page, s)
			}
		}
	}
}
