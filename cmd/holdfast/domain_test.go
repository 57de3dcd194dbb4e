package main

import (
	"fmt"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
)

// checked runs `domain check` with --json, wants the exit code, and gives the report, which a failure carries, too.
func (u *user) checked(code int, args ...string) map[string]any {
	u.t.Helper()
	o := u.run(append([]string{"domain", "check", "--json"}, args...)...)
	v := oneObject(u.t, o.out)
	if failure, ok := v["error"].(map[string]any); ok {
		v, _ = failure["domain"].(map[string]any)
	}
	if o.code != code || v == nil {
		u.t.Errorf("domain check %q: exit code %d, want %d: %s%s", args, o.code, code, o.out, o.err)
	}
	return v
}

func TestDomainCheckTellsAProgramHowTheDomainStands(t *testing.T) {
	u := newUser(t)
	name := u.json("key", "new", "blog")["name"].(string)
	d := dnstest.New(t)
	link := func(at, text string) string { return fmt.Sprintf("_dnslink.%s. 300 IN TXT \"dnslink=%s\"\n", at, text) }
	const web = "example.org. 60 IN CNAME gw.example.\ngw.example. 60 IN A 192.0.2.7\ngw.example. 60 IN AAAA 2001:db8::7\n"
	for _, tt := range []struct {
		what, verdict string
		code          int
		zone          string
		args          []string
	}{
		{"the site", "ok", 0, link("example.org", "/ipns/"+name), nil},
		{"any site", "ok", 0, link("example.org", "/ipfs/bafkqaaa"), []string{"--site", ""}},
		{"the site through another domain", "ok", 0, link("example.org", "/ipns/other.example") + link("other.example", "/ipns/"+name), nil},
		{"the site through an alias", "ok", 0, "_dnslink.example.org. 60 IN CNAME x.example.\n" + strings.Replace(link("example.org", "/ipns/"+name), "_dnslink.example.org", "x.example", 1), nil},
		{"in several strings, twice", "ok", 0, strings.Replace(link("example.org", "/ipns/"+name), "/ipns/", `/ip" "ns/`, 1) + link("example.org", "/ipns/"+name), nil},
		{"the site, at the gateway", "ok", 0, link("example.org", "/ipns/"+name) + web, []string{"--gateway", "https://gw.example:443"}},
		{"the site, at the gateway's address", "ok", 0, link("example.org", "/ipns/"+name) + "example.org. 1 IN A 192.0.2.7\n" + web[strings.Index(web, "\n")+1:], []string{"--gateway", "gw.example"}},
		{"the site, at an address", "ok", 0, link("example.org", "/ipns/"+name) + web, []string{"--gateway", "192.0.2.7"}},

		{"nothing", "missing", 3, "", nil},
		{"something else", "missing", 3, "_dnslink.example.org. 1 IN TXT \"v=spf1\"\n", nil},
		{"the site, no address", "missing", 3, link("example.org", "/ipns/"+name), []string{"--gateway", "gw.example"}},

		{"another site", "elsewhere", 4, link("example.org", "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"), nil},
		{"one release", "elsewhere", 4, link("example.org", "/ipfs/bafkqaaa"), nil},
		{"the site, elsewhere", "elsewhere", 4, link("example.org", "/ipns/"+name) + web, []string{"--gateway", "192.0.2.8"}},

		{"two links", "malformed", 6, link("example.org", "/ipfs/bafkqaaa") + link("example.org", "/ipns/"+name), nil},
		{"no content path", "malformed", 6, link("example.org", "/ipns/blog"), nil},
		{"a circle of domains", "malformed", 6, link("example.org", "/ipns/b.example") + link("b.example", "/ipns/example.org"), nil},
		{"a circle of aliases", "malformed", 6, "_dnslink.example.org. 1 IN CNAME a.example.\na.example. 1 IN CNAME _dnslink.example.org.\n", nil},
	} {
		d.Set(tt.zone)
		v := u.checked(tt.code, append([]string{"Example.org", "--site", "blog", "--resolver", d.UDP()}, tt.args...)...)
		if v["verdict"] != tt.verdict || v["message"] == "" {
			t.Errorf("%s: %v", tt.what, v)
		}
	}
	d.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	if v := u.checked(5, "example.org", "--resolver", d.UDP()); v["verdict"] != "unavailable" {
		t.Errorf("%v", v)
	}
}

func TestDomainCheckTellsWhoSeesIt(t *testing.T) {
	u := newUser(t)
	name := u.json("key", "new", "blog")["name"].(string)
	one, two := dnstest.New(t), dnstest.New(t)
	one.Set("_dnslink.example.org. 300 IN TXT \"dnslink=/ipns/" + name + "\"")
	both := []string{"example.org", "--site", name, "--resolver", one.UDP(), "--resolver", two.HTTP()}
	v := u.checked(3, both...)
	if v["agree"] != false || !strings.Contains(v["message"].(string), "1 of 2") || len(v["resolvers"].([]any)) != 2 {
		t.Errorf("%v", v)
	}
	two.Become(dnstest.Illness{Rcode: wire.RcodeRefused})
	if v := u.checked(5, both...); v["agree"] != false {
		t.Errorf("%v", v)
	}
	two.Become(dnstest.Illness{})
	two.Set("_dnslink.example.org. 5 IN TXT \"dnslink=/ipns/" + name + "\"")
	if v := u.checked(0, both...); v["agree"] != true {
		t.Errorf("%v", v)
	}
}

func TestDomainCheckGivesTheRecordsToPaste(t *testing.T) {
	u := newUser(t)
	name := u.json("key", "new", "blog")["name"].(string)
	d := dnstest.New(t)
	d.Set("example.org. 60 IN SOA ns.example. host.example. 1 2 3 4 60\nexample.org. 60 IN CAA 0 issue \"ca.example; x=y\"\n" +
		"gw.example. 60 IN A 192.0.2.7\ngw.example. 60 IN AAAA 2001:db8::7\n")
	ask := func(domain string, more ...string) map[string]any {
		return u.checked(3, append([]string{domain, "--site", "blog", "--resolver", d.UDP(), "--gateway", "gw.example"}, more...)...)
	}
	v := ask("www.example.org")
	hasExactly(t, "domain check", v, "domain", "verdict", "message", "site", "resolvers", "agree", "records", "tls", "notes", "caa", "caa_from", "gateways", "apex")
	hasExactly(t, "a resolver", v["resolvers"].([]any)[0], "resolver", "verdict", "ttl_seconds", "texts", "via", "aliases", "addresses", "error")
	hasExactly(t, "a record", v["records"].([]any)[0], "name", "type", "value", "ttl", "line", "choice")
	if got, want := lines(v), `_dnslink.www.example.org. 300 IN TXT "dnslink=/ipns/`+name+`"|www.example.org. 300 IN CNAME gw.example.`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if v["caa_from"] != "example.org" || !strings.Contains(fmt.Sprint(v["tls"]), "only these authorities may issue: ca.example") {
		t.Errorf("%v", v)
	}
	v = ask("example.org")
	if got, want := lines(v), `_dnslink.example.org. 300 IN TXT "dnslink=/ipns/`+name+`"|example.org. 300 IN ALIAS gw.example.|example.org. 300 IN A 192.0.2.7|example.org. 300 IN AAAA 2001:db8::7`; got != want {
		t.Errorf("at the top of the zone: %s\nwant %s", got, want)
	}
	o := u.run("domain", "check", "www.example.org", "--site", "blog", "--resolver", d.UDP(), "--gateway", "gw.example")
	for _, want := range []string{
		`_dnslink.www.example.org. 300 IN TXT "dnslink=/ipns/` + name + `"`, "www.example.org. 300 IN CNAME gw.example.",
		"name www.example.org  type CNAME  value gw.example", "HTTP-01 needs port 80",
	} {
		if !strings.Contains(o.out, want) {
			t.Errorf("%q is missing from\n%s", want, o.out)
		}
	}
}

func lines(v map[string]any) string {
	var out []string
	for _, r := range v["records"].([]any) {
		out = append(out, r.(map[string]any)["line"].(string))
	}
	return strings.Join(out, "|")
}

func TestDomainCheckAsksNobodyUnlessToldWhom(t *testing.T) {
	u := newUser(t)
	u.fails(2, "--resolver system", "domain", "check", "example.org")
	u.fails(2, "no domain", "domain", "check", "blog", "--resolver", "udp://127.0.0.1:1")
	u.fails(2, "neither system", "domain", "check", "example.org", "--resolver", "dns.example")
	u.fails(2, "loopback", "domain", "check", "example.org", "--resolver", "http://192.0.2.1/")
	u.fails(2, "--gateway", "domain", "check", "example.org", "--resolver", "udp://127.0.0.1:1", "--gateway", "not a host")
	u.fails(3, "neither a site", "domain", "check", "example.org", "--site", "nope", "--resolver", "udp://127.0.0.1:1")
	d := dnstest.New(t)
	d.Set("_dnslink.example.org. 300 IN TXT \"dnslink=/ipfs/bafkqaaa\"")
	u.file("home/config.toml", "[dns]\nresolvers = [\""+d.UDP()+"\"]\n")
	if v := u.checked(0, "example.org"); v["verdict"] != "ok" {
		t.Errorf("with the configured resolver: %v", v)
	}
	u.file("home/config.toml", "network = \"offline\"\n[dns]\nresolvers = [\""+d.UDP()+"\"]\n")
	before := d.Asked("_dnslink.example.org")
	u.fails(2, "--resolver", "domain", "check", "example.org")
	if d.Asked("_dnslink.example.org") != before {
		t.Error("DNS was asked offline")
	}
	u.file("home/config.toml", "[dns]\nresolvers = [\"dns.example\"]\n")
	u.fails(2, "dns.resolvers", "sites")
}

func TestWhatDNSSaysCanNotSteerATerminal(t *testing.T) {
	u := newUser(t)
	d := dnstest.New(t)
	d.Set("_dnslink.example.org. 300 IN TXT \"dnslink=/ipfs/bafkqaaa\"\n_dnslink.example.org. 300 IN TXT \"\\027[2J\\010fake\"")
	if o := u.must("domain", "check", "example.org", "--resolver", d.UDP()); strings.Contains(o.out, "\x1b") || strings.Contains(o.out, "\nfake") {
		t.Errorf("%q", o.out)
	}
}

func TestADomainIsAnAddressWhereDNSIsConfigured(t *testing.T) {
	u := newUser(t)
	d := dnstest.New(t)
	u.file("home/config.toml", "network = \"private\"\n[dns]\nresolvers = [\""+d.UDP()+"\"]\n")
	p := u.json("publish", u.site("blog"), "--copies", "0")
	d.Set("_dnslink.example.org. 7 IN TXT \"dnslink=/ipns/" + p["name"].(string) + "\"\n_dnslink.sub.example.org. 7 IN TXT \"dnslink=/ipns/example.org/sub\"\n" +
		"_dnslink.fixed.org. 9 IN TXT \"dnslink=/ipfs/" + p["root"].(string) + "\"\n_dnslink.two.org. 9 IN TXT \"dnslink=/ipfs/bafkqaaa\"\n_dnslink.two.org. 9 IN TXT \"dnslink=/ipfs/bafkqaab\"")
	if o := u.must("cat", "example.org/sub/page.html"); o.out != "a page" {
		t.Errorf("%q", o.out)
	}
	if o := u.must("cat", "ipns://sub.example.org/page.html"); o.out != "a page" {
		t.Errorf("%q", o.out)
	}
	u.must("get", "fixed.org", "-o", u.path("got"))
	if string(mustRead(t, u.path("got/sub/page.html"))) != "a page" {
		t.Error("another page")
	}
	v := u.json("name", "resolve", "Example.org")
	if v["domain"] != "example.org" || v["dnslink"] != "/ipns/"+p["name"].(string) || v["root"] != p["root"] || v["ttl_seconds"].(float64) > 7 {
		t.Errorf("%v", v)
	}
	if v := u.json("name", "resolve", "fixed.org"); v["root"] != p["root"] || v["name"] != "" || v["ttl_seconds"].(float64) > 9 {
		t.Errorf("%v", v)
	}
	u.fails(3, "no TXT record", "name", "resolve", "absent.org")
	u.fails(6, "different links", "name", "resolve", "two.org")
	d.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	u.fails(5, "SERVFAIL", "name", "resolve", "example.org")
}
