package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// pipe is a stream in memory. It has no buffer: who does not read is noticed at once.
type pipe struct{ net.Conn }

func (p pipe) Reset() error { return p.Close() }

func newPipe() (pipe, pipe) {
	a, b := net.Pipe()
	return pipe{a}, pipe{b}
}

// servePublisher makes a Publisher that is served until the test, or its bubble, ends.
func servePublisher(t *testing.T, cfg PublisherConfig) *Publisher {
	t.Helper()
	p := newPublisher(cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Serve(ctx) }()
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		<-done
		p.leavesNothing(t)
	})
	return p
}

func (p *Publisher) leavesNothing(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.topics) != 0 || p.watches != 0 || p.streams != 0 {
		t.Errorf("%d names, %d watches and %d streams are left", len(p.topics), p.watches, p.streams)
	}
}

// visit opens a stream as a peer.
func visit(t *testing.T, p *Publisher, id string) pipe {
	ours, theirs := newPipe()
	go p.handle(t.Context(), peer.ID(id), theirs)
	t.Cleanup(func() { ours.Close() })
	return ours
}

func ask(t testing.TB, s pushStream, op byte, names ...naming.Name) {
	t.Helper()
	for _, n := range names {
		if _, err := s.Write(appendAsk(nil, op, n)); err != nil {
			t.Fatal(err)
		}
	}
}

// hear reads one record.
func hear(t testing.TB, r *pushReader, n naming.Name) naming.Record {
	t.Helper()
	msg, err := r.next(0)
	if err != nil {
		t.Fatal(err)
	}
	name, raw, err := decodeTold(msg)
	if err != nil || name != n {
		t.Fatalf("%s, %v", name, err)
	}
	rec, err := naming.OpenRecord(n, raw, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// ended tells whether the other side has cut the stream.
func ended(s pipe) bool {
	s.SetReadDeadline(time.Now().Add(time.Nanosecond))
	_, err := s.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

func TestAWatcherIsToldWhatIsKeptAndThenWhatIsAnnounced(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		kept := sign(t, s, 1, time.Hour)
		p := servePublisher(t, PublisherConfig{Best: func(_ context.Context, n naming.Name) (naming.Record, error) {
			if n == s.Name() {
				return kept, nil
			}
			return naming.Record{}, naming.ErrNotFound
		}})
		c := visit(t, p, "reader")
		r := newPushReader(c)
		ask(t, c, pushWatch, other.Name(), s.Name())
		if got := hear(t, r, s.Name()); got.Sequence() != 1 {
			t.Fatalf("sequence %d is told first", got.Sequence())
		}
		p.Announce(sign(t, s, 2, time.Hour))
		if got := hear(t, r, s.Name()); got.Sequence() != 2 {
			t.Fatalf("sequence %d is told then", got.Sequence())
		}
		p.Announce(kept) // late
		p.Announce(sign(t, other, 7, time.Hour))
		if got := hear(t, r, other.Name()); got.Sequence() != 7 {
			t.Fatalf("sequence %d of the other", got.Sequence())
		}
		if peers, names := p.Watchers(); peers != 1 || names != 2 {
			t.Errorf("%d watch %d names", peers, names)
		}
		ask(t, c, pushUnwatch, s.Name(), nameNumber(1))
		synctest.Wait()
		p.Announce(sign(t, s, 3, time.Hour))
		p.Announce(sign(t, other, 8, time.Hour))
		if got := hear(t, r, other.Name()); got.Sequence() != 8 {
			t.Errorf("sequence %d", got.Sequence())
		}
		c.Close()
		synctest.Wait()
		p.leavesNothing(t)
	})
}

func TestASlowReaderGetsTheNewestRecordOfEachName(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		c := visit(t, p, "reader")
		ask(t, c, pushWatch, s.Name(), other.Name())
		synctest.Wait()
		const last = 100
		for i := range uint64(last) {
			p.Announce(sign(t, s, i+1, time.Hour))
			synctest.Wait() // the first is being written by now
		}
		p.Announce(sign(t, s, last-1, time.Hour)) // and one too late
		p.Announce(sign(t, other, 1, time.Hour))
		r := newPushReader(c)
		told := map[naming.Name][]uint64{}
		for range 3 {
			msg, err := r.next(0)
			if err != nil {
				t.Fatal(err)
			}
			n, raw, err := decodeTold(msg)
			if err != nil {
				t.Fatal(err)
			}
			rec, err := naming.OpenRecord(n, raw, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			told[n] = append(told[n], rec.Sequence())
		}
		if got := told[s.Name()]; !slices.Equal(got, []uint64{1, last}) || len(told[other.Name()]) != 1 {
			t.Errorf("told %v", told)
		}
		synctest.Wait()
		if ended(c) {
			t.Error("a slow reader was cut")
		}
	})
}

func TestAReaderThatTakesNothingIsCut(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		c := visit(t, p, "reader")
		ask(t, c, pushWatch, s.Name())
		synctest.Wait()
		p.Announce(sign(t, s, 1, time.Hour))
		time.Sleep(pushWait + time.Second)
		p.leavesNothing(t)
		if !ended(c) {
			t.Error("the stream is open")
		}
	})
}

func TestAStreamIsCutThat(t *testing.T) {
	for what, say := range map[string]func(s pipe){
		"asks nothing": func(pipe) {},
		"sends one byte a second": func(s pipe) {
			for _, b := range appendAsk(nil, pushWatch, nameNumber(1)) {
				if _, err := s.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"trickles after the first message": func(s pipe) {
			s.Write(appendAsk(nil, pushWatch, nameNumber(1)))
			time.Sleep(time.Hour)
			for {
				if _, err := s.Write([]byte{0x81}); err != nil {
					return
				}
				time.Sleep(9 * time.Second)
			}
		},
		"sends a varint without end":  func(s pipe) { s.Write(slices.Repeat([]byte{0xff}, 1000)) },
		"sends a message of 2^40":     func(s pipe) { s.Write([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x20}) },
		"sends a message of 10 401":   func(s pipe) { s.Write([]byte{0xa1, 0x51}) },
		"sends an empty message":      func(s pipe) { s.Write([]byte{0}) },
		"watches what no name can be": func(s pipe) { s.Write([]byte("\x04+abc")) },
		"speaks another protocol":     func(s pipe) { s.Write([]byte("GET / HTTP/1.1\r\n\r\n" + fmt.Sprint(make([]byte, 100)))) },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := servePublisher(t, PublisherConfig{})
				c := visit(t, p, "reader")
				say(c)
				time.Sleep(pushWait + time.Second)
				synctest.Wait()
				p.leavesNothing(t)
				if !ended(c) {
					t.Error("the stream is open")
				}
			})
		})
	}
}

func TestAnIdleWatcherIsKept(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		c := visit(t, p, "reader")
		ask(t, c, pushWatch, s.Name())
		time.Sleep(1000 * time.Hour)
		p.Announce(sign(t, s, 1, time.Hour))
		hear(t, newPushReader(c), s.Name())
	})
}

func TestAFloodOfAsksIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		p := servePublisher(t, PublisherConfig{Best: func(context.Context, naming.Name) (naming.Record, error) {
			looks++
			return naming.Record{}, naming.ErrNotFound
		}})
		total := 0
		for range 100 { // it comes back again and again
			c := visit(t, p, "reader")
			for i := range 1_000_000 {
				op := byte(pushWatch)
				if i%2 == 1 {
					op = pushUnwatch
				}
				if _, err := c.Write(appendAsk(nil, op, nameNumber(i/2%100))); err != nil {
					break
				}
				total++
			}
			synctest.Wait()
			p.leavesNothing(t)
		}
		if total < maxPushNames || total > asksAtOnce+100 || looks > total {
			t.Errorf("%d asks were read, and %d looked up", total, looks)
		}
		if n := len(p.visitors); n > 1 {
			t.Errorf("%d peers are remembered", n)
		}
		time.Sleep(time.Hour)
		visit(t, p, "another")
		synctest.Wait()
		if n := len(p.visitors); n > 1 {
			t.Errorf("%d peers are remembered after an hour", n)
		}
	})
}

func TestAStreamWatchesAtMost4096Names(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		c := visit(t, p, "reader")
		for i := range maxPushNames {
			ask(t, c, pushWatch, nameNumber(i))
		}
		ask(t, c, pushWatch, nameNumber(0)) // again
		ask(t, c, pushUnwatch, nameNumber(1))
		ask(t, c, pushWatch, nameNumber(maxPushNames))
		synctest.Wait()
		if _, names := p.Watchers(); names != maxPushNames || ended(c) {
			t.Fatalf("%d names are watched", names)
		}
		ask(t, c, pushWatch, nameNumber(1))
		synctest.Wait()
		if !ended(c) {
			t.Error("one name too many is watched")
		}
		p.leavesNothing(t)
	})
}

func TestASecondStreamOfAPeerReplacesTheFirst(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		first, another := visit(t, p, "reader"), visit(t, p, "another")
		ask(t, first, pushWatch, s.Name())
		ask(t, another, pushWatch, s.Name())
		synctest.Wait()
		second := visit(t, p, "reader")
		ask(t, second, pushWatch, s.Name())
		synctest.Wait()
		if peers, names := p.Watchers(); peers != 2 || names != 2 || !ended(first) {
			t.Fatalf("%d peers, %d names", peers, names)
		}
		p.Announce(sign(t, s, 1, time.Hour))
		hear(t, newPushReader(second), s.Name())
		hear(t, newPushReader(another), s.Name())
	})
}

func TestAtMost1024PeersWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		var streams []pipe
		for i := range maxPushPeers {
			c := visit(t, p, fmt.Sprint("peer ", i))
			ask(t, c, pushWatch, nameNumber(1))
			streams = append(streams, c)
		}
		late := visit(t, p, "late")
		synctest.Wait()
		if peers, _ := p.Watchers(); peers != maxPushPeers || !ended(late) {
			t.Fatalf("%d peers", peers)
		}
		again := visit(t, p, "peer 0")
		streams[1].Close()
		synctest.Wait()
		late = visit(t, p, "late")
		synctest.Wait()
		if ended(again) || ended(late) || ended(streams[2]) {
			t.Error("a peer was refused or cut without need")
		}
	})
}

func TestTenThousandStreamsOfAPeerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := servePublisher(t, PublisherConfig{})
		before := runtime.NumGoroutine()
		for range 10_000 {
			visit(t, p, "reader")
			synctest.Wait()
			if peers, _ := p.Watchers(); peers > 1 {
				t.Fatalf("%d streams at once", peers)
			}
		}
		if n := runtime.NumGoroutine() - before; n > 20 {
			t.Errorf("%d goroutines more", n)
		}
		if used := p.visitors["reader"].asks.used; used > asksAtOnce {
			t.Errorf("%v of %d asks are used", used, asksAtOnce)
		}
	})
}
