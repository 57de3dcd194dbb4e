package replicate_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// watched is a village that notes how it is called, and in which some never answer a request, or a call.
type watched struct {
	*village

	mu      sync.Mutex
	stuck   map[peer.ID]bool // accept requests, and say nothing
	missing map[peer.ID]bool // let calls run out
	calls   map[peer.ID][]time.Time
	addrs   int // the most of one call
}

func watch(c *replicate.KeeperConfig) *watched {
	w := &watched{village: c.Caller.(*village), stuck: map[peer.ID]bool{}, missing: map[peer.ID]bool{}, calls: map[peer.ID][]time.Time{}}
	c.Caller, c.Auditor = w, w
	return w
}

func (w *watched) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// Call implements replicate.Caller.
func (w *watched) Call(ctx context.Context, ai peer.AddrInfo) error {
	missing := false
	w.note(func() {
		w.calls[ai.ID] = append(w.calls[ai.ID], time.Now())
		w.addrs = max(w.addrs, len(ai.Addrs))
		missing = w.missing[ai.ID]
	})
	if missing {
		<-ctx.Done()
		return ctx.Err()
	}
	return w.village.Call(ctx, ai)
}

// HTTPClient implements replicate.Caller.
func (w *watched) HTTPClient(ai peer.AddrInfo) *http.Client {
	stuck := false
	w.note(func() { stuck = w.stuck[ai.ID] })
	if !stuck {
		return w.village.HTTPClient(ai)
	}
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})}
}

// Audit implements replicate.Challenger.
func (w *watched) Audit(ctx context.Context, id peer.ID, site naming.Name, roots []cid.Cid) (replicate.AuditResult, error) {
	stuck := false
	w.note(func() { stuck = w.stuck[id] })
	if !stuck {
		return w.village.Audit(ctx, id, site, roots)
	}
	<-ctx.Done()
	return replicate.AuditResult{At: time.Now(), Prover: id, Site: site, Roots: roots, Verdict: replicate.Missed, Detail: "no answer"}, nil
}

// alsoKeeps adds n more sites of the same policy to a host, which holds them or stands by.
func (h *keptHost) alsoKeeps(n int, role string) (sites []naming.Name) {
	for i := range n {
		s := namingtest.Signer(h.t, fmt.Sprint("another site ", i))
		h.publish(s, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 1, Policy: h.policy})
		h.add(namePin(s, h.policy, replicate.MetaRole, role))
		sites = append(sites, s.Name())
	}
	time.Sleep(time.Minute)
	return sites
}

func TestAMemberThatNeverEndsAProofKeepsNobodyElseFromProving(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		var w *watched
		h := newKeptHost(t, func(c *replicate.KeeperConfig) {
			w = watch(c)
			c.AuditEvery = time.Hour
		})
		a, b := h.others[0], h.others[1]
		w.note(func() { w.stuck[a] = true })
		sites := h.alsoKeeps(20, replicate.RoleHolder)
		time.Sleep(5 * time.Hour)
		for _, n := range sites {
			seen, err := h.db.Sightings(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			if at := seen[b].Proofs.Held; time.Since(at) > 2*time.Hour {
				t.Fatalf("%s last proved that it holds %s at %v", b, n, at)
			}
		}
	})
}

func TestHostsThatAreGoneDelayNoCallToThoseThatLive(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		var w *watched
		h := newKeptHost(t, func(c *replicate.KeeperConfig) {
			w = watch(c)
			c.Times.Call, c.CallTimeout = 10*time.Second, 10*time.Second
		})
		a := h.others[0]
		for i := range 5 {
			members := []peer.ID{a, h.self}
			for j := range 60 {
				id := namingtest.Signer(t, fmt.Sprint("gone ", i, j)).Name().Peer()
				w.note(func() { w.missing[id] = true })
				members = append(members, id)
			}
			s := namingtest.Signer(t, fmt.Sprint("a site of the dead ", i))
			pol := h.policyOf(1, members...)
			h.publish(s, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 1, Policy: pol})
			h.standby(s, pol, 1)
		}
		time.Sleep(12 * time.Minute)
		w.note(func() {
			calls := w.calls[a]
			for i := 1; i < len(calls); i++ {
				if d := calls[i].Sub(calls[i-1]); d > 30*time.Second {
					t.Fatalf("%v between two calls, where they are to be 10 s apart", d)
				}
			}
			if len(w.calls) < 300 {
				t.Errorf("only %d members were ever called", len(w.calls))
			}
		})
	})
}

func TestAMemberOfManyRostersHasNoMoreAddressesThanOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *watched
		h := newKeptHost(t, func(c *replicate.KeeperConfig) { w = watch(c) })
		h.alsoKeeps(20, replicate.RoleStandby)
		time.Sleep(6 * time.Hour)
		w.note(func() {
			if w.addrs != 1 {
				t.Errorf("called at %d addresses, where it has 1", w.addrs)
			}
		})
	})
}

func TestHostsThatAreInNoRosterAnyMoreAreForgotten(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		a, b, c, d := h.others[0], h.others[1], h.others[2], h.others[3]
		h.policy = h.policyOf(3, a, b, c, h.self)
		h.publish(h.signer, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 2, Policy: h.policy})
		h.stays(false, 3*24*time.Hour)
		hosts, err := h.db.Presences(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen, err := h.db.Sightings(t.Context(), h.signer.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := hosts[d]; ok || len(hosts) != 3 {
			t.Errorf("%d hosts are remembered, want 3", len(hosts))
		}
		if _, ok := seen[d]; ok || len(seen) != 3 {
			t.Errorf("%d members are remembered, want 3", len(seen))
		}
	})
}

func TestNothingIsLetGoOfByARosterThatOthersMayNotKnowYet(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.stays(false, 24*time.Hour)
		a, b, c, d := h.others[0], h.others[1], h.others[2], h.others[3]
		h.set(func() { h.down[b], h.holds[d] = true, true })
		h.set(func() { h.holds[d] = false })
		h.becomes(true, 36*time.Hour)
		h.set(func() { h.holds[d] = true }) // d took over, too, and is of lesser rank
		h.stays(true, 3*24*time.Hour)
		h.policy = h.policyOf(3, a, c, d, h.self) // now it isn't
		h.publish(h.signer, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 2, Policy: h.policy})
		h.stays(true, 5*time.Hour)
		h.becomes(false, 3*24*time.Hour)
	})
}

func TestAnotherTenantsPinKeepsNoStandbyFromTakingOver(t *testing.T) {
	long(t)
	for _, role := range []string{replicate.RoleHolder, replicate.RoleStandby} {
		t.Run(role, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newKeptHost(t)
				stranger, _ := h.newTenant("stranger")
				p := namePin(h.signer, h.policy, replicate.MetaRole, role, replicate.MetaMaxBytes, "1000")
				if _, err := h.service.Add(t.Context(), stranger, p); err != nil {
					t.Fatal(err)
				}
				h.stays(false, 24*time.Hour)
				h.set(func() { h.holds[h.others[0]] = false })
				h.becomes(true, 24*time.Hour)
				h.stays(true, 24*time.Hour)
				h.told("absent a", "took_over self")
			})
		})
	}
}

func TestAStandbyThatTheQuotaRefusedTakesOverOnceThereIsRoom(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		h.limited(replicate.Scope{Quota: 20_000})
		h.signer, h.root = namingtest.Signer(t, "a larger site"), h.site("large", 1, 5_000)
		h.publish(h.signer, naming.Statement{Value: "/ipfs/" + h.root.String(), Sequence: 1, Policy: h.policy})
		h.standby(h.signer, h.policy, 1)
		full := h.add(replicate.Pin{CID: h.site("full", 1, 17_000)})
		h.waitStatus(full, replicate.Pinned)
		h.stays(false, 24*time.Hour)
		h.set(func() { h.holds[h.others[0]] = false })
		h.stays(false, 24*time.Hour)
		if got := h.events(); len(got) < 3 || got[len(got)-1] != "declined self" {
			t.Fatalf("told %q", got)
		}
		if err := h.service.Delete(t.Context(), h.tenant, full); err != nil {
			t.Fatal(err)
		}
		h.becomes(true, 24*time.Hour)
	})
}
