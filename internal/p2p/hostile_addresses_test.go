package p2p

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/merkle"
)

// TestAFloodOfAddressesIsBounded: nodes of the DHT answer every question with thousands of peers at as many addresses as
// are taken. What is remembered of them is bounded, and the honest ones are reached as before.
func TestAFloodOfAddressesIsBounded(t *testing.T) {
	n, author := open(t, func(c *Config) { c.IdleTimeout = 20 * time.Second }), open(t)
	var floods []*pb.Message // made beforehand, so that little of the memory is the liars'
	for part := range 2 {
		m := &pb.Message{}
		for i := range 1000 {
			m.CloserPeers = append(m.CloserPeers, inventedPeer(t, uint64(1000*part+i), 64))
		}
		floods = append(floods, m)
	}
	grown := watchMemory(t)
	for i := range floods {
		liar := attacker(t, listening())
		onDHT(liar, func(q *pb.Message) *pb.Message {
			return &pb.Message{Type: q.Type, Key: q.Key, CloserPeers: floods[i].CloserPeers}
		})
		if err := n.Connect(t.Context(), []peer.AddrInfo{addrInfo(liar)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		_, _ = n.dht.GetClosestPeers(deadline(t, 5*time.Second), fmt.Sprint("flood ", i))
		gone := makeDAG(t, 5, 70+uint64(i))
		_, _ = n.Fetch(deadline(t, 3*time.Second), session(t, n), gone.roots(), nil, merkle.Limits{}, nil)
	}
	known := 0
	for _, id := range n.Host().Peerstore().PeersWithAddrs() {
		known += len(n.Host().Peerstore().Addrs(id))
	}
	t.Logf("%d addresses were named, %d are known", 64*1000*len(floods), known)
	if known > maxAddresses+1000 { // those of connected peers come on top
		t.Errorf("%d addresses are remembered", known)
	}
	d := makeDAG(t, 20, 80)
	put(t, author, d.blocks...)
	if err := fetchAll(t, n, d, info(t, author)); err != nil {
		t.Errorf("an honest source, after the flood: %v", err)
	}
	wantBounded(t, grown)
}

// TestAFullBookOfAddressesKeepsNobodyOut: when as many are remembered as may be, a peer that we are told to connect to
// is connected even so.
func TestAFullBookOfAddressesKeepsNobodyOut(t *testing.T) {
	n, author := open(t), open(t)
	for i := uint64(0); i < maxAddresses/64+100; i++ {
		p := inventedPeer(t, i, 64)
		var addrs []ma.Multiaddr
		for _, a := range p.Addrs {
			addr, err := ma.NewMultiaddrBytes(a)
			if err != nil {
				t.Fatal(err)
			}
			addrs = append(addrs, addr)
		}
		n.Host().Peerstore().AddAddrs(peer.ID(p.Id), addrs, time.Hour)
	}
	connect(t, n, author)
}

// inventedPeer is a peer that does not exist, at so many addresses.
func inventedPeer(t testing.TB, seed uint64, addrs int) *pb.Message_Peer {
	t.Helper()
	digest, err := mh.Sum(binary.BigEndian.AppendUint64(nil, seed), mh.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	p := &pb.Message_Peer{Id: digest}
	for i := range addrs {
		a, err := ma.NewMultiaddrBytes([]byte{4, 127, 0, 0, 1, 6, 0, byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		p.Addrs = append(p.Addrs, a.Bytes())
	}
	return p
}
