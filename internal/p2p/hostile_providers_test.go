package p2p

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"github.com/holdfast-sites/holdfast/merkle"
)

// TestTheTrueProviderIsFoundAmongAThousandFakes: of the thousand most are not there, some accept connections and say
// nothing, and many are real peers that have nothing.
func TestTheTrueProviderIsFoundAmongAThousandFakes(t *testing.T) {
	fakes := fakeProviders(t, 1000, 40, candidatesHeld+candidatesAtOnce+10)
	author := open(t)
	d := makeDAG(t, 100, 30)
	put(t, author, d.blocks...)
	fetch := func(t *testing.T, told []*pb.Message_Peer, connected ...*Node) {
		stranger := attacker(t, listening())
		onDHT(stranger, func(q *pb.Message) *pb.Message {
			a := &pb.Message{Type: q.Type, Key: q.Key}
			if q.GetType() == pb.Message_GET_PROVIDERS {
				a.ProviderPeers = told
			}
			return a
		})
		grown := watchMemory(t)
		host := open(t, func(c *Config) { c.IdleTimeout = 20 * time.Second })
		if err := host.Connect(t.Context(), []peer.AddrInfo{addrInfo(stranger)}); err != nil {
			t.Fatal(err)
		}
		connect(t, host, connected...)
		eventually(t, "all are in the routing table", func() bool { return host.dht.RoutingTable().Size() > len(connected) })
		cids, err := host.Fetch(deadline(t, 2*time.Minute), session(t, host), d.roots(), nil, merkle.Limits{}, nil)
		if err != nil || len(cids) != len(d.blocks) {
			t.Errorf("%d blocks of %d: %v", len(cids), len(d.blocks), err)
		}
		wantBounded(t, grown)
	}
	t.Run("all of them told to one node", func(t *testing.T) { fetch(t, append(fakes, inDHT(info(t, author)))) })
	t.Run("the fakes invented by a node beside an honest one", func(t *testing.T) {
		hub := open(t)
		connect(t, author, hub)
		provide(t, author, d.root)
		fetch(t, fakes, hub)
	})
}

// TestProvidersOfNoUseAreLetGoOf: a search among peers that all are there, and have nothing.
func TestProvidersOfNoUseAreLetGoOf(t *testing.T) {
	const live = 3 * candidatesHeld
	fakes := fakeProviders(t, live, 0, live)
	liar := attacker(t, listening())
	onDHT(liar, func(q *pb.Message) *pb.Message {
		return &pb.Message{Type: q.Type, Key: q.Key, ProviderPeers: fakes}
	})
	host := open(t, func(c *Config) { c.IdleTimeout = 8 * time.Second })
	if err := host.Connect(t.Context(), []peer.AddrInfo{addrInfo(liar)}); err != nil {
		t.Fatal(err)
	}
	var most atomic.Int64
	host.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(nw network.Network, _ network.Conn) {
		for n := int64(len(nw.Peers())); ; {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				return
			}
		}
	}})
	d := makeDAG(t, 10, 31)
	if _, err := host.Fetch(t.Context(), session(t, host), d.roots(), nil, merkle.Limits{}, nil); err == nil {
		t.Fatal("fetched from nobody")
	}
	// Bitswap, and the search for a CAR, each look at some of their own.
	if n := most.Load(); n < candidatesHeld || n > candidatesHeld+candidatesAtOnce+2*maxProviders {
		t.Errorf("%d connections at once, want some %d of %d", n, candidatesHeld+candidatesAtOnce, live)
	}
}

// TestProvidersThatNeverSayWhatTheySpeakAreLetGoOf: they are connected, and no search may have waited long enough to know.
func TestProvidersThatNeverSayWhatTheySpeakAreLetGoOf(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	var fakes []*pb.Message_Peer
	var met atomic.Int64
	for range 4 {
		h := attacker(t, listening())
		h.SetStreamHandler(identify.ID, func(network.Stream) { met.Add(1); <-stop })
		fakes = append(fakes, inDHT(addrInfo(h)))
	}
	liar := attacker(t, listening())
	onDHT(liar, func(q *pb.Message) *pb.Message {
		return &pb.Message{Type: q.Type, Key: q.Key, ProviderPeers: fakes}
	})
	host := open(t, func(c *Config) { c.IdleTimeout = 4 * time.Second })
	if err := host.Connect(t.Context(), []peer.AddrInfo{addrInfo(liar)}); err != nil {
		t.Fatal(err)
	}
	joined(t, host)
	host.tryProviders(deadline(t, time.Minute), makeDAG(t, 10, 32).root, &answers{})
	if met.Load() == 0 {
		t.Fatal("nobody was met")
	}
	eventually(t, "only the liar is connected", func() bool { return len(host.host.Network().Peers()) <= 1 })
}

// fakeProviders makes so many providers in a DHT's words: mute of them accept connections and say nothing, live are
// peers that have no block, and the rest is not there.
func fakeProviders(t testing.TB, all, mute, live int) (fakes []*pb.Message_Peer) {
	t.Helper()
	silent := newMute(t)
	for i := range all {
		var ai peer.AddrInfo
		switch {
		case i < live:
			h := attacker(t, listening())
			onBitswap(h, haveNothing)
			ai = addrInfo(h)
		default:
			id, err := peer.IDFromPrivateKey(newKey(t))
			if err != nil {
				t.Fatal(err)
			}
			port := "1"
			if i < live+mute {
				port = silent
			}
			ai = peer.AddrInfo{ID: id, Addrs: multiaddrs(t, fmt.Sprintf("/ip4/127.0.0.1/tcp/%s", port))}
		}
		fakes = append(fakes, inDHT(ai))
	}
	return fakes
}

// inDHT is a peer in a DHT's words.
func inDHT(ai peer.AddrInfo) *pb.Message_Peer {
	p := &pb.Message_Peer{Id: []byte(ai.ID)}
	for _, a := range ai.Addrs {
		p.Addrs = append(p.Addrs, a.Bytes())
	}
	return p
}

// haveNothing refuses everything that a message wants.
func haveNothing(m bsmsg.BitSwapMessage) bsmsg.BitSwapMessage {
	a := bsmsg.New(false)
	for _, e := range m.Wantlist() {
		if !e.Cancel {
			a.AddDontHave(e.Cid)
		}
	}
	if a.Empty() {
		return nil
	}
	return a
}
