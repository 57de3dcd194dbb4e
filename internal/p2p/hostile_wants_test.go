package p2p

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	bspb "github.com/ipfs/boxo/bitswap/message/pb"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// maxWants is how many wants of one peer bitswap remembers: boxo's default, which we rely on.
const maxWants = 1024

// absent is a CID that nobody has.
func absent(t testing.TB, i int) cid.Cid {
	t.Helper()
	c, err := rawPrefix.Sum(binary.BigEndian.AppendUint64([]byte("absent"), uint64(i)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sendBitswap writes messages on one stream.
func sendBitswap(t testing.TB, from host.Host, to *Node, messages ...bsmsg.BitSwapMessage) {
	t.Helper()
	s, err := from.NewStream(t.Context(), to.ID(), bsnet.ProtocolBitswap)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, m := range messages {
		if err := m.ToNetV1(s); err != nil {
			t.Fatal(err)
		}
	}
}

// wants makes messages of a thousand wants each, for what nobody has.
func wants(t testing.TB, first, n int, kind bspb.Message_Wantlist_WantType) (ms []bsmsg.BitSwapMessage) {
	t.Helper()
	for len(ms) < n/1000 {
		m := bsmsg.New(false)
		for i := range 1000 {
			m.AddEntry(absent(t, first+1000*len(ms)+i), int32(i), kind, true)
		}
		ms = append(ms, m)
	}
	return ms
}

func TestAFloodOfWantsIsForgottenWithWhoSentIt(t *testing.T) {
	n := open(t)
	floods := []host.Host{attacker(t), attacker(t), attacker(t), attacker(t)}
	grown := watchMemory(t)
	for i, h := range floods { // a hundred thousand in all
		onBitswap(h, func(bsmsg.BitSwapMessage) bsmsg.BitSwapMessage { return nil })
		attack(t, h, n)
		kind := bspb.Message_Wantlist_Block
		if i%2 == 0 {
			kind = bspb.Message_Wantlist_Have
		}
		for round := range 5 {
			sendBitswap(t, h, n, wants(t, 1_000_000*i+5_000*round, 5_000, kind)...)
		}
	}
	for _, h := range floods {
		if got := len(n.swap.WantlistForPeer(h.ID())); got > maxWants {
			t.Errorf("%d wants of one peer are remembered", got)
		}
	}
	wantUsable(t, n, 50)
	for _, h := range floods {
		h.Close()
	}
	eventually(t, "the wants of those who are gone are forgotten", func() bool {
		left := 0
		for _, h := range floods {
			left += len(n.swap.WantlistForPeer(h.ID()))
		}
		return left == 0
	})
	wantBounded(t, grown)
}

// TestWhoAsksForAllAndReadsNothingGetsLittle: a small want list for large blocks, on a connection that is never read.
func TestWhoAsksForAllAndReadsNothingGetsLittle(t *testing.T) {
	n, h := open(t), attacker(t)
	var blocks []blockstore.Block
	for i := range 200 { // of 1 MiB: 200 MiB in all
		data := make([]byte, 1<<20)
		binary.BigEndian.PutUint64(data, uint64(i))
		b, err := blockstore.NewBlock(rawPrefix, data)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	put(t, n, blocks...)
	h.SetStreamHandler(bsnet.ProtocolBitswap, func(s network.Stream) { <-t.Context().Done(); s.Reset() })
	attack(t, h, n)
	grown := watchMemory(t)
	m := bsmsg.New(true)
	for _, b := range blocks {
		m.AddEntry(b.Cid(), 1, bspb.Message_Wantlist_Block, true)
	}
	for range 20 {
		sendBitswap(t, h, n, m)
	}
	wantUsable(t, n, 51)
	wantBounded(t, grown)
}

// TestMalformedBitswapIsDropped: what is no message, is too long, or never ends.
func TestMalformedBitswapIsDropped(t *testing.T) {
	n, h := open(t), attacker(t)
	attack(t, h, n)
	grown := watchMemory(t)
	for what, begin := range map[string][]byte{
		"an endless length": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"4 GiB":             binary.AppendUvarint(nil, 4<<30),
		"5 MiB":             binary.AppendUvarint(nil, 5<<20),
		"no message":        append(binary.AppendUvarint(nil, 64), make([]byte, 64)...),
	} {
		s, err := h.NewStream(t.Context(), n.ID(), bsnet.ProtocolBitswap)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		_, _ = s.Write(begin)
		// It may be cut at any moment; what counts is that the node does not read all of it into memory.
		_, _ = io.CopyN(s, endless{}, 32<<20)
		s.Reset()
	}
	wantUsable(t, n, 52)
	wantBounded(t, grown)
}

// TestBlocksThatNobodyAskedForAreDropped: unasked ones, and wrong ones for what is waited for.
func TestBlocksThatNobodyAskedForAreDropped(t *testing.T) {
	n, good := open(t), open(t)
	d, stranger := makeDAG(t, 100, 53), makeDAG(t, 5000, 54)
	put(t, good, d.blocks...)
	bad := attacker(t, listening())
	onBitswap(bad, func(m bsmsg.BitSwapMessage) bsmsg.BitSwapMessage {
		a := bsmsg.New(false)
		for i, e := range m.Wantlist() { // "I have it", and then something else
			a.AddHave(e.Cid)
			a.AddBlock(stranger.blocks[i%100])
		}
		if a.Empty() {
			return nil
		}
		return a
	})
	grown := watchMemory(t)
	attack(t, bad, n)
	for part := range 50 {
		m := bsmsg.New(false)
		for _, b := range stranger.blocks[100*part : 100*part+100] {
			m.AddBlock(b)
		}
		sendBitswap(t, bad, n, m)
	}
	connect(t, n, good)
	if err := fetchAll(t, n, d, peer.AddrInfo{ID: bad.ID()}, info(t, good)); err != nil {
		t.Error(err)
	}
	for part := range 50 {
		m := bsmsg.New(false)
		for _, b := range stranger.blocks[100*part : 100*part+100] {
			m.AddBlock(b)
		}
		sendBitswap(t, bad, n, m)
	}
	if _, err := n.Fetch(deadline(t, time.Minute), session(t, n), d.roots(), nil, merkle.Limits{}, nil); err != nil {
		t.Error(err)
	}
	if got := has(t, n, stranger); got > 0 {
		t.Errorf("%d blocks that nobody asked for were kept", got)
	}
	for _, b := range stranger.blocks {
		if _, ok := n.blocks.cache.get(b.Cid()); ok {
			t.Fatal("a block that nobody asked for is in the cache")
		}
	}
	wantBounded(t, grown)
}
