//go:build !race

// The race detector itself fails in bubbles as large as this one: go.dev/issue/78156.

package p2p

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// simNet is a DHT of true nodes, each made as Open makes it, whose connections are pipes inside a synctest bubble: a
// day of theirs takes two seconds of CPU.
type simNet struct {
	t     *testing.T
	net   mocknet.Mocknet
	nodes []*simNode
}

// simNode is a DHT node that lives as long as the net, or until it leaves.
type simNode struct {
	dhtNames
	s    *simNet
	host host.Host
}

// newSimNet makes an empty net, to be used inside of one bubble.
func newSimNet(t *testing.T) *simNet {
	t.Helper()
	s := &simNet{t: t, net: mocknet.New()}
	t.Cleanup(func() {
		// A stream that is opened while its connection ends would stay for ever, so first nobody opens any.
		for _, n := range s.nodes {
			n.closeDHT()
		}
		if err := s.net.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// join adds a node, connected to all others.
func (s *simNet) join(server bool) *simNode {
	s.t.Helper()
	h, err := s.net.GenPeer()
	if err != nil {
		s.t.Fatal(err)
	}
	d, err := newDHT(h, Config{Network: Private, Server: server}, func() []peer.AddrInfo { return nil })
	if err != nil {
		s.t.Fatal(err)
	}
	n := &simNode{dhtNames{d}, s, h}
	for _, other := range s.nodes {
		if _, err := s.net.LinkPeers(h.ID(), other.host.ID()); err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.net.ConnectPeers(h.ID(), other.host.ID()); err != nil {
			s.t.Fatal(err)
		}
	}
	s.nodes = append(s.nodes, n)
	synctest.Wait() // for all to know what the others speak
	return n
}

func (n *simNode) closeDHT() {
	if err := n.dht.Close(); err != nil {
		n.s.t.Error(err)
	}
	synctest.Wait()
}

// leave takes a node off the net for good, with whatever it kept.
func (n *simNode) leave() {
	n.s.t.Helper()
	n.closeDHT()
	n.s.nodes = slices.DeleteFunc(n.s.nodes, func(other *simNode) bool { return other == n })
	for _, other := range n.s.nodes {
		if err := errors.Join(n.s.net.DisconnectPeers(n.host.ID(), other.host.ID()), n.s.net.UnlinkPeers(n.host.ID(), other.host.ID())); err != nil {
			n.s.t.Error(err)
		}
	}
	synctest.Wait()
}

// resolver is one that asks the DHT only.
func (n *simNode) resolver(records naming.Records) *naming.Resolver {
	r := naming.NewResolver(naming.ResolverConfig{Records: records, Sources: func(naming.Name) []naming.Source { return []naming.Source{n} }})
	n.s.t.Cleanup(r.Close)
	return r
}

// relay runs a relay of rec's name, of which it keeps rec, into the DHT until the test ends. Where it confirms, it asks
// the DHT for a better record before each round.
func (n *simNode) relay(rec naming.Record, confirms bool) (*naming.Relay, naming.Records) {
	t := n.s.t
	t.Helper()
	records := naming.NewMemoryRecords()
	if err := records.Accept(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	cfg := naming.RelayConfig{
		Names:   func(context.Context) ([]naming.Name, error) { return []naming.Name{rec.Name()}, nil },
		Records: records,
		Sinks:   func(naming.Name) []naming.Sink { return []naming.Sink{n} },
	}
	if confirms {
		resolver := n.resolver(records)
		cfg.Confirm = func(ctx context.Context, name naming.Name) { _, _, _ = resolver.ResolveFresh(ctx, name) }
	}
	r := naming.NewRelay(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = r.Serve(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return r, records
}

// stranger resolves a name as somebody does who has only just come and knows nothing but the DHT.
func (s *simNet) stranger(name naming.Name) ([]byte, error) {
	s.t.Helper()
	n := s.join(false)
	defer n.leave()
	r := n.resolver(naming.NewMemoryRecords())
	res, err := r.Resolve(s.t.Context(), name)
	r.Close()
	if err != nil {
		return nil, err
	}
	return res.Record.Bytes(), nil
}

func (s *simNet) wantFound(when string, want naming.Record) {
	s.t.Helper()
	if raw, err := s.stranger(want.Name()); err != nil || !bytes.Equal(raw, want.Bytes()) {
		s.t.Errorf("%s: a stranger finds %d bytes, %v; want sequence %d byte for byte", when, len(raw), err, want.Sequence())
	}
}

// foreign is a record of Signer(seed) that lives for a year and holds more than we know of.
func foreign(t *testing.T, seed string, sequence int64) naming.Record {
	t.Helper()
	f := namingtest.Honest()
	f.Sequence = sequence
	f.Validity = time.Now().Add(naming.DefaultLifetime).Format(time.RFC3339Nano)
	f.Extra = map[string]any{"_other": "tool", "_holdfast_policy": namingtest.CID("policy").Bytes()}
	rec, err := naming.OpenRecord(namingtest.Signer(t, seed).Name(), f.Raw(t, namingtest.Key(t, seed)), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// A hundred hours of a DHT whose nodes forget after 48 what nobody puts again. The author leaves after one. Of
// its two names one is kept alive by three holders, and goes on in the middle; a fourth keeps the record before, and
// asks nobody whether there is a better one.
func TestTheDHTKeepsANameOfWhichTheAuthorIsGoneAndForgetsTheOneThatNobodyKeeps(t *testing.T) {
	if testing.Short() {
		t.Skip("a hundred hours of a DHT; the full suite has them")
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		at := func(hour int) {
			time.Sleep(time.Until(start.Add(time.Duration(hour) * time.Hour)))
			synctest.Wait()
		}
		s := newSimNet(t)
		holders := []*simNode{s.join(true), s.join(true), s.join(true)}
		author := s.join(false)
		one, two, lost := foreign(t, "kept", 1), foreign(t, "kept", 2), foreign(t, "forgotten", 1)
		for _, r := range []naming.Record{one, lost} {
			if err := author.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		first, firsts := holders[0].relay(one, true)
		_, seconds := holders[1].relay(one, true)
		_, thirds := holders[2].relay(one, true)
		at(1)
		author.leave()

		at(47)
		s.wantFound("after 47 hours, the kept one", one)
		s.wantFound("after 47 hours, the one that nobody keeps", lost)
		at(49)
		if _, err := s.stranger(lost.Name()); !errors.Is(err, naming.ErrNotFound) {
			t.Errorf("after 49 hours, the one that nobody keeps: %v, want ErrNotFound", err)
		}
		s.wantFound("after 49 hours, the kept one", one)

		s.join(true).relay(one, false)
		if err := firsts.Accept(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		first.Kick(two.Name())
		time.Sleep(time.Minute)
		s.wantFound("a minute after the first holder got the next one", two)
		at(54)
		for i, records := range []naming.Records{firsts, seconds, thirds} {
			if r, err := records.Best(t.Context(), two.Name()); err != nil || r.Compare(two) != 0 {
				t.Errorf("after a round, holder %d keeps sequence %d, %v", i, r.Sequence(), err)
			}
		}
		s.wantFound("while an old copy is put again and again", two)
		at(100)
		s.wantFound("after 100 hours", two)
	})
}

func TestAPutBelowWhatThisNodeKeepsForTheDHTSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSimNet(t)
		holder, author := s.join(true), s.join(false)
		one, two := foreign(t, "a", 1), foreign(t, "a", 2)
		if err := author.Put(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		var older *naming.OlderError
		if err := holder.Put(t.Context(), one); !errors.As(err, &older) || older.Offered != 1 || older.Floor != 2 {
			t.Errorf("Put: %v, want an OlderError of 1 below 2", err)
		}
	})
}
