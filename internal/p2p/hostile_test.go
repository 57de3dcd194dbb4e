package p2p

import (
	"context"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/libp2p/go-libp2p"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-sites/holdfast/merkle"
)

// bounded is how much an attack may make the process grow, the attackers in it included.
const bounded = 256 << 20

// attacker is a peer that keeps no rule and has no limits of its own.
func attacker(t testing.TB, options ...libp2p.Option) host.Host {
	t.Helper()
	options = append([]libp2p.Option{
		libp2p.Identity(newKey(t)), libp2p.NoListenAddrs, libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableMetrics(),
	}, options...)
	h, err := libp2p.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// listening makes an attacker that can be dialled.
func listening() libp2p.Option { return libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0") }

func attack(t testing.TB, from host.Host, to *Node) {
	t.Helper()
	if err := from.Connect(t.Context(), info(t, to)); err != nil {
		t.Fatal(err)
	}
}

func addrInfo(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// watchMemory tells how many bytes the heap has grown by: at its worst, and still when asked.
func watchMemory(t testing.TB) (grown func() (peak, left int64)) {
	t.Helper()
	heap := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	runtime.GC()
	before := heap()
	peak := before
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			peak = max(peak, heap())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(cancel)
	return func() (int64, int64) {
		cancel()
		<-done
		runtime.GC()
		return peak - before, heap() - before
	}
}

func wantBounded(t testing.TB, grown func() (peak, left int64)) {
	t.Helper()
	peak, left := grown()
	t.Logf("the heap grew by %d MiB at most, %d MiB are left", peak>>20, left>>20)
	if peak > bounded {
		t.Errorf("the heap grew by %d MiB", peak>>20)
	}
	if left > bounded/4 {
		t.Errorf("%d MiB did not come back", left>>20)
	}
}

// wantUsable fails unless somebody honest gets a small site from the node.
func wantUsable(t testing.TB, n *Node, seed uint64) {
	t.Helper()
	d := makeDAG(t, 50, seed)
	put(t, n, d.blocks...)
	honest := open(t)
	if _, err := honest.Fetch(deadline(t, 30*time.Second), session(t, honest), d.roots(), []peer.AddrInfo{info(t, n)}, merkle.Limits{}, nil); err != nil {
		t.Errorf("an honest peer: %v", err)
	}
}

// onBitswap has an attacker answer bitswap messages; what answer returns is sent, unless it is nil.
func onBitswap(h host.Host, answer func(bsmsg.BitSwapMessage) bsmsg.BitSwapMessage) {
	h.SetStreamHandler(bsnet.ProtocolBitswap, func(s network.Stream) {
		defer s.Close()
		r := msgio.NewVarintReaderSize(s, network.MessageSizeMax)
		for {
			m, _, err := bsmsg.FromMsgReader(r)
			if err != nil {
				return
			}
			if reply := answer(m); reply != nil {
				back, err := h.NewStream(context.Background(), s.Conn().RemotePeer(), bsnet.ProtocolBitswap)
				if err != nil {
					return
				}
				if reply.ToNetV1(back) != nil {
					return
				}
				back.Close()
			}
		}
	})
}

// onDHT has an attacker answer the questions of the private DHT.
func onDHT(h host.Host, answer func(q *pb.Message) *pb.Message) {
	h.SetStreamHandler(privatePrefix+"/kad/1.0.0", func(s network.Stream) {
		defer s.Close()
		r, w := msgio.NewVarintReaderSize(s, network.MessageSizeMax), msgio.NewVarintWriter(s)
		for {
			raw, err := r.ReadMsg()
			if err != nil {
				return
			}
			q := new(pb.Message)
			if proto.Unmarshal(raw, q) != nil {
				return
			}
			a := answer(q)
			if a == nil {
				continue
			}
			out, err := proto.Marshal(a)
			if err != nil || w.WriteMsg(out) != nil {
				return
			}
		}
	})
}

// endless is zeros without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
