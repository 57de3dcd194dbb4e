package node

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/replicate"
)

// wants looks for one diagnosis, and that what is broken says what to do.
func wants(t *testing.T, what string, found []Diagnosis, check string, isBroken bool, says, advice string) {
	t.Helper()
	for _, d := range found {
		if d.Broken && (d.Advice == "" || d.Fine) || d.Fine && d.Advice != "" {
			t.Errorf("%s: %+v", what, d)
		}
	}
	for _, d := range found {
		if d.Check == check && d.Broken == isBroken && strings.Contains(d.About+": "+d.Message, says) && strings.Contains(d.Advice, advice) {
			return
		}
	}
	t.Errorf("%s: no %s that says %q and advises %q in %+v", what, check, says, advice, found)
}

func TestTheDoctorFindsWhatIsBrokenOnThisMachine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	home := filepath.Join(t.TempDir(), "not", "there", "yet")
	cfg := Config{Home: home, Gateway: GatewayConfig{Listen: taken.Addr().String()}, Pins: PinsConfig{Listen: "192.0.2.1:80"}}
	found := ExamineMachine(cfg, false)
	wants(t, "a port that is taken", found, "address", true, "gateway.listen: "+taken.Addr().String()+" is taken by another program", `gateway.listen = "127.0.0.1:0"`)
	wants(t, "an address of another machine", found, "address", true, "no address of this machine", "pins.listen")
	for _, d := range ExamineMachine(cfg, true) {
		if d.Check == "address" {
			t.Errorf("a node that runs has its addresses: %+v", d)
		}
	}

	for name, c := range map[string]struct {
		until        time.Duration
		broken       bool
		says, advice string
	}{
		"a good certificate":    {100 * 24 * time.Hour, false, "is valid until", ""},
		"one that has expired":  {-time.Hour, true, "has expired on", "renew"},
		"one that ends soon":    {10 * 24 * time.Hour, true, "ends on", "renew"},
		"one that is yet to be": {400 * 24 * time.Hour, true, "is this machine's clock right?", "timedatectl"},
	} {
		files := pairIn(t.TempDir())
		cert, key := ownCert(t, "a.example", time.Now().Add(c.until))
		writeFile(t, files.Cert, cert)
		writeFile(t, files.Key, key)
		wants(t, name, certificates(Config{Gateway: GatewayConfig{TLS: GatewayTLS{Files: []TLSPair{files}}}}, time.Now()), "certificate", c.broken, c.says, c.advice)
	}
	lost := certificates(Config{Home: home, Gateway: GatewayConfig{TLS: GatewayTLS{Names: []string{"*.a.example"}, Files: []TLSPair{{"/none", "/none"}}}}}, time.Now())
	wants(t, "a file that is not there", lost, "certificate", true, "no such file", "gateway.tls.files")
	wants(t, "one that the authority is yet to give", lost, "certificate", false, "there is none yet", "holdfast serve --verbose")

	wants(t, "a full disk", []Diagnosis{diskOf("/x", 1<<20, 100<<30)}, "disk", true, "1 MB of 102400 MB", "holdfast gc")
	wants(t, "a small disk", []Diagnosis{diskOf("/x", 3<<30, 10<<30)}, "disk", false, "3072 MB are free", "")
	wants(t, "a disk that nobody knows", []Diagnosis{diskOf("/x", 0, 0)}, "disk", false, "not known", "")
}

func TestTheDoctorFindsSitesThatEnd(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	in := func(days int) *time.Time { at := now.AddDate(0, 0, days); return &at }
	for name, c := range map[string]struct {
		site         author.SiteStatus
		broken       bool
		check        string
		says, advice string
	}{
		"a good one":            {author.SiteStatus{ValidUntil: in(300), SafeUntil: in(100), Published: in(-1)}, false, "site", "good until 2027-02-25", ""},
		"not published":         {author.SiteStatus{}, false, "site", "not published", ""},
		"a name that ended":     {author.SiteStatus{ValidUntil: in(-2)}, true, "site", "has ended on 2026-04-29", "holdfast name renew blog"},
		"a name that ends soon": {author.SiteStatus{ValidUntil: in(20)}, true, "site", "ends on 2026-05-21", "holdfast name renew blog"},
		"promises that ended":   {author.SiteStatus{ValidUntil: in(300), SafeUntil: in(-1)}, true, "site", "promised has ended", "holdfast apply --yes --site blog"},
		"promises that end":     {author.SiteStatus{ValidUntil: in(300), SafeUntil: in(9)}, true, "site", "promise ends on", "holdfast apply --yes --site blog"},
		"too few copies":        {author.SiteStatus{ValidUntil: in(300), Copies: 3, MinCopies: 3, Proved: 1}, true, "site", "1 of 3 wanted", "holdfast apply --yes --site blog"},
		"a wrong clock":         {author.SiteStatus{ValidUntil: in(300), Published: in(1)}, true, "clock", "yet to come", "timedatectl"},
	} {
		c.site.Alias = "blog"
		wants(t, name, []Diagnosis{siteEnds(c.site, now)}, c.check, c.broken, c.says, c.advice)
	}
}

func TestTheDoctorFindsHostsThatAreDownAndAWrongClock(t *testing.T) {
	ahead := time.Duration(0)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != replicate.HostPath {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Date", time.Now().Add(-ahead).UTC().Format(http.TimeFormat))
	}))
	defer srv.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	n := &Node{web: srv.Client()}
	hosts := func() []author.HostInfo {
		return []author.HostInfo{{Name: "alice", URL: srv.URL}, {Name: "bob", URL: gone.URL}, {Name: "carol", URL: srv.URL + "/elsewhere"}, {Name: "dave"}, {Name: "erin", URL: gone.URL, Leaving: true}}
	}
	found := n.examineHosts(t.Context(), hosts())
	wants(t, "alice", found, "host", false, "alice: answers", "")
	wants(t, "bob", found, "host", true, "bob: doesn't answer", "holdfast host leave bob")
	wants(t, "bob", found, "host", true, "has never answered", "")
	wants(t, "carol", found, "host", true, "404", "host leave carol")
	wants(t, "the clock", found, "clock", false, "agrees", "")
	if len(found) != 4 {
		t.Errorf("%+v", found)
	}
	ahead = 3 * time.Hour
	wants(t, "the clock", n.examineHosts(t.Context(), hosts()), "clock", true, "h0m", "timedatectl")
	ahead = -3 * time.Hour
	wants(t, "the clock", n.examineHosts(t.Context(), hosts()), "clock", true, "behind its hosts'", "timedatectl")
	if found := n.examineHosts(t.Context(), nil); found != nil {
		t.Errorf("without hosts: %v", found)
	}
}
