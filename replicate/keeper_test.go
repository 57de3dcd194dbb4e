package replicate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

var errDown = errors.New("down")

// village is the other hosts of a keeper's rosters: up or not, holding or not. It is what a keeper calls
// and challenges; everything else in these tests is real.
type village struct {
	sends blockstore.Store // what holders send

	mu     sync.Mutex
	down   map[peer.ID]bool
	holds  map[peer.ID]bool
	says   map[peer.ID]replicate.Verdict // in place of the truth
	proofs map[peer.ID]int
}

func (v *village) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

func (v *village) is(id peer.ID) (up, holds bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.down[id], v.holds[id]
}

// Call implements replicate.Caller.
func (v *village) Call(_ context.Context, ai peer.AddrInfo) error {
	if up, _ := v.is(ai.ID); !up {
		return errDown
	}
	return nil
}

// HTTPClient implements replicate.Caller.
func (v *village) HTTPClient(ai peer.AddrInfo) *http.Client {
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		up, holds := v.is(ai.ID)
		if !up {
			return nil, errDown
		}
		v.set(func() { v.proofs[ai.ID]++ })
		resp := &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}
		c, err := cid.Decode(strings.TrimPrefix(r.URL.Path, "/ipfs/"))
		if err != nil {
			return nil, err
		}
		if b, err := v.sends.Get(r.Context(), c); err == nil && holds {
			resp.StatusCode, resp.Body = http.StatusOK, io.NopCloser(bytes.NewReader(b.RawData()))
		}
		return resp, nil
	})}
}

// Audit implements replicate.Challenger.
func (v *village) Audit(_ context.Context, id peer.ID, site naming.Name, roots []cid.Cid) (replicate.AuditResult, error) {
	up, holds := v.is(id)
	r := replicate.AuditResult{At: time.Now(), Prover: id, Site: site, Roots: roots, Verdict: replicate.NotHeld, Detail: "so it says"}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.proofs[id]++
	switch {
	case !up:
		r.Verdict = replicate.Unreachable
	case v.says[id] != "":
		r.Verdict = v.says[id]
	case holds:
		r.Verdict = replicate.Proved
	}
	return r, nil
}

// keptHost is a pin host with a keeper, and the village around it.
type keptHost struct {
	*pinHost
	*village
	self   peer.ID
	others []peer.ID
	keeper *replicate.Keeper
	change []func(*replicate.KeeperConfig)
	signer naming.Signer
	root   cid.Cid
	policy cid.Cid
	id     string // of the standby's pin
	stop   func()
}

const (
	vigil     = 12 * time.Hour // the patience in these tests
	callEvery = time.Hour
	pollEvery = callEvery
)

// times are the clocks in these tests, which no change of the defaults is to change.
var times = replicate.Times{
	Call: callEvery, Grace: 2 * time.Hour, Delta: 2 * time.Hour, Jitter: 30 * time.Minute, Fast: time.Hour,
	ProofAge: 3 * time.Hour, Surplus: 24 * time.Hour, Break: 4 * time.Hour, Stale: 14 * 24 * time.Hour,
}

// newKeptHost is a standby of rank 3 where three copies are wanted: a, b and c hold the site, and d stands by behind it.
func newKeptHost(t *testing.T, change ...func(*replicate.KeeperConfig)) *keptHost {
	h := &keptHost{pinHost: newPinHost(t), change: change, signer: namingtest.Signer(t, "site")}
	h.village = &village{sends: h.author, down: map[peer.ID]bool{}, holds: map[peer.ID]bool{}, says: map[peer.ID]replicate.Verdict{}, proofs: map[peer.ID]int{}}
	for _, who := range []string{"a", "b", "c", "self", "d"} {
		id := namingtest.Signer(t, "host "+who).Name().Peer()
		if who == "self" {
			h.self = id
		} else {
			h.others = append(h.others, id)
		}
	}
	a, b, c, d := h.others[0], h.others[1], h.others[2], h.others[3]
	h.holds[a], h.holds[b], h.holds[c] = true, true, true
	h.root = h.site("v1", 3, 100)
	h.policy = h.policyOf(3, a, b, c, h.self, d)
	h.begin()
	h.publish(h.signer, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 1, Policy: h.policy})
	h.id = h.standby(h.signer, h.policy, 1)
	return h
}

// publish signs a statement for longer than a test, and hands it to the host.
func (h *keptHost) publish(s naming.Signer, st naming.Statement) {
	h.t.Helper()
	st.ValidUntil = time.Now().Add(400 * 24 * time.Hour)
	rec, err := s.Sign(st)
	if err == nil {
		err = h.db.Accept(h.t.Context(), rec)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.names.Accepted(rec)
	h.service.FollowNow(s.Name())
}

// begin serves the host and its keeper, made anew over what is in the store.
func (h *keptHost) begin() {
	h.t.Helper()
	h.build(func(c *replicate.ServiceConfig) { c.FollowInterval = time.Hour })
	cfg := replicate.KeeperConfig{
		Self: h.self, Service: h.service, Store: h.db, Blocks: h.blocks, Caller: h.village, Auditor: h.village, Names: h.names,
		PatienceMin: vigil, PatienceMax: vigil, Times: times,
	}
	for _, f := range h.change {
		f(&cfg)
	}
	var err error
	if h.keeper, err = replicate.NewKeeper(cfg); err != nil {
		h.t.Fatal(err)
	}
	stopService := h.serve()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	keeper := h.keeper
	go func() {
		defer close(done)
		if err := keeper.Serve(ctx); err != nil {
			h.t.Errorf("Serve: %v", err)
		}
	}()
	var once sync.Once
	h.stop = func() { once.Do(func() { cancel(); <-done; stopService() }) }
	h.t.Cleanup(h.stop)
}

func (h *keptHost) holding() bool {
	h.t.Helper()
	st, err := h.service.StandingOf(h.t.Context(), h.signer.Name())
	if err != nil {
		h.t.Fatal(err)
	}
	return st.Root.Defined()
}

// stays needs holding to be so for all of the given time.
func (h *keptHost) stays(holding bool, d time.Duration) {
	h.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(pollEvery) {
		if h.holding() != holding {
			h.t.Fatalf("holding is %v %s before it may be\n%v", !holding, time.Until(end), h.events())
		}
	}
}

// becomes needs holding to be so within the given time.
func (h *keptHost) becomes(holding bool, within time.Duration) {
	h.t.Helper()
	for end := time.Now().Add(within); h.holding() != holding; time.Sleep(pollEvery) {
		if time.Now().After(end) {
			h.t.Fatalf("holding is not %v after %s\n%v", holding, within, h.events())
		}
	}
}

// events is what was told, oldest first.
func (h *keptHost) events() (kinds []string) {
	h.t.Helper()
	es, err := h.db.Events(h.t.Context(), h.signer.Name(), replicate.MaxEvents)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range es {
		who := "self"
		if i := slices.Index(h.others, e.Host); i >= 0 {
			who = "abcd"[i : i+1]
		}
		kinds = append(kinds, string(e.Kind)+" "+who)
	}
	slices.Reverse(kinds)
	return kinds
}

func (h *keptHost) told(want ...string) {
	h.t.Helper()
	if got := h.events(); !slices.Equal(got, want) {
		h.t.Errorf("told %q, want %q", got, want)
	}
}

// long is for many days of a keeper's life.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many days of a keeper's life take a while under the race detector; the full suite has them")
	}
}

func TestAStandbyTakesOverFromAHolderThatIsGoneAndLetsGoWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.told()
		b := h.others[1]
		h.set(func() { h.down[b] = true })
		h.stays(false, vigil-2*time.Hour)
		h.becomes(true, 10*time.Hour)
		h.wantWhole(h.root)
		h.told("gone b", "took_over self")
		h.stays(true, 2*24*time.Hour)
		h.set(func() { delete(h.down, b) })
		h.stays(true, 12*time.Hour)
		h.becomes(false, 3*24*time.Hour)
		h.told("gone b", "took_over self", "back b", "let_go self")
		h.stays(false, 24*time.Hour)
		if report, err := h.keeper.Report(t.Context(), h.signer.Name()); err != nil || len(report.Members) != 4 || len(report.Events) != 4 ||
			report.Role != replicate.RoleStandby || !report.Holds.IsZero() || report.Members[1].Held.IsZero() || report.Policy != h.policy {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

func TestAHolderThatHoldsNothingAnyMoreIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.set(func() { h.holds[h.others[0]] = false })
		h.becomes(true, 24*time.Hour)
		h.told("absent a", "took_over self")
	})
}

func TestAKeeperThatWasAwayPresumesNobodyGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.stop()
		time.Sleep(3 * 24 * time.Hour)
		h.set(func() { h.down[h.others[1]] = true })
		h.begin()
		h.stays(false, vigil-2*time.Hour) // it begins to wait only now
		h.told()
		h.becomes(true, 10*time.Hour)
	})
}

func TestATakeOverThatWasCutOffGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.set(func() { h.holds[h.others[0]] = false })
		begun := make(chan struct{})
		var once sync.Once
		h.fetcher.set(func(f *copier) {
			f.gate = func(ctx context.Context, _ blockstore.Session, n int) error {
				if n > 0 {
					once.Do(func() { close(begun) })
					<-ctx.Done()
				}
				return ctx.Err()
			}
		})
		<-begun
		h.stop()
		h.fetcher.set(func(f *copier) { f.gate = nil })
		h.begin()
		h.becomes(true, time.Hour)
		h.wantWhole(h.root)
		h.told("absent a", "took_over self")
	})
}

func TestAFetchIsCalledOffWhenSomebodyElseWasFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.set(func() { h.holds[h.others[0]] = false })
		h.fetcher.set(func(f *copier) { f.down = true })
		for len(h.events()) < 3 {
			time.Sleep(time.Minute)
		}
		h.told("absent a", "took_over self", "fetch_failed self")
		h.set(func() { h.holds[h.others[3]] = true })
		time.Sleep(12 * time.Hour)
		h.fetcher.set(func(f *copier) { f.down = false })
		h.stays(false, 24*time.Hour)
		if st, err := h.service.StandingOf(t.Context(), h.signer.Name()); err != nil || !st.Active.IsZero() {
			t.Errorf("it still wants to take over: %+v, %v", st, err)
		}
	})
}

func TestASiteThatHasNoRoomIsLeftToTheNext(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		s := namingtest.Signer(t, "large site")
		root := h.site("large", 3, 50_000)
		h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 1, Policy: h.policy})
		h.standby(s, h.policy, 1, replicate.MetaMaxBytes, "10000")
		h.signer = s
		h.stays(false, 24*time.Hour)
		h.set(func() { h.holds[h.others[0]] = false })
		h.stays(false, 2*24*time.Hour)
		h.told("absent a", "took_over self", "declined self")

		small := h.site("small", 3, 100) // there is room for the next release
		h.publish(s, naming.Statement{Value: "/ipfs/" + small.String(), Sequence: 2, Policy: h.policy})
		h.becomes(true, 24*time.Hour)
		h.wantWhole(small)
	})
}

func TestWhoLostItsSeatTakesNothingOverAndLetsGo(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		a, b, c, d := h.others[0], h.others[1], h.others[2], h.others[3]
		h.set(func() { h.holds[a] = false })
		h.becomes(true, 24*time.Hour)
		pol := h.policyOf(3, d, c, b)
		h.set(func() { h.holds[d] = true })
		h.publish(h.signer, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 2, Policy: pol})
		h.becomes(false, 4*24*time.Hour)
		h.set(func() { h.down[b], h.down[c] = true, true })
		h.stays(false, 2*24*time.Hour)
	})
}

func TestAnExpiredPolicyIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		h.stop()
		time.Sleep(301 * 24 * time.Hour)
		before := h.proofs[h.others[1]]
		h.set(func() { h.holds[h.others[0]], h.down[h.others[2]] = false, true })
		h.begin()
		h.stays(false, 2*24*time.Hour)
		if h.proofs[h.others[1]] != before {
			t.Error("it had members prove themselves")
		}
	})
}

func TestOnlyAFewSitesAreLetGoOfInAnHour(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t, func(c *replicate.KeeperConfig) { c.GivesPerHour, c.Times.Jitter = 1, time.Second })
		var sites []naming.Signer
		for _, label := range []string{"one", "two", "three"} {
			s := namingtest.Signer(t, label)
			h.publish(s, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 1, Policy: h.policy})
			h.standby(s, h.policy, 1)
			sites = append(sites, s)
		}
		b := h.others[1]
		h.stays(false, 24*time.Hour)
		h.set(func() { h.down[b] = true })
		time.Sleep(2 * 24 * time.Hour)
		h.set(func() { delete(h.down, b) })
		var times []time.Time
		time.Sleep(4 * 24 * time.Hour)
		for _, s := range append(sites, h.signer) {
			es, err := h.db.Events(t.Context(), s.Name(), 1)
			if err != nil || len(es) != 1 || es[0].Kind != replicate.EventLetGo {
				t.Fatalf("%v, %v", es, err)
			}
			times = append(times, es[0].At)
		}
		slices.SortFunc(times, time.Time.Compare)
		for i := range times[1:] {
			if d := times[i+1].Sub(times[i]); d < time.Hour {
				t.Errorf("two sites within %s", d)
			}
		}
	})
}

func TestALiarIsConvictedAndReplacedForGood(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		a, b := h.others[0], h.others[1]
		h.set(func() { h.down[b] = true }) // so that we hold the site, and audit in full
		h.becomes(true, 24*time.Hour)
		h.set(func() { delete(h.down, b); h.says[a] = replicate.Wrong })
		time.Sleep(24 * time.Hour)
		h.set(func() { delete(h.says, a) })
		h.stays(true, 2*24*time.Hour)
		if es := h.events(); !slices.Contains(es, "convicted a") {
			t.Errorf("told %q", es)
		}
		if ev, err := h.db.LastEvidence(t.Context(), h.signer.Name(), "audit"); err != nil || len(ev) == 0 {
			t.Errorf("no evidence is kept: %v", err)
		}
	})
}

func TestWithoutBudgetNobodyIsAskedForProofs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t, func(c *replicate.KeeperConfig) { c.Budget = func() bool { return false } })
		h.stays(false, 24*time.Hour)
		if len(h.proofs) != 0 {
			t.Errorf("asked %v", h.proofs)
		}
	})
}
