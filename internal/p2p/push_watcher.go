package p2p

import (
	"container/list"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// The size of a Watcher.
const (
	watchCopies     = 3   // peers at which a name is watched
	maxWatchChoice  = 16  // peers to choose them from
	maxWatchAddrs   = 16  // addresses of a peer
	maxWatchStreams = 128 // peers at which anything is watched
)

// WatcherConfig says what to do with what is heard.
type WatcherConfig struct {
	// Found gets each record that arrives for a watched name: unchecked bytes of at most naming.MaxRecordSize, which it
	// may keep. It verifies them, and tells whether they are the name's record, kept now or before: only
	// then does the name count as watched there. After naming.ErrInvalidRecord, but for naming.ErrExpired, the peer is not
	// listened to for a while. Calls for one peer come one after another, those for several at the same time. Required.
	Found func(ctx context.Context, n naming.Name, record []byte) error
}

// Watcher watches names at peers that serve a Publisher: it hears of a new record as soon as they have it. The
// names watched at a peer share one stream. Its methods may be called concurrently, and do nothing where the network is Offline.
type Watcher struct {
	found func(context.Context, naming.Name, []byte) error
	log   *slog.Logger
	node  *Node // its host is nil when Offline
	// what it needs of the node; a test has others
	open      func(context.Context, peer.AddrInfo) (pushStream, error)
	connected func(peer.ID) bool
	more      chan struct{} // tells Serve that there are links to run

	mu     sync.Mutex
	names  map[naming.Name]*list.Element // of *watched
	recent *list.List                    // of *watched, the least recently watched first
	links  map[peer.ID]*link
	active int // links with names
}

// watched is a name and where to watch it. It is guarded by the Watcher's mu.
type watched struct {
	name   naming.Name
	choice []*link // in the order given
	at     []*link // at most watchCopies of them
}

// NewWatcher makes a Watcher of this node.
func (n *Node) NewWatcher(cfg WatcherConfig) *Watcher {
	w := newWatcher(cfg, n.log)
	w.node, w.open = n, n.openNames
	w.connected = func(id peer.ID) bool { return n.host.Network().Connectedness(id) == network.Connected }
	return w
}

func newWatcher(cfg WatcherConfig, log *slog.Logger) *Watcher {
	return &Watcher{
		found: cfg.Found, log: log, more: make(chan struct{}, 1),
		names: map[naming.Name]*list.Element{}, recent: list.New(), links: map[peer.ID]*link{},
	}
}

// openNames opens a stream over a connection that is there, or else dials the peer where that is allowed.
func (n *Node) openNames(ctx context.Context, ai peer.AddrInfo) (pushStream, error) {
	if err := n.connect(ctx, ai); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected"), n.cfg.ConnectTimeout)
	defer cancel()
	return n.host.NewStream(ctx, ai.ID, NamesProtocol)
}

func (w *Watcher) offline() bool { return w.node != nil && w.node.host == nil }

// Serve watches until ctx ends; then it ends all streams and returns nil. What is watched stays for the next Serve.
func (w *Watcher) Serve(ctx context.Context) error {
	if w.offline() {
		<-ctx.Done()
		return nil
	}
	if w.node != nil {
		met := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) { w.reached(c.RemotePeer()) }}
		w.node.host.Network().Notify(met)
		defer w.node.host.Network().StopNotify(met)
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, l := range w.idle() {
			running.Go(func() { w.run(ctx, l) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.more:
		}
	}
}

// idle is the links that have names and don't run. They count as running from now on.
func (w *Watcher) idle() (links []*link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.links {
		if len(l.names) > 0 && !l.running {
			l.running = true
			links = append(links, l)
		}
	}
	return links
}

// reached makes a link try again at once, now that the peer is there.
func (w *Watcher) reached(id peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l := w.links[id]; l != nil {
		signal(l.retry)
	}
}

// Watch keeps a name watched at up to three of the peers: those where others are watched already first, then those that are
// connected, then the first in the list; another when one stays away. Only the first 16 count; they replace those
// given before. A peer that is not connected is dialled, at those of its addresses that may be dialled. Of more than 4096 names
// the one that was not watched anew for the longest time is given up.
func (w *Watcher) Watch(n naming.Name, peers []peer.AddrInfo) {
	if n.IsZero() || w.offline() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.names[n]
	if e == nil {
		e = w.recent.PushBack(&watched{name: n})
		w.names[n] = e
	}
	w.recent.MoveToBack(e)
	x := e.Value.(*watched)
	old := x.choice
	x.choice = w.choose(peers)
	w.assign(x)
	w.release(old)
	if w.recent.Len() > maxPushNames {
		w.giveUp(w.recent.Front())
	}
}

// Unwatch ends what Watch began.
func (w *Watcher) Unwatch(n naming.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.names[n]; e != nil {
		w.giveUp(e)
	}
}

// Watched tells whether a new record of the name would arrive by itself: at least one peer watches it for us, and the last
// that it told of the name was accepted.
func (w *Watcher) Watched(n naming.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.names[n]
	return e != nil && slices.ContainsFunc(e.Value.(*watched).at, func(l *link) bool { return l.names[n] == heard })
}

// Watching is how many peers are connected to watch names at, and how many names are to be watched.
func (w *Watcher) Watching() (peers, names int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.links {
		if l.up {
			peers++
		}
	}
	return peers, len(w.names)
}

// giveUp is called with mu held.
func (w *Watcher) giveUp(e *list.Element) {
	x := w.recent.Remove(e).(*watched)
	delete(w.names, x.name)
	old := x.choice
	x.choice = nil
	w.assign(x)
	w.release(old)
}

// choose turns peers into links, each of which is now held once more. It is called with mu held.
func (w *Watcher) choose(peers []peer.AddrInfo) (links []*link) {
	for _, ai := range peers {
		if len(links) == maxWatchChoice {
			break
		}
		if ai.ID == "" || w.node != nil && ai.ID == w.node.id {
			continue
		}
		l := w.links[ai.ID]
		if l == nil {
			l = newLink(ai.ID)
			w.links[ai.ID] = l
		}
		if len(ai.Addrs) > 0 {
			l.addrs = slices.Clone(ai.Addrs[:min(len(ai.Addrs), maxWatchAddrs)])
		}
		if !slices.Contains(links, l) {
			links = append(links, l)
			l.held++
		}
	}
	return links
}

// release undoes choose. It is called with mu held.
func (w *Watcher) release(links []*link) {
	for _, l := range links {
		if l.held--; l.held == 0 {
			delete(w.links, l.id)
		}
	}
}

// assign settles at which peers a name is watched now. It is called with mu held.
func (w *Watcher) assign(x *watched) {
	at := w.rank(x)
	room := maxWatchStreams - w.active
	at = slices.DeleteFunc(at, func(l *link) bool {
		if len(l.names) > 0 {
			return false
		}
		room--
		return room < 0
	})
	at = at[:min(len(at), watchCopies)]
	for _, l := range x.at {
		if !slices.Contains(at, l) {
			w.detach(l, x.name)
		}
	}
	for _, l := range at {
		if !slices.Contains(x.at, l) {
			w.attach(l, x.name)
		}
	}
	x.at = at
}

// rank is the links of a name, the best first. Among those that are away each has its turn.
func (w *Watcher) rank(x *watched) []*link {
	keys := map[*link][3]int{}
	for _, l := range x.choice {
		key := [3]int{w.class(l)}
		if key[0] == classAway {
			key[1] = l.failures
		}
		if !slices.Contains(x.at, l) {
			key[2] = 1
		}
		keys[l] = key
	}
	return slices.SortedStableFunc(slices.Values(x.choice), func(a, b *link) int {
		ka, kb := keys[a], keys[b]
		return slices.Compare(ka[:], kb[:])
	})
}

// The kinds of peers, in the order in which they are chosen.
const (
	classUp = iota
	classConnected
	classUnknown
	classAway
)

func (w *Watcher) class(l *link) int {
	switch {
	case l.up:
		return classUp
	case l.away():
		return classAway
	case w.connected(l.id):
		return classConnected
	}
	return classUnknown
}

// moveAway watches elsewhere, where that can be, what is watched at a peer that stays away. It is called with mu held.
func (w *Watcher) moveAway(l *link) {
	names := make([]naming.Name, 0, len(l.names))
	for n := range l.names {
		names = append(names, n)
	}
	for _, n := range names {
		w.assign(w.names[n].Value.(*watched))
	}
}
