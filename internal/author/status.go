package author

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// SiteStatus is what is known of a site, from evidence of our own.
type SiteStatus struct {
	Alias      string      `json:"alias"`
	Name       string      `json:"name"`
	Root       string      `json:"root"`
	Release    string      `json:"release"`
	Number     uint64      `json:"number"`
	Sequence   uint64      `json:"sequence"`
	Files      int64       `json:"files"`
	Bytes      int64       `json:"bytes"`
	Copies     int         `json:"copies"` // wanted
	Published  *time.Time  `json:"published"`
	ValidUntil *time.Time  `json:"valid_until"`
	SafeUntil  *time.Time  `json:"safe_until"`
	Live       bool        `json:"live"`
	URL        string      `json:"url"`
	Hosts      []HostState `json:"hosts"`
	Stored     *Stored     `json:"stored,omitempty"` // nil where the block store was not opened
}

// Stored is what the releases of a site that are kept here take in the block store, in bytes of blocks.
type Stored struct {
	Bytes       int64 `json:"bytes"`
	UniqueBytes int64 `json:"unique_bytes"` // that nothing else here needs
}

// StatusRequest asks about one site, or about all where Alias is empty.
type StatusRequest struct {
	Alias string `json:"site,omitempty"`
	// Check audits each holder now, instead of showing the last proofs.
	Check bool `json:"check,omitempty"`
}

// Status tells what is known of the sites published here.
func (a *Author) Status(ctx context.Context, req StatusRequest, report func(Event)) ([]SiteStatus, error) {
	sites, err := a.sites(ctx, req.Alias)
	if err != nil {
		return nil, err
	}
	out := []SiteStatus{}
	for _, s := range sites {
		if req.Check {
			if err := a.recheck(ctx, s, report); err != nil {
				return nil, err
			}
		}
		st, err := a.siteStatus(ctx, s)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

func (a *Author) sites(ctx context.Context, alias string) ([]state.Site, error) {
	if alias == "" {
		return a.State.Sites(ctx)
	}
	s, err := a.State.SiteByAlias(ctx, alias)
	if errors.Is(err, state.ErrNotFound) {
		return nil, fmt.Errorf("%w: %q; `holdfast sites` lists those published here", ErrNoSite, alias)
	}
	return []state.Site{s}, err
}

func (a *Author) siteStatus(ctx context.Context, s state.Site) (SiteStatus, error) {
	out := SiteStatus{
		Alias: s.Alias, Name: s.Name.String(), Root: cidString(s.Root), Release: cidString(s.Release), Number: s.Number,
		Sequence: s.Sequence, Files: s.Files, Bytes: s.Bytes, Copies: s.Copies, Published: timePtr(s.PublishedAt),
		ValidUntil: timePtr(s.ValidUntil), Live: s.Live, URL: a.localURL(s.Alias), Hosts: []HostState{},
	}
	if a.Store != nil {
		u, err := a.Store.Usage(ctx, owner(s.Name))
		if err != nil {
			return out, err
		}
		out.Stored = &Stored{Bytes: u.Bytes, UniqueBytes: u.UniqueBytes}
	}
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return out, err
	}
	byID := make(map[peer.ID]state.Host)
	for _, h := range hosts {
		byID[h.ID] = h
	}
	holdings, err := a.State.Holdings(ctx, s.Name)
	if err != nil {
		return out, err
	}
	proved := 0
	for _, hold := range holdings {
		host, ok := byID[hold.Host]
		if !ok {
			host = state.Host{ID: hold.Host, Name: hold.Host.String()}
		}
		hs := hostState(host, hold)
		if hs.State == Proved && !hold.Root.Equals(s.Root) {
			hs.State = Queued // proved of an older root only
		}
		if hs.State == Proved {
			proved++
		}
		out.Hosts = append(out.Hosts, hs)
	}
	// Safe is what the wanted copies promise; fewer than those promise nothing.
	if s.Copies > 0 && proved >= s.Copies {
		out.SafeUntil = timePtr(s.ValidUntil)
	}
	return out, nil
}

// recheck audits each holder of a site again.
func (a *Author) recheck(ctx context.Context, s state.Site, report func(Event)) error {
	if a.Network == nil {
		return fmt.Errorf("%w: the network is offline", ErrUnreachable)
	}
	p := &publication{
		req: PublishRequest{Alias: s.Alias}, name: s.Name, report: report,
		built: merkle.Built{Root: s.Root},
	}
	if p.report == nil {
		p.report = func(Event) {}
	}
	done, err := a.turns.take(ctx, s.Name.String()) // a publish writes the same rows
	if err != nil {
		return err
	}
	defer done()
	pl, err := a.openPlacement(ctx, p)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for id, host := range pl.hosts {
		if h := pl.holding(id); h.NamePin == "" && h.TempPin == "" {
			continue
		}
		g.Go(func() error {
			err := a.dial(gctx, host)
			if err == nil {
				err = a.audit(gctx, p, pl, host)
			}
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err != nil {
				return a.failHolding(gctx, p, pl, id, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// HistoryEntry is one release.
type HistoryEntry struct {
	Number   uint64     `json:"number"`
	Release  string     `json:"release"`
	Root     string     `json:"root"`
	Time     *time.Time `json:"time"`
	Message  string     `json:"message"`
	Files    int64      `json:"files"`
	Bytes    int64      `json:"bytes"`
	Sequence uint64     `json:"sequence,omitempty"` // of the record that last named it, where known
}

// HistoryRequest asks for a site's releases, newest first.
type HistoryRequest struct {
	Site  string `json:"site"`            // alias or name
	Limit int    `json:"limit,omitempty"` // 0: 100
}

// History walks the chain of releases from the site's current record; where
// that can't be had, it tells what was published here.
func (a *Author) History(ctx context.Context, req HistoryRequest) ([]HistoryEntry, error) {
	limit := req.Limit
	if limit <= 0 {
		limit = 100
	}
	name, err := a.nameOf(ctx, req.Site)
	if err != nil {
		return nil, err
	}
	rows, err := a.State.Releases(ctx, name)
	if err != nil {
		return nil, err
	}
	sequences := make(map[cid.Cid]uint64)
	for _, r := range rows {
		sequences[r.CID] = max(sequences[r.CID], r.Sequence)
	}
	var head cid.Cid
	if rec, err := a.State.Best(ctx, name); err == nil {
		head = rec.Release()
	} else if chain, _, err := a.Resolver.Follow(ctx, name); err == nil {
		head = chain[len(chain)-1].Record.Release()
	} else {
		return nil, err
	}
	out := []HistoryEntry{}
	for c := head; c.Defined() && len(out) < limit; {
		rel, err := a.readRelease(ctx, c)
		if err != nil {
			if len(out) > 0 {
				break // the older part of the chain is out of reach
			}
			return nil, err
		}
		out = append(out, HistoryEntry{
			Number: rel.Number, Release: c.String(), Root: rel.Root.String(), Time: timePtr(rel.Time),
			Message: rel.Message, Files: rel.Files, Bytes: rel.Bytes, Sequence: sequences[c],
		})
		c = rel.Previous
	}
	return out, nil
}

// nameOf turns an alias or a name's spelling into the name.
func (a *Author) nameOf(ctx context.Context, s string) (naming.Name, error) {
	site, err := a.State.SiteByAlias(ctx, s)
	if err == nil {
		return site.Name, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return naming.Name{}, err
	}
	if signer, err := a.Keys.Signer(s); err == nil {
		return signer.Name(), nil
	}
	n, err := naming.ParseName(s)
	if err != nil {
		return naming.Name{}, fmt.Errorf("%w: %q is neither a site published here nor a name", ErrNoSite, s)
	}
	return n, nil
}

// readUpTo reads at most n bytes.
func readUpTo(r io.Reader, n int64) ([]byte, error) { return io.ReadAll(io.LimitReader(r, n)) }
