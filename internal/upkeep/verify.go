package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// VerifyRequest asks for a verification.
type VerifyRequest struct {
	Fix     bool  `json:"fix,omitempty"`     // bring from replicas what is damaged or missing
	Restart bool  `json:"restart,omitempty"` // begin at the beginning, where else an interrupted one is gone on with
	Rate    int64 `json:"rate,omitempty"`    // bytes read a second, at most; 0: as fast as the disk
}

// Report is what a verification found, and what was done about it. The lists
// hold at most 1000 entries each; the counts count all, but of what is missing only
// the first 1000.
type Report struct {
	Blocks  int64 `json:"blocks"` // read and hashed now
	Bytes   int64 `json:"bytes"`  // of segments, with those of the interrupted runs that this one went on with
	Garbage int64 `json:"garbage"`
	// Rebuilt is the index that was made anew before, by whoever says so; nil: it was not.
	Rebuilt  *Rebuilt       `json:"rebuilt,omitempty"`
	Damaged  []*Finding     `json:"damaged"`
	Missing  []*Finding     `json:"missing"`
	Unlisted []UnlistedRoot `json:"unlisted"`
	// Fixed and Left count blocks and roots that were mended, and that have something wrong still.
	Fixed int64 `json:"fixed"`
	Left  int64 `json:"left"`
	// Advice is what people can do about what is left, each line once.
	Advice []string `json:"advice"`
}

// Rebuilt is an index that was made anew.
type Rebuilt struct {
	Blocks int64  `json:"blocks"`
	Bytes  int64  `json:"bytes"`
	Roots  int    `json:"roots"`
	Old    string `json:"old"` // the folder where the damaged one is
}

// UnlistedRoot is a root that is kept, while the list of its blocks was lost with an index.
type UnlistedRoot struct {
	Need
	Fixed bool   `json:"fixed"`
	Why   string `json:"why,omitempty"`
}

// ErrNoVerifier says that the store is of a kind that can't be verified.
var ErrNoVerifier = errors.New("this store can't be verified")

// ErrIndex says that a verification could not be made because the store's index is damaged.
var ErrIndex = errors.New("the index is damaged")

// Verify reads and hashes everything, compares index and data, and looks whether
// all that is kept is there; with Fix it mends what it can. What is wrong is in
// the report, and no error; but ErrIndex where the index can't be read.
//
// It runs beside everything but collections. Where ctx ends the next one goes on from there.
func (c *Caretaker) Verify(ctx context.Context, req VerifyRequest, report func(Event)) (Report, error) {
	v, ok := c.cfg.Store.(blockstore.Verifier)
	if !ok {
		return Report{}, ErrNoVerifier
	}
	tell := seldom(100*time.Millisecond, report)
	got, err := v.Verify(ctx, blockstore.VerifyOptions{
		BytesPerSecond: req.Rate, Restart: req.Restart,
		Progress: func(p blockstore.Verified) { tell(Event{Step: "verify", Done: p.Bytes, Total: p.Total}) },
	})
	if errors.Is(err, blockstore.ErrCorrupt) {
		return Report{}, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	if err != nil {
		return Report{}, err
	}
	out := Report{Blocks: got.Blocks, Bytes: got.Bytes, Garbage: got.Garbage, Advice: []string{}, Unlisted: []UnlistedRoot{}}
	found := newFindings()
	for _, d := range got.Damaged {
		found.damaged(d)
	}
	for _, m := range got.Missing { // the damaged ones that are kept among them
		found.of(m.CID)
	}
	if err := c.tellNeeds(ctx, found); err != nil {
		return out, err
	}
	owners, err := c.ownersOf(ctx)
	if err != nil {
		return out, err
	}
	out.list(got.Unlisted, owners)
	if req.Fix {
		if err := c.fix(ctx, found, got.Unlisted, owners, &out, report); err != nil {
			return out, err
		}
	}
	out.sum(found)
	return out, nil
}

// list takes down the roots without a list.
func (r *Report) list(roots []blockstore.KeptRoot, owners keep) {
	for _, k := range roots {
		u := UnlistedRoot{Need: Need{Root: k.Root.String(), Owner: k.Owner, For: k.Owner}}
		if o := owners.owner(k); o != nil {
			u.For = o.Label
		}
		r.Unlisted = append(r.Unlisted, u)
	}
}

// owner is the owner that keeps the root; nil where nobody knows them.
func (k keep) owner(r blockstore.KeptRoot) *Owner {
	for _, o := range k[r.Root] {
		if o.ID == r.Owner {
			return o
		}
	}
	return nil
}

// sum fills in the lists and counts.
func (r *Report) sum(found *findings) {
	r.Damaged, r.Missing = []*Finding{}, []*Finding{}
	advised := map[string]bool{}
	for _, n := range found.order {
		list := &r.Missing
		if n.Since != nil {
			list = &r.Damaged
		}
		if len(*list) < maxListed {
			*list = append(*list, n)
		}
		if n.Fixed {
			r.Fixed++
			continue
		}
		r.Left++
		for _, o := range n.owners {
			if o.Advice != "" && !advised[o.Advice] && len(r.Advice) < maxListed {
				advised[o.Advice] = true
				r.Advice = append(r.Advice, o.Advice)
			}
		}
	}
	for _, u := range r.Unlisted {
		if u.Fixed {
			r.Fixed++
		} else {
			r.Left++
		}
	}
	r.Unlisted = r.Unlisted[:min(len(r.Unlisted), maxListed)]
}

func short(err error) string {
	const most = 300
	t := err.Error()
	if len(t) > most {
		t = t[:most] + "…"
	}
	return t
}
