package author

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// SiteStatus is what is known of a site, from evidence of our own.
type SiteStatus struct {
	Alias     string `json:"alias"`
	Name      string `json:"name"`
	Root      string `json:"root"`
	Release   string `json:"release"`
	Number    uint64 `json:"number"`
	Sequence  uint64 `json:"sequence"`
	Files     int64  `json:"files"`
	Bytes     int64  `json:"bytes"`
	Copies    int    `json:"copies"`     // planned: so many hosts are to hold it
	MinCopies int    `json:"min_copies"` // the fewest that are wanted; what safe_until rests on
	Proved    int    `json:"proved"`     // copies that stand proved, standbys that took over among them
	// Availability is an estimate in billionths of what stands proved; Target is what is wanted, in millionths.
	Availability int64        `json:"availability"`
	Target       int          `json:"target"`
	Published    *time.Time   `json:"published"`
	ValidUntil   *time.Time   `json:"valid_until"`
	SafeUntil    *time.Time   `json:"safe_until"`
	Live         bool         `json:"live"`
	URL          string       `json:"url"`
	Hosts        []HostState  `json:"hosts"`    // that are to hold it, or did
	Standbys     []HostState  `json:"standbys"` // in the order in which they would take over
	Failures     []Failure    `json:"failures"` // what is left if one failure domain is lost, the worst first
	Repairing    []string     `json:"repairing"`
	Reports      []HostReport `json:"reports,omitempty"` // what the hosts say themselves, without their events
	AskedAt      *time.Time   `json:"asked_at"`          // when the last of them said something
	// ThirdParties are pinning services that can't prove what they say; Volunteers those who keep the site unasked, looked for by Check.
	ThirdParties []ThirdParty `json:"third_parties,omitempty"`
	Volunteers   []Volunteer  `json:"volunteers,omitempty"`
	NameLife     NameLife     `json:"name_life"`
	Warnings     []string     `json:"warnings,omitempty"`
	Stored       *Stored      `json:"stored,omitempty"` // nil where the block store was not opened
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
	var names []naming.Name
	for _, s := range sites {
		names = append(names, s.Name)
		if req.Check {
			if err := a.recheck(ctx, s, report); err != nil {
				return nil, err
			}
		}
	}
	if err := a.askReports(ctx, names...); err != nil {
		return nil, err
	}
	out := []SiteStatus{}
	for _, s := range sites {
		st, err := a.siteStatus(ctx, s)
		if err == nil {
			err = a.addHearsay(ctx, s, req.Check, &st)
		}
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
		if _, err := a.Keys.Info(alias); err == nil { // restored here, or made and not used yet
			return nil, fmt.Errorf("%w: %[2]q was not published from this machine, though its key is here: `holdfast history --events %[2]s` tells what its hosts have seen, `holdfast publish DIR --site %[2]s --rebase` takes it up", ErrNoSite, alias)
		}
		return nil, fmt.Errorf("%w: %q; `holdfast sites` lists those published here", ErrNoSite, alias)
	}
	return []state.Site{s}, err
}

// siteStatus is what our own evidence says of a site.
func (a *Author) siteStatus(ctx context.Context, s state.Site) (SiteStatus, error) {
	w, copies := wantedOf(s)
	out := SiteStatus{
		Alias: s.Alias, Name: s.Name.String(), Root: cidString(s.Root), Release: cidString(s.Release), Number: s.Number,
		Sequence: s.Sequence, Files: s.Files, Bytes: s.Bytes, Copies: s.Copies, MinCopies: copies, Target: target(w), Published: timePtr(s.PublishedAt),
		ValidUntil: timePtr(s.ValidUntil), Live: s.Live, URL: a.localURL(s.Alias),
		Hosts: []HostState{}, Standbys: []HostState{}, Failures: []Failure{}, Repairing: []string{},
	}
	if a.Store != nil {
		u, err := a.Store.Usage(ctx, owner(s.Name))
		if err != nil {
			return out, err
		}
		out.Stored = &Stored{Bytes: u.Bytes, UniqueBytes: u.UniqueBytes}
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
	return out, a.addCopies(ctx, s, holdings, &out)
}

// addCopies says who holds the site, and what that is worth.
func (a *Author) addCopies(ctx context.Context, s state.Site, holdings []state.Holding, out *SiteStatus) error {
	hosts, err := a.State.Hosts(ctx)
	if err != nil {
		return err
	}
	byID := make(map[peer.ID]state.Host)
	for _, h := range hosts {
		byID[h.ID] = h
	}
	rank := a.ranks(ctx, s.Name)
	slices.SortStableFunc(holdings, func(x, y state.Holding) int { return cmp.Compare(rank(x.Host), rank(y.Host)) })
	var standing []state.Host
	relaying := 0
	for _, hold := range holdings {
		host, ok := byID[hold.Host]
		if !ok {
			host = state.Host{ID: hold.Host, Name: hold.Host.String()}
		}
		hs, err := a.stateAt(ctx, s, host, hold)
		if err != nil {
			return err
		}
		if hs.State == Proved {
			standing = append(standing, host)
			if hold.Follows() {
				relaying++
			}
		}
		if hold.NamePin == "" && hold.StandbyPin != "" {
			out.Standbys = append(out.Standbys, hs)
		} else {
			out.Hosts = append(out.Hosts, hs)
		}
	}
	out.Proved = len(standing)
	a.worth(standing, byID, out)
	return a.safeUntil(ctx, s, standing, relaying, out)
}

// ranks tells a host's place in the roster that is in force; those without one come last.
func (a *Author) ranks(ctx context.Context, n naming.Name) func(peer.ID) int {
	var roster []replicate.Member
	if chain, err := a.keptChain(ctx, n); err == nil && len(chain) > 0 {
		if pol, err := a.policyOf(ctx, chain[0]); err == nil {
			roster = pol.Roster
		}
	}
	return func(id peer.ID) int {
		if i := slices.IndexFunc(roster, func(m replicate.Member) bool { return m.ID == id }); i >= 0 {
			return i
		}
		return len(roster)
	}
}

// stateAt is where one host stands: what it proved of another root says nothing, and a standby waits until it has taken over.
func (a *Author) stateAt(ctx context.Context, s state.Site, host state.Host, hold state.Holding) (HostState, error) {
	hs := hostState(host, hold)
	hs.Bytes, hs.TookOver = s.DAGBytes, timePtr(hold.StandbyHolds)
	if hold.NamePin == "" && hold.StandbyPin != "" && (hold.State == "" || hold.StandbyHolds.IsZero()) {
		hs.State, hs.VerifiedAt = Waiting, nil
		if hold.StandbyHolds.IsZero() {
			hs.Bytes = hold.StandbyBytes
		}
	}
	if hs.State == Proved && !hold.Root.Equals(s.Root) { // proved of another root last
		hs.State, hs.VerifiedAt = Queued, nil
		at, err := a.lastProof(ctx, s.Name, hold.Host, s.Root)
		if err != nil {
			return hs, err
		}
		if a.Now().Sub(at) < proofStands {
			hs.State, hs.VerifiedAt = Proved, timePtr(at)
		}
	}
	return hs, nil
}

// worth is the availability of what stands proved, and what is left of it when one failure domain is gone.
func (a *Author) worth(standing []state.Host, byID map[peer.ID]state.Host, out *SiteStatus) {
	if len(standing) == 0 {
		return
	}
	observed := make([]replicate.Observation, 0, len(standing))
	for _, h := range standing {
		o := a.observation(h)
		o.Holds = true
		observed = append(observed, o)
	}
	groupNetworks(observed, byID)
	out.Availability = replicate.EstimateOf(observed).Availability
	for _, l := range replicate.Failures(observed) {
		out.Failures = append(out.Failures, *failure(l))
	}
}

// safeUntil is the earliest end of the promises that the fewest wanted copies rest on: the name, the policy, and of
// the copies those that last longest. Fewer copies promise nothing, nor do copies of what nobody sees.
func (a *Author) safeUntil(ctx context.Context, s state.Site, standing []state.Host, relaying int, out *SiteStatus) error {
	need := out.MinCopies
	if need == 0 || len(standing) < need || out.NameLife.Overtaken || out.ValidUntil == nil {
		return nil
	}
	end := *out.ValidUntil
	ends := make([]time.Time, 0, len(standing))
	for _, h := range standing {
		if !h.Until.IsZero() {
			ends = append(ends, h.Until)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	if lasting := len(standing) - len(ends); lasting < need { // so many of those that end are needed
		end = earlier(end, ends[len(ends)-(need-lasting)])
	}
	if chain, err := a.keptChain(ctx, s.Name); err == nil && len(chain) > 0 {
		if pol, err := a.policyOf(ctx, chain[0]); err == nil {
			end = earlier(end, pol.Expires)
		}
	}
	if found, err := a.nameFoundUntil(ctx, s, need, relaying); err != nil {
		return err
	} else if !found.IsZero() {
		end = earlier(end, found)
	}
	if end.After(a.Now()) || out.ValidUntil.Equal(end) {
		out.SafeUntil = timePtr(end)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
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
