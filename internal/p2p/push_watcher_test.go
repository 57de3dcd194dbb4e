package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func TestAWatchedNameIsHeardAtOnceAndUntilItIsNot(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		w := serveWatcher(t, k, net.open)
		if w.Watched(s.Name()) {
			t.Error("watched before it is")
		}
		w.Watch(s.Name(), ids("a"))
		synctest.Wait()
		if w.Watched(s.Name()) {
			t.Error("a peer that has no record counts as watched")
		}
		for i := range uint64(3) {
			a.publish(t, sign(t, s, i+1, time.Hour))
			synctest.Wait()
			if got := k.sequence(s.Name()); got != i+1 || !w.Watched(s.Name()) {
				t.Fatalf("sequence %d, watched %t", got, w.Watched(s.Name()))
			}
		}
		if peers, names := w.Watching(); peers != 1 || names != 1 {
			t.Errorf("%d peers, %d names", peers, names)
		}
		w.Unwatch(s.Name())
		w.Unwatch(s.Name())
		synctest.Wait()
		a.publish(t, sign(t, s, 9, time.Hour))
		synctest.Wait()
		if got := k.sequence(s.Name()); got != 3 || w.Watched(s.Name()) {
			t.Errorf("sequence %d is heard of a name that is not watched", got)
		}
		a.leavesNothing(t)
		w.leavesNothing(t)
	})
}

func TestManyNamesShareOneStreamAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		w := serveWatcher(t, k, net.open)
		for i := range 3000 {
			w.Watch(nameNumber(i), ids("a"))
		}
		synctest.Wait()
		if peers, names := a.Watchers(); peers != 1 || names != 3000 || net.tries("a") != 1 {
			t.Errorf("%d streams for %d names, after %d attempts", peers, names, net.tries("a"))
		}
	})
}

func TestTheNameWatchedLeastRecentlyGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		w := serveWatcher(t, k, net.open)
		for i := range maxPushNames {
			w.Watch(nameNumber(i), ids("a"))
		}
		time.Sleep(time.Minute)
		w.Watch(nameNumber(0), ids("a"))
		for i := range 5000 { // never more than the peer takes
			w.Watch(nameNumber(maxPushNames+i), ids("a"))
			if i%50 == 0 {
				time.Sleep(time.Second)
			}
			if i == 0 && (w.names[nameNumber(1)] != nil || w.names[nameNumber(0)] == nil) {
				t.Error("not the oldest was given up")
			}
		}
		time.Sleep(time.Minute)
		if _, names := a.Watchers(); names != maxPushNames || net.tries("a") != 1 || len(w.names) != maxPushNames {
			t.Errorf("%d names after %d attempts", names, net.tries("a"))
		}
		for i := range 2 * maxPushNames {
			w.Unwatch(nameNumber(i))
		}
		for i := range 2000 {
			w.Unwatch(nameNumber(2*maxPushNames + i))
		}
		synctest.Wait()
		w.leavesNothing(t)
	})
}

func TestANameIsWatchedAtThreeAndMovesOnFromOneThatStaysAway(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		for _, id := range []peer.ID{"a", "b", "c", "d", "e"} {
			net.start(t, id)
		}
		w := serveWatcher(t, k, net.open)
		w.Watch(s.Name(), ids("a", "b", "c", "d", "e", "a"))
		synctest.Wait()
		if at := w.at(s.Name()); !slices.Equal(at, []peer.ID{"a", "b", "c"}) {
			t.Fatalf("watched at %q", at)
		}
		net.holders["a"].stop()
		time.Sleep(500 * time.Millisecond)
		if at := w.at(s.Name()); !slices.Contains(at, "a") {
			t.Error("a peer was given up before it was tried again")
		}
		time.Sleep(time.Minute)
		if at := w.at(s.Name()); !slices.Equal(at, []peer.ID{"b", "c", "d"}) {
			t.Fatalf("watched at %q", at)
		}
		net.holders["b"].stop()
		net.holders["c"].stop()
		net.holders["d"].stop()
		time.Sleep(10 * time.Minute)
		if at := w.at(s.Name()); len(at) != 3 || !slices.Contains(at, "e") {
			t.Fatalf("watched at %q", at)
		}
		net.holders["e"].publish(t, sign(t, s, 1, time.Hour))
		synctest.Wait()
		if k.sequence(s.Name()) != 1 {
			t.Error("the last one left is not heard")
		}
		// Where nobody is left, whoever comes back is found.
		net.holders["e"].stop()
		time.Sleep(time.Hour)
		net.start(t, "c").publish(t, sign(t, s, 2, time.Hour))
		time.Sleep(30 * time.Minute)
		if k.sequence(s.Name()) != 2 || !w.Watched(s.Name()) {
			t.Error("a peer that came back is not heard")
		}
	})
}

func TestPeersThatAreWatchedAlreadyOrConnectedComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		for _, id := range []peer.ID{"a", "b", "c", "d", "e"} {
			net.start(t, id)
		}
		w := serveWatcher(t, k, net.open)
		w.connected = func(id peer.ID) bool { return id == "d" }
		w.Watch(nameNumber(1), ids("e"))
		synctest.Wait()
		w.Watch(nameNumber(2), ids("a", "b", "c", "d", "e"))
		synctest.Wait()
		if at := w.at(nameNumber(2)); !slices.Equal(at, []peer.ID{"a", "d", "e"}) {
			t.Errorf("watched at %q", at)
		}
		w.Watch(nameNumber(2), ids("b"))
		synctest.Wait()
		if at := w.at(nameNumber(2)); !slices.Equal(at, []peer.ID{"b"}) {
			t.Errorf("watched at %q", at)
		}
		if _, names := net.holders["a"].Watchers(); names != 0 {
			t.Error("it is still watched elsewhere")
		}
	})
}

func TestALostPeerIsTriedAgainWithPatience(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		w := serveWatcher(t, k, net.open)
		w.Watch(s.Name(), ids("a"))
		a.publish(t, sign(t, s, 1, 24*time.Hour))
		synctest.Wait()
		a.stop()
		synctest.Wait()
		if w.Watched(s.Name()) {
			t.Error("watched at nobody")
		}
		before := net.tries("a")
		time.Sleep(time.Hour)
		if n := net.tries("a") - before; n < 30 || n > 130 {
			t.Errorf("%d attempts in an hour", n)
		}
		a = net.start(t, "a")
		a.publish(t, sign(t, s, 2, 24*time.Hour)) // nobody watches yet
		time.Sleep(2 * retryMax)
		if k.sequence(s.Name()) != 2 || !w.Watched(s.Name()) {
			t.Error("what was published meanwhile is not heard")
		}
		a.stop()
		time.Sleep(time.Hour)
		a = net.start(t, "a")
		a.publish(t, sign(t, s, 3, 24*time.Hour))
		w.reached("a") // it has connected to us
		synctest.Wait()
		if k.sequence(s.Name()) != 3 {
			t.Error("a peer that turned up by itself has to wait")
		}
	})
}

func TestAnOlderRecordIsNotWhatIsWatched(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		old := sign(t, s, 1, time.Hour)
		if err := k.records.Accept(t.Context(), sign(t, s, 2, time.Hour)); err != nil {
			t.Fatal(err)
		}
		a.publish(t, old)
		w := serveWatcher(t, k, net.open)
		w.Watch(s.Name(), ids("a"))
		synctest.Wait()
		if w.Watched(s.Name()) || k.count() != 1 {
			t.Error("a peer that is behind counts as watched")
		}
		a.publish(t, sign(t, s, 3, time.Hour))
		synctest.Wait()
		if !w.Watched(s.Name()) || k.sequence(s.Name()) != 3 {
			t.Error("a peer that has caught up does not")
		}
	})
}

func TestAWatcherHasAtMost128Streams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		w := serveWatcher(t, k, net.open)
		for i := range 200 {
			net.start(t, peer.ID(fmt.Sprint("holder ", i)))
			w.Watch(nameNumber(i), ids(fmt.Sprint("holder ", i)))
		}
		synctest.Wait()
		if peers, names := w.Watching(); peers != maxWatchStreams || names != 200 {
			t.Errorf("%d streams for %d names", peers, names)
		}
		w.Unwatch(nameNumber(0))
		w.Watch(nameNumber(199), ids("holder 199"))
		synctest.Wait()
		if at := w.at(nameNumber(199)); len(at) != 1 {
			t.Error("a free place is not used")
		}
	})
}

func TestAWatcherThatIsServedAgainWatchesAgain(t *testing.T) {
	s := newSigner(t)
	synctest.Test(t, func(t *testing.T) {
		net, k := newPipeNet(), newKeeper()
		a := net.start(t, "a")
		w := newWatcher(WatcherConfig{Found: k.found}, slog.New(slog.DiscardHandler))
		w.open, w.connected = net.open, func(peer.ID) bool { return false }
		w.Watch(s.Name(), ids("a"))
		for i := range uint64(2) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); w.Serve(ctx) }()
			synctest.Wait()
			a.publish(t, sign(t, s, i+1, time.Hour))
			synctest.Wait()
			if got := k.sequence(s.Name()); got != i+1 {
				t.Errorf("sequence %d", got)
			}
			cancel()
			<-done
			time.Sleep(time.Minute)
			a.leavesNothing(t)
		}
	})
}
