package node

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming/deny"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// sender is as much of a node as decides what is sent, with a day's budget of so many bytes.
func sender(t *testing.T, budget int64, admission *replicate.Admission, known *bool) *Node {
	t.Helper()
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	meter, err := replicate.NewTrafficMeter(t.Context(), replicate.TrafficConfig{Store: db, Budgets: replicate.Traffic{Egress: budget}})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{traffic: meter, admission: admission}
	now := time.Now()
	n.friends = &friends{known: map[peer.ID]friend{}, now: func() time.Time {
		now = now.Add(2 * friendTime) // so that it looks each time
		return now
	}, look: func(context.Context, peer.ID) bool { return *known }}
	n.friends.ready.Store(true)
	return n
}

func TestStrangersWaitForTomorrowWhenTheDaysBudgetIsSpent(t *testing.T) {
	friend := false
	n := sender(t, 1000, nil, &friend)
	h := n.forPeers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, strings.Repeat("x", 600)) }))
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/ipfs/"+namingtest.CID("x").String(), nil))
		return w
	}
	for i := range 2 {
		if w := get(); w.Code != http.StatusOK {
			t.Fatalf("request %d, within the budget: %d", i, w.Code)
		}
	}
	if got := n.traffic.Today().Egress; got != 1200 {
		t.Errorf("%d bytes were counted", got)
	}
	stranger := namingtest.Signer(t, "stranger").Name().Peer()
	if w := get(); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("a stranger over HTTP: %d", w.Code)
	}
	if n.servesBlock(stranger, namingtest.CID("x")) {
		t.Error("a stranger gets blocks by bitswap")
	}
	friend = true
	if w := get(); w.Code != http.StatusOK {
		t.Errorf("a friend over HTTP: %d", w.Code)
	}
	if !n.servesBlock(stranger, namingtest.CID("x")) {
		t.Error("a friend gets no blocks")
	}
}

func TestWhatIsDeniedIsNotSentToPeers(t *testing.T) {
	bad, friend := namingtest.CID("bad"), true
	list := filepath.Join(t.TempDir(), "deny")
	if err := os.WriteFile(list, []byte(bad.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	denied, err := deny.Open(deny.Config{Files: []string{list}})
	if err != nil {
		t.Fatal(err)
	}
	n := sender(t, 0, replicate.NewAdmission(replicate.AdmissionConfig{Denied: denied}), &friend)
	h := n.forPeers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	for path, want := range map[string]int{
		"/ipfs/" + bad.String(): http.StatusUnavailableForLegalReasons, "/ipfs/" + bad.String() + "/x": http.StatusUnavailableForLegalReasons,
		"/ipfs/" + namingtest.CID("good").String(): http.StatusOK,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if n.servesBlock("", bad) || !n.servesBlock("", namingtest.CID("good")) {
		t.Error("bitswap sends what is denied, or nothing else either")
	}
}
