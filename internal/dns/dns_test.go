package dns_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
	"github.com/holdfast-sites/holdfast/naming"
)

const zone = `
example.org.           3600 IN SOA   ns.example.org. host.example.org. 1 2 3 4 90
example.org.            300 IN A     192.0.2.1
example.org.            200 IN A     192.0.2.2
example.org.            300 IN AAAA  2001:db8::1
example.org.            300 IN CAA   0 issue "ca.example; policy=ev"
_dnslink.example.org.   120 IN TXT   "dnslink=/ipns/" "k51" "/\195\188\"\\"
_dnslink.example.org.   100 IN TXT   "v=other"
_dnslink.www.example.org. 30 IN CNAME Alias.Example.org.
alias.example.org.      400 IN CNAME _dnslink.example.org.
circle.example.org.     300 IN CNAME elcric.example.org.
elcric.example.org.     300 IN CNAME circle.example.org.
long.example.org.  99999999 IN TXT   "long"
`

func parse(t *testing.T, spec string, o dns.Options) dns.Resolver {
	t.Helper()
	r, err := dns.Parse(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// everyWay is d, asked in all the ways there are.
func everyWay(t *testing.T, d *dnstest.Server) map[string]dns.Resolver {
	t.Helper()
	secure, transport := d.HTTPS()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("# ours\nsearch example.com\nnameserver "+d.Addr()+"\noptions ndots:5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]dns.Resolver{
		"udp":    parse(t, d.UDP(), dns.Options{}),
		"http":   parse(t, d.HTTP(), dns.Options{}),
		"https":  parse(t, secure, dns.Options{HTTP: transport}),
		"system": parse(t, "system", dns.Options{ResolvConf: conf}),
	}
}

func TestEveryWayOfAskingGivesTheSameAnswer(t *testing.T) {
	d := dnstest.New(t)
	d.Set(zone)
	texts := []string{"dnslink=/ipns/k51/ü\"\\", "v=other"}
	for way, r := range everyWay(t, d) {
		for _, tt := range []struct {
			name string
			t    dns.Type
			want dns.Answer
		}{
			{"_dnslink.Example.org.", dns.TXT, dns.Answer{Data: texts, TTL: 100 * time.Second}},
			{"_dnslink.www.example.org", dns.TXT, dns.Answer{Data: texts, TTL: 30 * time.Second, Aliases: []string{"alias.example.org", "_dnslink.example.org"}}},
			{"alias.example.org", dns.CNAME, dns.Answer{Data: []string{"_dnslink.example.org"}, TTL: 400 * time.Second}},
			{"example.org", dns.A, dns.Answer{Data: []string{"192.0.2.1", "192.0.2.2"}, TTL: 200 * time.Second}},
			{"example.org", dns.AAAA, dns.Answer{Data: []string{"2001:db8::1"}, TTL: 300 * time.Second}},
			{"example.org", dns.CAA, dns.Answer{Data: []string{`0 issue "ca.example; policy=ev"`}, TTL: 300 * time.Second}},
			{"example.org", dns.TXT, dns.Answer{TTL: 90 * time.Second}},
			{"absent.example.org", dns.TXT, dns.Answer{TTL: 90 * time.Second}},
			{"long.example.org", dns.TXT, dns.Answer{Data: []string{"long"}, TTL: dns.MaxTTL}},
		} {
			if got, err := r.Ask(t.Context(), tt.name, tt.t); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%s: %v of %s: %+v, %v, want %+v", way, tt.t, tt.name, got, err, tt.want)
			}
		}
		if _, err := r.Ask(t.Context(), "circle.example.org", dns.TXT); !errors.Is(err, naming.ErrLoop) || errors.Is(err, naming.ErrUnavailable) {
			t.Errorf("%s: aliases in a circle: %v", way, err)
		}
		for _, bad := range []string{"", "a..b", strings.Repeat("a", 64) + ".org", strings.Repeat("a.", 130)} {
			if _, err := r.Ask(t.Context(), bad, dns.TXT); !errors.Is(err, naming.ErrInvalidName) {
				t.Errorf("%s: %q: %v", way, bad, err)
			}
		}
	}
}

func TestNoSearchDomainIsTried(t *testing.T) {
	d := dnstest.New(t)
	for way, r := range everyWay(t, d) {
		if a, err := r.Ask(t.Context(), "_dnslink.example.org", dns.TXT); err != nil || len(a.Data) != 0 {
			t.Errorf("%s: %+v, %v", way, a, err)
		}
	}
	if d.Asked("_dnslink.example.org.example.com") > 0 {
		t.Error("a search domain was asked")
	}
}

func TestAnswersThatDoNotFitADatagramComeWhole(t *testing.T) {
	d := dnstest.New(t)
	d.Set(manyTexts(40))
	r := parse(t, d.UDP(), dns.Options{})
	d.Become(dnstest.Illness{Truncate: true})
	if a, err := r.Ask(t.Context(), "many.example.org", dns.TXT); err != nil || len(a.Data) != 40 {
		t.Errorf("%d records, %v", len(a.Data), err)
	}
}

func manyTexts(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`many.example.org. 60 IN TXT "` + strings.Repeat("x", 200+i) + "\"\n")
	}
	return b.String()
}

func TestWhatIsNoAnswerIsUnavailable(t *testing.T) {
	d := dnstest.New(t)
	d.Set(zone)
	for what, ill := range map[string]dnstest.Illness{
		"SERVFAIL": {Rcode: wire.RcodeServerFailure}, "REFUSED": {Rcode: wire.RcodeRefused}, "a referral": {Refer: true},
	} {
		d.Become(ill)
		for way, r := range everyWay(t, d) {
			if a, err := r.Ask(t.Context(), "_dnslink.example.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) {
				t.Errorf("%s by %s: %+v, %v", what, way, a, err)
			}
		}
	}
	d.Become(dnstest.Illness{Lie: true})
	if a, err := parse(t, d.HTTP(), dns.Options{}).Ask(t.Context(), "_dnslink.example.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("the answer to another question: %+v, %v", a, err)
	}
}

func TestAliasesAreFollowedThroughResolversThatDoNot(t *testing.T) {
	d := dnstest.New(t)
	d.Set(zone)
	d.Become(dnstest.Illness{OneStep: true})
	r := parse(t, d.UDP(), dns.Options{})
	a, err := r.Ask(t.Context(), "_dnslink.www.example.org", dns.TXT)
	if err != nil || len(a.Data) != 2 || a.TTL != 30*time.Second || len(a.Aliases) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := r.Ask(t.Context(), "circle.example.org", dns.TXT); !errors.Is(err, naming.ErrLoop) {
		t.Errorf("a circle, step by step: %v", err)
	}
}

func TestAbsenceThatNobodyVouchesForIsNotKept(t *testing.T) {
	d := dnstest.New(t)
	d.Become(dnstest.Illness{NoSOA: true})
	if a, err := parse(t, d.UDP(), dns.Options{}).Ask(t.Context(), "absent.org", dns.TXT); err != nil || a.TTL != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	d.Become(dnstest.Illness{})
	d.Set("org. 999999 IN SOA ns.org. host.org. 1 2 3 4 999999")
	if a, err := parse(t, d.UDP(), dns.Options{}).Ask(t.Context(), "absent.org", dns.TXT); err != nil || a.TTL != 5*time.Minute {
		t.Errorf("an absence for days: %+v, %v", a, err)
	}
}

func TestTheNextResolverIsAskedWhereOneGivesNoAnswer(t *testing.T) {
	ill, well := dnstest.New(t), dnstest.New(t)
	ill.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	well.Set(zone)
	both := dns.InOrder{parse(t, ill.UDP(), dns.Options{}), parse(t, well.UDP(), dns.Options{})}
	if a, err := both.Ask(t.Context(), "example.org", dns.A); err != nil || len(a.Data) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if ill.Asked("example.org") != 1 {
		t.Errorf("who said SERVFAIL was asked %d times", ill.Asked("example.org"))
	}
	ill.Become(dnstest.Illness{})
	if a, err := both.Ask(t.Context(), "example.org", dns.A); err != nil || len(a.Data) != 0 {
		t.Errorf("the first one's word that there is nothing counts: %+v, %v", a, err)
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	ill.Become(dnstest.Illness{Rcode: wire.RcodeRefused})
	if err := os.WriteFile(conf, []byte("nameserver "+ill.Addr()+"\nnameserver "+well.Addr()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := parse(t, "system", dns.Options{ResolvConf: conf}).Ask(t.Context(), "example.org", dns.A); err != nil || len(a.Data) != 2 {
		t.Errorf("the second of resolv.conf: %+v, %v", a, err)
	}
}

func TestAQuestionEndsWithItsContext(t *testing.T) {
	d := dnstest.New(t)
	d.Become(dnstest.Illness{Stall: true})
	for way, r := range everyWay(t, d) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan error, 1)
		go func() {
			_, err := r.Ask(ctx, way+".example.org", dns.TXT)
			asked <- err
		}()
		for d.Asked(way+".example.org") == 0 { // until it is under way
			if len(asked) > 0 {
				break
			}
		}
		cancel()
		if err := <-asked; !errors.Is(err, naming.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", way, err)
		}
	}
}

func TestResolversOverHTTPSAreHeldToTheProtocol(t *testing.T) {
	d := dnstest.New(t)
	d.Set(zone)
	elsewhere := d.HTTP()
	for what, h := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
		},
		"an error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTooManyRequests) },
		"a web page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in first</html>")) },
		"no end": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/dns-message")
			endless(w)
		},
		"junk": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/dns-message")
			_, _ = w.Write([]byte("junk"))
		},
		"a cut line": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"nothing at all": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/dns-message")
		},
	} {
		s := httptest.NewServer(h)
		if a, err := parse(t, s.URL+"/dns-query", dns.Options{}).Ask(t.Context(), "example.org", dns.A); !errors.Is(err, naming.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
		s.Close()
	}
	if d.Asked("example.org") > 0 {
		t.Error("a redirect was followed")
	}
}

func endless(w http.ResponseWriter) {
	for chunk := make([]byte, 32<<10); ; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestResolversAreNamedStrictly(t *testing.T) {
	for spec, want := range map[string]string{
		"system": "system", "udp://192.0.2.1": "udp://192.0.2.1:53", "192.0.2.1": "udp://192.0.2.1:53", "udp://[2001:db8::1]:5353": "udp://[2001:db8::1]:5353",
		"2001:db8::1": "udp://[2001:db8::1]:53", "https://dns.example/dns-query": "https://dns.example/dns-query", "http://127.0.0.1:8053/q": "http://127.0.0.1:8053/q",
		"http://localhost/q": "http://localhost/q", "http://[::1]:1/q": "http://[::1]:1/q",
	} {
		if r, err := dns.Parse(spec, dns.Options{}); err != nil || r.String() != want {
			t.Errorf("%q: %v, %v, want %q", spec, r, err, want)
		}
	}
	for _, spec := range []string{
		"", "System", "udp://dns.example", "udp://192.0.2.1:0", "udp://192.0.2.1:99999", "udp://192.0.2.1/x", "tls://192.0.2.1", "dns.example", "https://", "https:///dns-query",
		"https://user:secret@dns.example/", "https://dns.example/dns-query{?dns}", "http://dns.example/dns-query", "http://192.0.2.1/dns-query", "http://localhost.example/", "https://dns.example/#x",
	} {
		if r, err := dns.Parse(spec, dns.Options{}); !errors.Is(err, dns.ErrResolver) {
			t.Errorf("%q: %v, %v, want ErrResolver", spec, r, err)
		}
	}
}

func TestWithoutResolvConfTheOperatingSystemIsAsked(t *testing.T) {
	d := dnstest.New(t)
	d.Set(zone)
	r := dns.NewNative(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, d.Addr())
	}})
	for _, tt := range []struct {
		name string
		t    dns.Type
		want []string
	}{
		{"_dnslink.example.org", dns.TXT, []string{"dnslink=/ipns/k51/ü\"\\", "v=other"}},
		{"example.org", dns.A, []string{"192.0.2.1", "192.0.2.2"}},
		{"example.org", dns.AAAA, []string{"2001:db8::1"}},
		{"absent.example.org", dns.TXT, nil},
	} {
		a, err := r.Ask(t.Context(), tt.name, tt.t)
		if err != nil || !reflect.DeepEqual(a.Data, tt.want) || a.TTL != time.Minute {
			t.Errorf("%v of %s: %+v, %v", tt.t, tt.name, a, err)
		}
	}
	if _, err := r.Ask(t.Context(), "example.org", dns.CAA); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("CAA: %v", err)
	}
}

// FuzzAnswer: whatever message comes, reading it ends, within the bounds of an Answer.
func FuzzAnswer(f *testing.F) {
	p := wire.NewZoneParser(strings.NewReader(zone), "", "")
	whole := new(wire.Msg)
	whole.SetQuestion("_dnslink.www.example.org.", wire.TypeTXT)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		whole.Answer = append(whole.Answer, rr)
	}
	whole.Ns = whole.Answer[:1]
	b, err := whole.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, "_dnslink.www.example.org.", uint16(dns.TXT))
	f.Add(b, "circle.example.org.", uint16(dns.TXT))
	f.Add(b, "example.org.", uint16(dns.CAA))
	f.Add([]byte{}, ".", uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, name string, typ uint16) {
		m := new(wire.Msg)
		if m.Unpack(b) != nil {
			return
		}
		a, next, err := dns.Follow(m, wire.CanonicalName(name), dns.Type(typ))
		if err != nil {
			return
		}
		if a.TTL < 0 || a.TTL > dns.MaxTTL || len(a.Aliases) > 16 || next != "" && len(a.Data) > 0 {
			t.Errorf("%+v, then %q", a, next)
		}
		for _, d := range a.Data {
			if len(d) > 4*len(b)+64 {
				t.Errorf("a text of %d bytes from %d", len(d), len(b))
			}
		}
	})
}
