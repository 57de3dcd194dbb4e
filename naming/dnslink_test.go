package naming_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// zone is a DNS with TXT records by host, without final dots.
type zone map[string][]string

func (z zone) lookup(_ context.Context, host string) ([]string, time.Duration, error) {
	name, rooted := strings.CutSuffix(host, ".")
	if !rooted {
		return nil, 0, fmt.Errorf("%q would be looked for in search domains", host)
	}
	return z[name], time.Hour, nil
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
		if got, _, err := d.Resolve(t.Context(), domain); err != nil || got != want {
			t.Errorf("%s resolves to %q, %v, want %q", domain, got, err, want)
		}
	}
	for domain, want := range map[string]error{
		"absent.org": naming.ErrNotFound, "none.org": naming.ErrNotFound,
		"two.org": naming.ErrDNSLink, "dots.org": naming.ErrDNSLink, "crlf.org": naming.ErrDNSLink, "alias.org": naming.ErrDNSLink,
		"many.org": naming.ErrDNSLink, "long.org": naming.ErrDNSLink, "bad.org": naming.ErrDNSLink,
		"loop.org": naming.ErrLoop, "self.org": naming.ErrLoop, "hop0.org": naming.ErrLoop,
		"": naming.ErrInvalidName, "blog": naming.ErrInvalidName, "a..org": naming.ErrInvalidName, "a b.org": naming.ErrInvalidName, "-a.org": naming.ErrInvalidName,
		strings.Repeat("a", 64) + ".org": naming.ErrInvalidName, strings.Repeat("a.", 126) + "org": naming.ErrInvalidName, "a/b.org": naming.ErrInvalidName, "127.0.0.1": naming.ErrInvalidName, "127.0.0.1:80": naming.ErrInvalidName,
	} {
		if got, _, err := d.Resolve(t.Context(), domain); !errors.Is(err, want) || got != "" {
			t.Errorf("%q resolves to %q, %v, want %v", domain, got, err, want)
		}
	}
}

func TestDNSIsNotAskedUnlessItIsConfigured(t *testing.T) {
	var d naming.DNSLink
	if _, _, err := d.Resolve(t.Context(), "example.org"); !errors.Is(err, naming.ErrNotFound) {
		t.Errorf("without a lookup: %v, want ErrNotFound", err)
	}
}

func TestDNSThatDoesNotAnswerIsUnavailable(t *testing.T) {
	d := naming.DNSLink{Lookup: func(context.Context, string) ([]string, time.Duration, error) {
		return nil, 0, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}}
	if _, _, err := d.Resolve(t.Context(), "example.org"); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
}

func TestADNSLinkHoldsAsLongAsTheShortestOnTheWay(t *testing.T) {
	answers := map[string]struct {
		text string
		ttl  time.Duration
	}{
		"_dnslink.a.org.": {"dnslink=/ipns/b.org", 5 * time.Minute},
		"_dnslink.b.org.": {"dnslink=/ipns/c.org", 20 * time.Second},
		"_dnslink.c.org.": {"dnslink=/ipfs/bafkqaaa", time.Hour},
		"_dnslink.d.org.": {"dnslink=/ipfs/bafkqaaa", 0},
		"_dnslink.e.org.": {"dnslink=/ipns/static.org", time.Hour},
	}
	d := naming.DNSLink{
		Static: map[string]string{"static.org": "/ipfs/bafkqaaa"},
		Lookup: func(_ context.Context, host string) ([]string, time.Duration, error) {
			return []string{answers[host].text}, answers[host].ttl, nil
		},
	}
	for domain, want := range map[string]time.Duration{
		"a.org": 20 * time.Second, "b.org": 20 * time.Second, "c.org": time.Hour, "d.org": 0, "e.org": time.Minute, "static.org": time.Minute,
	} {
		if path, ttl, err := d.Resolve(t.Context(), domain); err != nil || path != "/ipfs/bafkqaaa" || ttl != want {
			t.Errorf("%s: %q for %v, %v, want %v", domain, path, ttl, err, want)
		}
	}
}

func TestAliasesInACircleAreALoopAndNotAnOutage(t *testing.T) {
	d := naming.DNSLink{Lookup: func(context.Context, string) ([]string, time.Duration, error) { return nil, 0, naming.ErrLoop }}
	if _, _, err := d.Resolve(t.Context(), "example.org"); !errors.Is(err, naming.ErrLoop) || errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("%v, want ErrLoop alone", err)
	}
}

// FuzzDNSLinkText: whatever TXT records hold, Resolve gives a content path that a URL can carry, or one of its errors.
func FuzzDNSLinkText(f *testing.F) {
	for _, s := range []string{
		"dnslink=/ipfs/bafkqaaa", "dnslink=/ipns/example.org/docs/", "dnslink=/ipns/EXAMPLE.org.", "dnslink=/ipfs/bafkqaaa/../x",
		"dnslink=/ipfs/bafkqaaa\r\nX: y", "dnslink=", "dnslink=/ipns/self.org", "dnslink=\x01\x55\x00\x00", "dnslink=/ipfs/bafkqaaa//x", "v=spf1",
		"dnslink=/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8/ü",
	} {
		f.Add(s, s)
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := naming.DNSLink{
			Static: map[string]string{"example.org": "/ipfs/bafkqaaa"},
			Lookup: func(context.Context, string) ([]string, time.Duration, error) {
				return []string{a, b}, time.Second, nil
			},
		}
		path, _, err := d.Resolve(t.Context(), "self.org")
		if err != nil {
			if !errors.Is(err, naming.ErrDNSLink) && !errors.Is(err, naming.ErrNotFound) && !errors.Is(err, naming.ErrLoop) {
				t.Errorf("%q, %q: %v", a, b, err)
			}
			return
		}
		if !strings.HasPrefix(path, "/ipfs/") && !strings.HasPrefix(path, "/ipns/") || strings.ContainsAny(path, "\r\n\x00") || strings.Contains(path+"/", "/../") {
			t.Errorf("%q, %q lead to %q", a, b, path)
		}
		if again, _, err := (&naming.DNSLink{Static: map[string]string{"self.org": path}}).Resolve(t.Context(), "self.org"); err != nil || again != path {
			t.Errorf("%q, %q lead to %q, which leads to %q, %v", a, b, path, again, err)
		}
	})
}

func TestADomainInOtherLettersIsAskedForAsDNSHasIt(t *testing.T) {
	_, err := naming.ParseDomain("münchen.example")
	if !errors.Is(err, naming.ErrInvalidName) || !strings.Contains(err.Error(), "xn--") {
		t.Error(err)
	}
}
