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
	NameLife   NameLife    `json:"name_life"`
	Warnings   []string    `json:"warnings,omitempty"`
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
	var shown naming.Record
	if out.NameLife, shown, err = a.nameLife(ctx, s, holdings); err != nil {
		return out, err
	}
	out.ValidUntil = out.NameLife.ValidUntil
	if out.NameLife.Delegate != "" && rootOf(shown).Defined() { // what the deploy key has published since
		s.Root, s.Release = rootOf(shown), shown.Release()
		out.Root, out.Release = cidString(s.Root), cidString(s.Release)
		rel, _ := a.readRelease(ctx, s.Release) // where it can't be had, nothing is better than what an older one says
		out.Number, out.Files, out.Bytes, out.Published = rel.Number, rel.Files, rel.Bytes, timePtr(rel.Time)
	}
	if out.Warnings, err = a.warnings(ctx, s, out.NameLife); err != nil {
		return out, err
	}
	proved := 0
	for _, hold := range holdings {
		host, ok := byID[hold.Host]
		if !ok {
			host = state.Host{ID: hold.Host, Name: hold.Host.String()}
		}
		hs := hostState(host, hold)
		if hs.State == Proved && !hold.Root.Equals(s.Root) { // proved of another root last
			hs.State, hs.VerifiedAt = Queued, nil
			at, err := a.lastProof(ctx, s.Name, hold.Host, s.Root)
			if err != nil {
				return out, err
			}
			if a.Now().Sub(at) < proofStands {
				hs.State, hs.VerifiedAt = Proved, timePtr(at)
			}
		}
		if hs.State == Proved {
			proved++
		}
		out.Hosts = append(out.Hosts, hs)
	}
	// Safe is what the wanted copies promise; fewer than those promise nothing, nor do copies of what nobody sees.
	if s.Copies > 0 && proved >= s.Copies && !out.NameLife.Overtaken {
		out.SafeUntil = out.ValidUntil
	}
	return out, nil
}

// mirror has what a deploy key has published here for as long as it is audited: nobody can check a proof without the bytes.
func (a *Author) mirror(ctx context.Context, p *publication, root cid.Cid) (done func(), err error) {
	p.built.Root = root
	if p.session, err = a.Store.Begin(ctx, "check:"+p.name.String()); err != nil {
		return nil, err
	}
	cids, err := a.whole(ctx, p.session, root)
	if err == nil && cids == nil {
		_, err = a.bringBack(ctx, p, root)
	}
	if err != nil {
		p.session.Close()
		return nil, fmt.Errorf("what the deploy key has published can't be had, so its copies can't be checked: %w", err)
	}
	return func() { p.session.Close() }, nil
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
	if chain, root, err := a.Resolver.Follow(ctx, s.Name); err == nil && len(chain) > 1 {
		done, err := a.mirror(ctx, p, root)
		if err != nil {
			return err
		}
		defer done()
	}
	if err := a.lookAtNames(ctx, s.Name); err != nil {
		return err
	}
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

// nameOf turns an alias or a name's spelling into the name.
func (a *Author) nameOf(ctx context.Context, s string) (naming.Name, error) {
	site, err := a.State.SiteByAlias(ctx, s)
	if err == nil {
		return site.Name, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return naming.Name{}, err
	}
	if key, err := a.Keys.Info(s); err == nil {
		return key.Name, nil
	}
	n, err := naming.ParseName(s)
	if err != nil {
		return naming.Name{}, fmt.Errorf("%w: %q is neither a site published here nor a name", ErrNoSite, s)
	}
	return n, nil
}

// readUpTo reads at most n bytes.
func readUpTo(r io.Reader, n int64) ([]byte, error) { return io.ReadAll(io.LimitReader(r, n)) }
