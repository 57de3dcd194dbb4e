package p2p

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// hostile is a peer that answers whatever it is asked with what say writes.
func hostile(say func(s pushStream)) func(context.Context, peer.AddrInfo) (pushStream, error) {
	return func(context.Context, peer.AddrInfo) (pushStream, error) {
		ours, theirs := newPipe()
		go func() {
			defer theirs.Close()
			r := newPushReader(theirs)
			if _, err := r.next(0); err == nil {
				go say(theirs)
			}
			for {
				if _, err := r.next(0); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}
}

func TestWhatWasNotAskedForIsDropped(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper()
		w := serveWatcher(t, k, hostile(func(c pushStream) {
			c.Write(appendTold(nil, other.Name(), sign(t, other, 1, time.Hour).Bytes()))
			c.Write(appendTold(nil, nameNumber(1), []byte("junk")))
			c.Write(appendTold(nil, s.Name(), make([]byte, naming.MaxRecordSize+1)))
			c.Write(appendTold(nil, s.Name(), sign(t, s, 1, time.Hour).Bytes()))
		}))
		w.Watch(s.Name(), ids("a"))
		synctest.Wait()
		if k.count() != 1 || k.sequence(s.Name()) != 1 || k.sequence(other.Name()) != 0 || !w.Watched(s.Name()) {
			t.Errorf("%d records were found, sequence %d", k.count(), k.sequence(s.Name()))
		}
	})
}

func TestAPeerIsLeftAloneThat(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	for what, say := range map[string]func(c pushStream){
		"hangs up":                   func(c pushStream) { c.Reset() },
		"sends a record of another":  func(c pushStream) { c.Write(appendTold(nil, s.Name(), sign(t, other, 1, time.Hour).Bytes())) },
		"sends junk":                 func(c pushStream) { c.Write(appendTold(nil, s.Name(), []byte("junk"))) },
		"sends a message of 10 401":  func(c pushStream) { c.Write([]byte{0xa1, 0x51}) },
		"sends a varint without end": func(c pushStream) { c.Write(slices.Repeat([]byte{0xff}, 1000)) },
		"sends no name":              func(c pushStream) { c.Write([]byte{2, 1, 1}) },
		"sends one byte of it a second": func(c pushStream) {
			for _, b := range appendTold(nil, s.Name(), make([]byte, 1000)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeeper()
				t.Cleanup(func() { time.Sleep(2 * time.Second) }) // for who still trickles
				bad, good := hostile(say), newPipeNet()
				var tries atomic.Int32
				h := good.start(t, "good")
				w := serveWatcher(t, k, func(ctx context.Context, ai peer.AddrInfo) (pushStream, error) {
					if ai.ID == "good" {
						return good.open(ctx, ai)
					}
					tries.Add(1)
					return bad(ctx, ai)
				})
				w.Watch(s.Name(), ids("bad", "quiet", "silent", "good"))
				time.Sleep(10 * time.Minute)
				if at := w.at(s.Name()); !slices.Contains(at, "good") {
					t.Errorf("watched at %q", at)
				}
				if w.Watched(s.Name()) {
					t.Error("a peer that tells nothing true counts as watched")
				}
				if n := tries.Load(); n > 120 {
					t.Errorf("%d attempts", n)
				}
				h.publish(t, sign(t, s, 1, time.Hour))
				synctest.Wait()
				if k.sequence(s.Name()) != 1 {
					t.Error("the good one is not heard")
				}
			})
		})
	}
}

func TestAFloodOfRecordsIsPaced(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper()
		w := serveWatcher(t, k, hostile(func(c pushStream) {
			m := appendTold(nil, s.Name(), sign(t, s, 1, time.Hour).Bytes())
			for {
				if _, err := c.Write(m); err != nil {
					return
				}
			}
		}))
		w.found = func(context.Context, naming.Name, []byte) error { k.mu.Lock(); k.calls++; k.mu.Unlock(); return nil }
		w.Watch(s.Name(), ids("a"))
		time.Sleep(time.Minute)
		if n := k.count(); n < linkNews || n > linkNews+61*linkNewsRate {
			t.Errorf("%d records were checked in a minute", n)
		}
	})
}
