package p2p

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// maxAnswers bounds the peers that one error names.
const maxAnswers = 32

// Answer is what one peer said when it was asked for blocks.
type Answer struct {
	Peer peer.ID
	Said string
}

func (a Answer) String() string { return a.Peer.String() + ": " + a.Said }

// AskedError says that blocks could not be had, who was asked for them, and
// what each said. It is the cause inside a blockstore.BlockError of kind ErrUnavailable.
type AskedError struct {
	Answers []Answer // sorted by peer; at most 32
	Cause   error    // why it was given up; may be nil
}

func (e *AskedError) Error() string {
	var b strings.Builder
	if e.Cause != nil {
		fmt.Fprintf(&b, "%v; ", e.Cause)
	}
	if len(e.Answers) == 0 {
		b.WriteString("there was nobody to ask")
		return b.String()
	}
	fmt.Fprintf(&b, "asked %d: %s", len(e.Answers), strings.Join(e.Asked(), "; "))
	return b.String()
}

// Unwrap is the cause.
func (e *AskedError) Unwrap() error { return e.Cause }

// Asked lists the peers asked and what each said, one line each.
func (e *AskedError) Asked() []string {
	lines := make([]string, 0, len(e.Answers))
	for _, a := range e.Answers {
		lines = append(lines, a.String())
	}
	return lines
}

// answers collects what peers say. The last word of a peer counts, except that "said nothing" never replaces something.
type answers struct {
	watch SourceWatcher // may be nil
	mu    sync.Mutex
	said  map[peer.ID]string
}

// SourceWatcher is what the session that a Fetch puts into may be beside a session: it is told who gave how
// much, and who failed how. The methods return at once.
type SourceWatcher interface {
	// Gave says that bytes came from a peer, as they came: what was refused counts, too.
	Gave(id peer.ID, bytes int64)
	// Failed says what was wrong with a peer. The last word counts.
	Failed(id peer.ID, why string)
}

// gave passes on that bytes came from a peer; the empty peer is nobody.
func (a *answers) gave(id peer.ID, bytes int64) {
	if a.watch != nil && id != "" {
		a.watch.Gave(id, bytes)
	}
}

func (a *answers) note(id peer.ID, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said == nil {
		a.said = map[peer.ID]string{}
	}
	if _, known := a.said[id]; known || len(a.said) < maxAnswers {
		a.said[id] = fmt.Sprintf(format, args...)
		if a.watch != nil {
			a.watch.Failed(id, a.said[id])
		}
	}
}

// noteSilent notes peers that were asked and may not have answered.
func (a *answers) noteSilent(ids []peer.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said == nil {
		a.said = map[peer.ID]string{}
	}
	for _, id := range ids {
		if _, known := a.said[id]; !known && len(a.said) < maxAnswers {
			a.said[id] = "did not send it"
			if a.watch != nil {
				a.watch.Failed(id, a.said[id])
			}
		}
	}
}

func (a *answers) list() []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]Answer, 0, len(a.said))
	for id, said := range a.said {
		list = append(list, Answer{id, said})
	}
	slices.SortFunc(list, func(x, y Answer) int { return cmp.Compare(x.Peer, y.Peer) })
	return list
}

// waits is the CIDs that somebody waits for at the moment, who sent them, and who said that
// they don't have them. It listens to bitswap's messages.
type waits struct {
	lanes atomic.Pointer[lanes] // hear who has what; nil: nobody does

	mu     sync.Mutex
	cids   map[cid.Cid]*wait
	trials map[peer.ID]*trial
}

type wait struct {
	waiters int
	refused map[peer.ID]bool
	giver   peer.ID // who sent it first
}

// begin starts to listen for answers about c, until end is called. end returns who
// said that they don't have it, and who sent it, empty where nobody did.
func (w *waits) begin(c cid.Cid) (end func() (refused []peer.ID, giver peer.ID)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cids == nil {
		w.cids = map[cid.Cid]*wait{}
	}
	if w.cids[c] == nil {
		w.cids[c] = &wait{refused: map[peer.ID]bool{}}
	}
	x := w.cids[c]
	x.waiters++
	return func() (ids []peer.ID, giver peer.ID) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if x.waiters--; x.waiters == 0 {
			delete(w.cids, c)
		}
		for id := range x.refused {
			ids = append(ids, id)
		}
		return ids, x.giver
	}
}

// trial is a peer of whom is not known yet whether it is of use. Its fields are guarded by the mutex of its waits.
type trial struct {
	heard  chan struct{} // closed with its first word on what is waited for
	spoke  bool
	useful bool // it had something of it, once
}

// try listens to whether a peer has what is waited for, until forget is called.
func (w *waits) try(id peer.ID) *trial {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trials == nil {
		w.trials = map[peer.ID]*trial{}
	}
	t := &trial{heard: make(chan struct{})}
	w.trials[id] = t
	return t
}

// forget ends a trial, and tells whether the peer was of use.
func (w *waits) forget(id peer.ID, t *trial) (useful bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.trials[id] == t { // else another search tries it too, and began later
		delete(w.trials, id)
	}
	return t.useful
}

// MessageReceived implements bitswap's tracer.
func (w *waits) MessageReceived(id peer.ID, m bsmsg.BitSwapMessage) {
	donts, blks, haves := m.DontHaves(), m.Blocks(), m.Haves()
	has := len(haves) > 0 || len(blks) > 0
	if l := w.lanes.Load(); l != nil {
		for _, c := range haves {
			l.has(id, c)
		}
		for _, b := range blks {
			l.has(id, b.Cid())
		}
	}
	w.hear(id, has, has || len(donts) > 0)
	if len(donts)+len(blks) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range blks {
		if x := w.cids[b.Cid()]; x != nil && x.giver == "" {
			x.giver = id
		}
	}
	for _, c := range donts {
		if x := w.cids[c]; x != nil && len(x.refused) < maxAnswers {
			x.refused[id] = true
		}
	}
}

func (w *waits) hear(id peer.ID, useful, spoke bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.trials[id]
	if t == nil || !spoke {
		return
	}
	t.useful = t.useful || useful
	if !t.spoke {
		t.spoke = true
		close(t.heard)
	}
}

// MessageSent implements bitswap's tracer.
func (w *waits) MessageSent(peer.ID, bsmsg.BitSwapMessage) {}
