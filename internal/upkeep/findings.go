package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// maxListed bounds each list of a report.
const maxListed = 1000

// Finding is one block that is damaged, or that is kept and not there.
type Finding struct {
	CID    string     `json:"cid"`
	Since  *time.Time `json:"since,omitempty"`  // when it was found damaged; nil: it is missing
	Reason string     `json:"reason,omitempty"` // what is wrong with it
	Needed []Need     `json:"needed"`           // by whom, at most 16; empty: nobody who is known
	Fixed  bool       `json:"fixed"`
	Why    string     `json:"why,omitempty"` // it could not be fixed

	id     cid.Cid // as a root's list spells it, where one does
	owners map[string]*Owner
}

// Need is one root that a block belongs to.
type Need struct {
	Root  string `json:"root"`
	Owner string `json:"owner"`
	For   string `json:"for"` // the owner for people: `site "blog"`
}

// maxNeeds bounds the needs told of one block.
const maxNeeds = 16

// findings are blocks with something wrong, each once.
type findings struct {
	byHash map[string]*Finding
	order  []*Finding
}

func newFindings() *findings { return &findings{byHash: map[string]*Finding{}} }

// of is the finding about a block, made where there is none.
func (f *findings) of(id cid.Cid) *Finding {
	key := string(id.Hash())
	if known := f.byHash[key]; known != nil {
		return known
	}
	n := &Finding{CID: id.String(), Needed: []Need{}, id: id, owners: map[string]*Owner{}}
	f.byHash[key], f.order = n, append(f.order, n)
	return n
}

func (f *findings) damaged(d blockstore.Damage) {
	n := f.of(d.CID)
	n.Since, n.Reason = &d.Since, d.Reason
}

// owners is everybody who needs any of the blocks, each once.
func (f *findings) owners() map[string]*Owner {
	all := map[string]*Owner{}
	for _, n := range f.order {
		for id, o := range n.owners {
			all[id] = o
		}
	}
	return all
}

// need notes that a root of these owners consists of this block, too.
func (n *Finding) need(as, root cid.Cid, owners []*Owner) {
	// The store knows hashes; people know the CID by which a folder links to it.
	n.id, n.CID = as, as.String()
	if len(owners) == 0 && len(n.Needed) < maxNeeds {
		n.Needed = append(n.Needed, Need{Root: root.String(), For: "an owner of whom nothing else is known here"})
	}
	for _, o := range owners {
		if n.owners[o.ID] = o; len(n.Needed) < maxNeeds {
			n.Needed = append(n.Needed, Need{Root: root.String(), Owner: o.ID, For: o.Label})
		}
	}
}

// tellNeeds looks up who needs the blocks: one pass over the lists of
// everything that is kept.
func (c *Caretaker) tellNeeds(ctx context.Context, found *findings) error {
	if len(found.order) == 0 {
		return nil
	}
	owners, err := c.ownersOf(ctx)
	if err != nil {
		return err
	}
	roots, err := c.cfg.Store.Kept(ctx, "")
	if err != nil {
		return err
	}
	for _, root := range roots {
		told := map[string]bool{} // a list may name a block twice
		for id, err := range c.cfg.Store.KeptCIDs(ctx, root) {
			if errors.Is(err, blockstore.ErrCorrupt) || errors.Is(err, blockstore.ErrNotFound) {
				break // its list is gone, or it was released meanwhile
			}
			if err != nil {
				return err
			}
			n := found.byHash[string(id.Hash())]
			if n == nil || told[string(id.Hash())] {
				continue
			}
			told[string(id.Hash())] = true
			n.need(id, root, owners[root])
		}
	}
	return nil
}

// ownersOf is who keeps each root. One whose owner nobody knows has an owner
// without a name.
func (c *Caretaker) ownersOf(ctx context.Context) (keep, error) {
	owners, err := c.cfg.Owners(ctx)
	if err != nil {
		return nil, err
	}
	of := keep{}
	for i := range owners {
		roots, err := c.cfg.Store.Kept(ctx, owners[i].ID)
		if err != nil {
			return nil, err
		}
		for _, r := range roots {
			of[r] = append(of[r], &owners[i])
		}
	}
	return of, nil
}

// keep is who keeps each root.
type keep map[cid.Cid][]*Owner
