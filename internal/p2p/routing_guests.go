package p2p

import (
	"container/list"
	"sync"

	"github.com/holdfast-sites/holdfast/naming"
)

// guests is the records of names that nobody here follows, in memory. At most max are kept; when one more comes, the
// oldest goes of the remote that has put most of them, so that a flood from one displaces only itself.
type guests struct {
	max int

	mu     sync.Mutex
	byName map[naming.Name]*list.Element // of guest, in the list of its owner
	owners map[string]*list.List         // by remote, least recently put first; none is empty
}

type guest struct {
	record naming.Record
	owner  string
}

func newGuests(max int) *guests {
	return &guests{max: max, byName: map[naming.Name]*list.Element{}, owners: map[string]*list.List{}}
}

func (g *guests) get(name naming.Name) (naming.Record, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	el, ok := g.byName[name]
	if !ok {
		return naming.Record{}, false
	}
	return el.Value.(guest).record, true
}

// take is get, and forgets the record.
func (g *guests) take(name naming.Name) (naming.Record, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	el, ok := g.byName[name]
	if !ok {
		return naming.Record{}, false
	}
	g.remove(el)
	return el.Value.(guest).record, true
}

// accept follows the rule of naming.Records. from is the remote that has put rec.
func (g *guests) accept(rec naming.Record, from string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if el, ok := g.byName[rec.Name()]; ok {
		old := el.Value.(guest)
		if rec.Compare(old.record) < 0 {
			return &naming.OlderError{Name: rec.Name(), Offered: rec.Sequence(), Floor: old.record.Sequence()}
		}
		if err := rec.MayFollow(old.record); err != nil {
			return err
		}
		// Whoever floods could put others' records too: they stay with the one that has fewer.
		if g.count(old.owner) <= g.count(from) {
			from = old.owner
		}
		g.remove(el)
	}
	if g.owners[from] == nil {
		g.owners[from] = list.New()
	}
	g.byName[rec.Name()] = g.owners[from].PushBack(guest{rec, from})
	if len(g.byName) > g.max {
		g.remove(g.most().Front())
	}
	return nil
}

func (g *guests) count(owner string) int {
	if l := g.owners[owner]; l != nil {
		return l.Len()
	}
	return 0
}

func (g *guests) remove(el *list.Element) {
	v := el.Value.(guest)
	delete(g.byName, v.record.Name())
	owned := g.owners[v.owner]
	owned.Remove(el)
	if owned.Len() == 0 {
		delete(g.owners, v.owner)
	}
}

// most is the list of the remote that has put most.
func (g *guests) most() (most *list.List) {
	for _, l := range g.owners {
		if most == nil || l.Len() > most.Len() {
			most = l
		}
	}
	return most
}
