package naming_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// zone is a DNS with TXT records by host, without final dots.
type zone map[string][]string

func (z zone) lookup(_ context.Context, host string) ([]string, error) {
	texts, ok := z[strings.TrimSuffix(host, ".")]
	if !ok || !strings.HasSuffix(host, ".") {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return texts, nil
}

func TestDNSLinks(t *testing.T) {
	name := namingtest.Signer(t, "a").Name().String()
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprint("v=spf", i)
	}
	z := zone{
		"_dnslink.content.org":  {"v=spf1", "dnslink=/ipfs/bafkqaaa"},
		"_dnslink.site.org":     {"dnslink=/ipns/" + name},
		"_dnslink.path.org":     {"dnslink=/ipns/" + name + "/docs/"},
		"_dnslink.www.site.org": {"dnslink=/ipns/Site.org/www"},
		"_dnslink.twice.org":    {"dnslink=/ipfs/bafkqaaa", "dnslink=/ipfs/bafkqaaa"},
		"_dnslink.other.org":    {"dnslink=/swarm/x", "dnslink=/ipfs/bafkqaaa"},
		"_dnslink.xn--hhe.org":  {"dnslink=/ipfs/bafkqaaa"},

		"_dnslink.two.org":   {"dnslink=/ipfs/bafkqaaa", "dnslink=/ipns/" + name},
		"_dnslink.loop.org":  {"dnslink=/ipns/pool.org"},
		"_dnslink.pool.org":  {"dnslink=/ipns/loop.org"},
		"_dnslink.self.org":  {"dnslink=/ipns/self.org"},
		"_dnslink.none.org":  {"v=spf1", "dnslink=", "DNSLINK=/ipfs/bafkqaaa"},
		"_dnslink.dots.org":  {"dnslink=/ipfs/bafkqaaa/../x"},
		"_dnslink.crlf.org":  {"dnslink=/ipfs/bafkqaaa\r\nX: y"},
		"_dnslink.alias.org": {"dnslink=/ipns/blog"},
		"_dnslink.many.org":  many,
		"_dnslink.long.org":  {"dnslink=/ipfs/bafkqaaa/" + strings.Repeat("x", 5000)},
	}
	for i := range 40 {
		z[fmt.Sprintf("_dnslink.hop%d.org", i)] = []string{fmt.Sprintf("dnslink=/ipns/hop%d.org", i+1)}
	}
	d := naming.DNSLink{Lookup: z.lookup, Static: map[string]string{"static.org": "/ipns/" + name, "both.org": "/ipns/content.org", "bad.org": "blog"}}
	for domain, want := range map[string]string{
		"content.org": "/ipfs/bafkqaaa", "site.org": "/ipns/" + name, "path.org": "/ipns/" + name + "/docs", "www.site.org": "/ipns/" + name + "/www",
		"twice.org": "/ipfs/bafkqaaa", "other.org": "/ipfs/bafkqaaa", "Content.ORG.": "/ipfs/bafkqaaa", "xn--hhe.org": "/ipfs/bafkqaaa",
		"static.org": "/ipns/" + name, "both.org": "/ipfs/bafkqaaa",
	} {
		if got, err := d.Resolve(t.Context(), domain); err != nil || got != want {
			t.Errorf("%s resolves to %q, %v, want %q", domain, got, err, want)
		}
	}
	for domain, want := range map[string]error{
		"absent.org": naming.ErrNotFound, "none.org": naming.ErrNotFound,
		"two.org": naming.ErrInvalidName, "dots.org": naming.ErrInvalidName, "crlf.org": naming.ErrInvalidName, "alias.org": naming.ErrInvalidName,
		"many.org": naming.ErrInvalidName, "long.org": naming.ErrInvalidName, "bad.org": naming.ErrInvalidName,
		"loop.org": naming.ErrLoop, "self.org": naming.ErrLoop, "hop0.org": naming.ErrLoop,
		"": naming.ErrInvalidName, "blog": naming.ErrInvalidName, "a..org": naming.ErrInvalidName, "a b.org": naming.ErrInvalidName, "-a.org": naming.ErrInvalidName,
		strings.Repeat("a", 64) + ".org": naming.ErrInvalidName, strings.Repeat("a.", 126) + "org": naming.ErrInvalidName, "a/b.org": naming.ErrInvalidName, "127.0.0.1:80": naming.ErrInvalidName,
	} {
		if got, err := d.Resolve(t.Context(), domain); !errors.Is(err, want) || got != "" {
			t.Errorf("%q resolves to %q, %v, want %v", domain, got, err, want)
		}
	}
}

func TestDNSIsNotAskedUnlessItIsConfigured(t *testing.T) {
	var d naming.DNSLink
	if _, err := d.Resolve(t.Context(), "example.org"); !errors.Is(err, naming.ErrNotFound) {
		t.Errorf("without a lookup: %v, want ErrNotFound", err)
	}
}

func TestDNSThatDoesNotAnswerIsUnavailable(t *testing.T) {
	d := naming.DNSLink{Lookup: func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}}
	if _, err := d.Resolve(t.Context(), "example.org"); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}
