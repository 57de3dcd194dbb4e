package author

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestTheWorstThatAnyResolverSeesIsTheVerdict(t *testing.T) {
	for i, a := range verdicts {
		for j, b := range verdicts {
			if got := worse(a, b); got != verdicts[max(i, j)] {
				t.Errorf("%s and %s: %s", a, b, got)
			}
		}
	}
}

func TestAGatewayIsAHostAnAddressOrAURL(t *testing.T) {
	for text, want := range map[string]string{
		"gw.example": "gw.example", "GW.example.": "gw.example", "https://gw.example:8443/x": "gw.example", "gw.example:8080": "gw.example",
		"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1", "http://[2001:DB8::1]:80": "2001:db8::1",
	} {
		if got, ok := gatewayHost(text); !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "localhost", "http://localhost:8080", "a b.example", "https://u:p@gw.example", "https://", "gw.example\r\nX: y"} {
		if got, ok := gatewayHost(text); ok {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestOnlyAuthoritiesThatCAARecordsNameMayIssue(t *testing.T) {
	for _, tt := range []struct {
		caa, want []string
	}{
		{nil, []string{"any"}},
		{[]string{`0 iodef "mailto:x@example.org"`}, []string{"any"}},
		{[]string{`0 issue "a.example; p=q"`, `128 ISSUE "b.example"`, `0 issuewild "c.example"`}, []string{"a.example", "b.example"}},
		{[]string{`0 issue ";"`}, nil},
		{[]string{"junk", ""}, []string{"any"}},
	} {
		if got := issuersOf(tt.caa); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.caa, got, tt.want)
		}
	}
}

// TestTheHoldersOfASiteAreWhereItsDomainMayLead: their gateways first of all, and those of all hosts before anybody holds it.
func TestTheHoldersOfASiteAreWhereItsDomainMayLead(t *testing.T) {
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	a := New(Config{State: db})
	site := namingtest.Signer(t, "blog").Name()
	var ids []peer.ID
	for i, gateways := range [][]string{{"https://one.example"}, {"http://localhost:8080", "https://two.example:8443"}} {
		id := hostID(t, i)
		ids = append(ids, id)
		if err := db.PutHost(t.Context(), state.Host{ID: id, Name: "host", Gateways: gateways, AddedAt: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	wants := func(site naming.Name, given, want []string) {
		t.Helper()
		if got, err := a.domainGateways(t.Context(), site, given); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	wants(site, nil, []string{"one.example", "two.example"})
	if err := db.PutHolding(t.Context(), state.Holding{Site: site, Host: ids[1], State: Proved}); err != nil {
		t.Fatal(err)
	}
	wants(site, nil, []string{"two.example"})
	wants(naming.Name{}, nil, []string{"one.example", "two.example"})
	wants(site, []string{"https://mine.example"}, []string{"mine.example"})
}

func hostID(t *testing.T, i int) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(namingtest.Key(t, string(rune('a'+i))))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
