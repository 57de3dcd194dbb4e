package p2p

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

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
	mu   sync.Mutex
	said map[peer.ID]string
}

func (a *answers) note(id peer.ID, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.said == nil {
		a.said = map[peer.ID]string{}
	}
	if _, known := a.said[id]; known || len(a.said) < maxAnswers {
		a.said[id] = fmt.Sprintf(format, args...)
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

// waits is the CIDs that somebody waits for at the moment, and who said that
// they don't have them. It listens to bitswap's messages.
type waits struct {
	mu   sync.Mutex
	cids map[cid.Cid]*wait
}

type wait struct {
	waiters int
	refused map[peer.ID]bool
}

// begin starts to listen for answers about c, until end is called. end returns who
// said that they don't have it.
func (w *waits) begin(c cid.Cid) (end func() []peer.ID) {
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
	return func() (ids []peer.ID) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if x.waiters--; x.waiters == 0 {
			delete(w.cids, c)
		}
		for id := range x.refused {
			ids = append(ids, id)
		}
		return ids
	}
}

// MessageReceived implements bitswap's tracer.
func (w *waits) MessageReceived(id peer.ID, m bsmsg.BitSwapMessage) {
	donts := m.DontHaves()
	if len(donts) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range donts {
		if x := w.cids[c]; x != nil && len(x.refused) < maxAnswers {
			x.refused[id] = true
		}
	}
}

// MessageSent implements bitswap's tracer.
func (w *waits) MessageSent(peer.ID, bsmsg.BitSwapMessage) {}
