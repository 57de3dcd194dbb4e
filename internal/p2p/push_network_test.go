package p2p

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// run serves something until stop is called, or the test ends.
func run(t testing.TB, serve func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// namesHost is a node that serves a Publisher of its records.
type namesHost struct {
	*Node
	*Publisher
	records naming.Records
}

func openHost(t testing.TB, records naming.Records, change ...func(*Config)) namesHost {
	t.Helper()
	n := open(t, change...)
	h := namesHost{n, n.NewPublisher(PublisherConfig{Best: records.Best}), records}
	run(t, h.Publisher.Serve)
	eventually(t, "names are served", h.isServing)
	return h
}

func (h namesHost) publish(t testing.TB, r naming.Record) {
	t.Helper()
	if err := h.records.Accept(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	h.Announce(r)
}

func openWatcher(t testing.TB, n *Node, k *keeper) *Watcher {
	t.Helper()
	w := n.NewWatcher(WatcherConfig{Found: k.found})
	run(t, w.Serve)
	return w
}

func TestAnAnnouncedRecordReachesTheWatchersOfEachNetwork(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"TCP":                  func(*Config) {},
		"QUIC":                 func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"} },
		"with pre-shared keys": func(c *Config) { c.PSK = bytes.Repeat([]byte{7}, 32) },
	} {
		t.Run(what, func(t *testing.T) {
			s, k := newSigner(t), newKeeper()
			h := openHost(t, naming.NewMemoryRecords(), change)
			h.publish(t, sign(t, s, 1, time.Hour))
			w := openWatcher(t, open(t, change), k)
			w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
			eventually(t, "what is kept is heard", func() bool { return w.Watched(s.Name()) && k.sequence(s.Name()) == 1 })
			for i := range uint64(20) {
				h.publish(t, sign(t, s, i+2, time.Hour))
				eventually(t, "what is announced is heard", func() bool { return k.sequence(s.Name()) == i+2 })
			}
			if peers, names := h.Watchers(); peers != 1 || names != 1 {
				t.Errorf("%d peers watch %d names", peers, names)
			}
			w.Unwatch(s.Name())
			eventually(t, "nobody watches", func() bool { peers, names := h.Watchers(); return peers == 0 && names == 0 })
		})
	}
}

func TestNamesAreWatchedOverTheConnectionThatTheOtherOpened(t *testing.T) {
	s, k := newSigner(t), newKeeper()
	h := openHost(t, naming.NewMemoryRecords())
	reader := open(t, func(c *Config) { c.AllowPrivate = false })
	w := openWatcher(t, reader, k)
	// The address is private, and not the operator's word.
	w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
	eventually(t, "it was tried", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.links[h.Node.ID()].failures > 0
	})
	if reader.Host().Network().Connectedness(h.Node.ID()) == network.Connected {
		t.Fatal("a private address was dialled")
	}
	h.publish(t, sign(t, s, 1, time.Hour))
	connect(t, h.Node, reader)
	eventually(t, "the record is heard", func() bool { return k.sequence(s.Name()) == 1 })
}

func TestAHolderThatComesBackIsWatchedAgain(t *testing.T) {
	s, k, key := newSigner(t), newKeeper(), newKey(t)
	same := func(c *Config) { c.Identity = key }
	records := naming.NewMemoryRecords()
	h := openHost(t, records, same)
	at, _ := peer.SplitAddr(mustMultiaddr(t, h.Addrs()[0]))
	w := openWatcher(t, open(t), k)
	w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
	h.publish(t, sign(t, s, 1, time.Hour))
	eventually(t, "the record is heard", func() bool { return k.sequence(s.Name()) == 1 })

	restart := func(listen string, sequence uint64) namesHost {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the holder is missed", func() bool { return !w.Watched(s.Name()) })
		h := openHost(t, records, same, func(c *Config) { c.Listen = []string{listen} })
		h.publish(t, sign(t, s, sequence, time.Hour))
		return h
	}
	h = restart(at.String(), 2)
	eventually(t, "the holder is watched at its old address", func() bool { return k.sequence(s.Name()) == 2 && w.Watched(s.Name()) })
	h = restart("/ip4/127.0.0.1/tcp/0", 3)
	w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
	eventually(t, "the holder is watched at its new address", func() bool { return k.sequence(s.Name()) == 3 && w.Watched(s.Name()) })
}

func TestAPeerThatKnowsNothingOfNamesIsPassedOver(t *testing.T) {
	s, k := newSigner(t), newKeeper()
	plain := []*Node{open(t), open(t), open(t)}
	h := openHost(t, naming.NewMemoryRecords())
	h.publish(t, sign(t, s, 1, time.Hour))
	var infos []peer.AddrInfo
	for _, n := range plain {
		infos = append(infos, info(t, n))
	}
	w := openWatcher(t, open(t), k)
	w.Watch(s.Name(), append(infos, info(t, h.Node)))
	eventually(t, "the record is heard", func() bool { return k.sequence(s.Name()) == 1 })
}

func TestNothingIsPushedOffline(t *testing.T) {
	s := newSigner(t)
	n := open(t, func(c *Config) { c.Network = Offline })
	p, w := n.NewPublisher(PublisherConfig{}), n.NewWatcher(WatcherConfig{Found: newKeeper().found})
	stopP, stopW := run(t, p.Serve), run(t, w.Serve)
	w.Watch(s.Name(), ids("somebody"))
	p.Announce(sign(t, s, 1, time.Hour))
	if peers, names := w.Watching(); peers != 0 || names != 0 || w.Watched(s.Name()) {
		t.Errorf("%d peers, %d names", peers, names)
	}
	w.Unwatch(s.Name())
	stopP()
	stopW()
}

// stranger is a host without limits of its own, connected to a node.
func stranger(t testing.TB, to *Node) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Connect(deadline(t, time.Minute), info(t, to)); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestTenThousandStreamsTakeNothingFromTheOthers(t *testing.T) {
	s, k := newSigner(t), newKeeper()
	h := openHost(t, naming.NewMemoryRecords())
	w := openWatcher(t, open(t), k)
	w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
	h.publish(t, sign(t, s, 1, time.Hour))
	eventually(t, "the record is heard", func() bool { return w.Watched(s.Name()) })
	before := runtime.NumGoroutine()

	bad := stranger(t, h.Node)
	cut := 0
	for i := range 10_000 {
		stream, err := bad.NewStream(deadline(t, time.Minute), h.Node.ID(), NamesProtocol)
		if err != nil {
			cut++
			continue
		}
		if _, err := stream.Write(appendAsk(nil, pushWatch, nameNumber(i))); err != nil {
			cut++
		}
		if i%100 == 0 {
			if peers, names := h.Watchers(); peers > 2 || names > 2 {
				t.Fatalf("%d streams, %d names", peers, names)
			}
		}
	}
	t.Logf("%d streams failed at once", cut)
	h.publish(t, sign(t, s, 2, time.Hour))
	eventually(t, "the true watcher hears", func() bool { return k.sequence(s.Name()) == 2 })
	bad.Close()
	eventually(t, "the streams are gone", func() bool { peers, _ := h.Watchers(); return peers == 1 })
	eventually(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() < before+20 })
}

func TestAMillionAsksAreCutAndTheOthersHear(t *testing.T) {
	s, k := newSigner(t), newKeeper()
	h := openHost(t, naming.NewMemoryRecords())
	w := openWatcher(t, open(t), k)
	w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
	eventually(t, "somebody watches", func() bool { _, names := h.Watchers(); return names == 1 })
	stream, err := stranger(t, h.Node).NewStream(deadline(t, time.Minute), h.Node.ID(), NamesProtocol)
	if err != nil {
		t.Fatal(err)
	}
	var batch []byte
	for i := range 1000 {
		batch = appendAsk(appendAsk(batch, pushWatch, nameNumber(i)), pushUnwatch, nameNumber(i))
	}
	for i := range 500 {
		if _, err = stream.Write(batch); err != nil {
			break
		}
		if i == 250 {
			h.publish(t, sign(t, s, 1, time.Hour))
		}
	}
	if err == nil {
		t.Error("a million asks were taken")
	}
	h.publish(t, sign(t, s, 2, time.Hour))
	eventually(t, "the true watcher hears", func() bool { return k.sequence(s.Name()) == 2 })
	if peers, names := h.Watchers(); peers != 1 || names != 1 {
		t.Errorf("%d peers watch %d names", peers, names)
	}
}

func TestNothingIsLeftOfThoseWhoWatched(t *testing.T) {
	s, k := newSigner(t), newKeeper()
	h := openHost(t, naming.NewMemoryRecords())
	reader := open(t)
	connect(t, reader, h.Node)
	before := runtime.NumGoroutine()
	w := reader.NewWatcher(WatcherConfig{Found: k.found})
	stop := run(t, w.Serve)
	for range 3 {
		for i := range 1000 {
			w.Watch(nameNumber(i), []peer.AddrInfo{info(t, h.Node)})
		}
		w.Watch(s.Name(), []peer.AddrInfo{info(t, h.Node)})
		eventually(t, "all is watched", func() bool { _, names := h.Watchers(); return names == 1001 })
		for i := range 1000 {
			w.Unwatch(nameNumber(i))
		}
		eventually(t, "one is watched", func() bool { _, names := h.Watchers(); return names == 1 })
	}
	stop()
	eventually(t, "nobody watches", func() bool { peers, _ := h.Watchers(); return peers == 0 })
	h.leavesNothing(t)
	eventually(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= before+5 })
}
