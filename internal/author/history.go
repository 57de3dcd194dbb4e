package author

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	defaultHistory = 100
	maxHistory     = 10_000
	keptDeadline   = 3 * time.Second // for the hosts to say which releases they keep
)

// HistoryEntry is one release.
type HistoryEntry struct {
	Number   uint64     `json:"number"`
	Release  string     `json:"release"`
	Root     string     `json:"root"`
	Time     *time.Time `json:"time"`
	Message  string     `json:"message"`
	Tool     string     `json:"tool,omitempty"` // what wrote it
	Files    int64      `json:"files"`
	Bytes    int64      `json:"bytes"`
	Sequence uint64     `json:"sequence,omitempty"` // of the record that last named it, where known
	Current  bool       `json:"current,omitempty"`
	Here     bool       `json:"kept_here"`     // all of its files
	Hosts    int        `json:"kept_by_hosts"` // of those that answered
	// Noted says that it is out of reach, and that this is what was written down here when it was published.
	Noted bool `json:"noted,omitempty"`
}

// Releases is a site's history, newest first.
type Releases struct {
	Name     string         `json:"name"`
	Releases []HistoryEntry `json:"releases"`
	// Gap is where the chain of releases can't be followed any further; nil where it was, as far as was asked for.
	Gap *HistoryGap `json:"gap,omitempty"`
	// Of the hosts that follow the site for us, how many were asked what they keep, and how many said it.
	HostsAsked    int `json:"hosts_asked"`
	HostsAnswered int `json:"hosts_answered"`
}

// HistoryGap is a release that can't be had, or is not what it has to be.
type HistoryGap struct {
	Number  uint64 `json:"number"`
	Release string `json:"release"`
	Error   string `json:"error"`
}

// HistoryRequest asks for a site's releases, newest first.
type HistoryRequest struct {
	Site  string `json:"site"`            // alias, name or domain
	Limit int    `json:"limit,omitempty"` // 0: 100; at most 10000
}

// History walks the chain of releases from the site's current record. Where it
// can't go on, the result says so, and what was published here before is listed
// from what was written down then.
func (a *Author) History(ctx context.Context, req HistoryRequest) (Releases, error) {
	limit := min(req.Limit, maxHistory)
	if limit <= 0 {
		limit = defaultHistory
	}
	h, err := a.siteHead(ctx, req.Site)
	if err != nil {
		return Releases{}, err
	}
	if !h.release.Defined() {
		return Releases{}, errNoReleases(h)
	}
	rows, err := a.State.Releases(ctx, h.record.Name())
	if err != nil {
		return Releases{}, err
	}
	out := Releases{Name: h.name.String(), Releases: []HistoryEntry{}}
	for r, err := range a.releases(ctx, h.release) {
		if err != nil {
			if err := out.endAt(err); err != nil {
				return Releases{}, err
			}
			out.addNoted(rows, limit)
			break
		}
		out.Releases = append(out.Releases, HistoryEntry{
			Number: r.Number, Release: r.cid.String(), Root: r.Root.String(), Time: timePtr(r.Time), Message: r.Message,
			Tool: r.Tool, Files: r.Files, Bytes: r.Bytes, Current: len(out.Releases) == 0,
		})
		if len(out.Releases) == limit {
			break
		}
	}
	out.addSequences(rows)
	return out, a.addKept(ctx, h, &out)
}

// siteHead finds the newest of a site that is named by alias, name or domain.
func (a *Author) siteHead(ctx context.Context, site string) (head, error) {
	addr, err := a.ParseAddress(ctx, site)
	if err != nil {
		return head{}, err
	}
	if addr.Name.IsZero() || addr.Path != "" {
		return head{}, usagef("%q is content and no site: a site is given by its alias, name or domain", site)
	}
	h, err := a.headOf(ctx, addr.Name)
	if err != nil {
		return head{}, err
	}
	if a.Store == nil {
		return h, nil
	}
	if infos, err := a.Store.Stat(ctx, []cid.Cid{h.release}); err == nil && h.release.Defined() && !infos[0].Present {
		a.meet(ctx, h) // it is not one of ours
	}
	return h, nil
}

// endAt notes where the chain broke; the error is one of another kind.
func (r *Releases) endAt(err error) error {
	var broken *ChainError
	if !errors.As(err, &broken) {
		return err
	}
	r.Gap = &HistoryGap{Number: broken.Number, Release: cidString(broken.Release), Error: broken.Err.Error()}
	return nil
}

// addNoted lists what is known of the releases behind a gap.
func (r *Releases) addNoted(rows []state.ReleaseRow, limit int) {
	for _, w := range rows {
		n := len(r.Releases)
		if n == limit {
			return
		}
		if n > 0 && w.Number >= r.Releases[n-1].Number {
			continue
		}
		r.Releases = append(r.Releases, HistoryEntry{
			Number: w.Number, Release: w.CID.String(), Root: cidString(w.Root), Time: timePtr(w.Time), Message: w.Message,
			Files: w.Files, Bytes: w.Bytes, Noted: true,
		})
	}
}

func (r *Releases) addSequences(rows []state.ReleaseRow) {
	sequences := make(map[string]uint64)
	for _, w := range rows {
		sequences[w.CID.String()] = max(sequences[w.CID.String()], w.Sequence)
	}
	for i, e := range r.Releases {
		r.Releases[i].Sequence = sequences[e.Release]
	}
}

// addKept says which of the releases are still kept, here and by our hosts.
func (a *Author) addKept(ctx context.Context, h head, r *Releases) error {
	here := make(map[string]bool)
	for _, n := range []naming.Name{h.name, h.record.Name()} {
		if a.Store == nil {
			break
		}
		roots, err := a.Store.Kept(ctx, owner(n))
		if err != nil {
			return err
		}
		for _, c := range roots {
			here[c.String()] = true
		}
	}
	asked, answers, err := a.keptByHosts(ctx, h.name)
	if err != nil {
		return err
	}
	r.HostsAsked, r.HostsAnswered = asked, len(answers)
	for i, e := range r.Releases {
		r.Releases[i].Here = here[e.Root]
		for _, kept := range answers {
			if kept[e.Root] {
				r.Releases[i].Hosts++
			}
		}
	}
	return nil
}

// keptByHosts asks the hosts that follow the site for us which roots they keep.
// Those that don't answer in a few seconds are left out of the answers.
func (a *Author) keptByHosts(ctx context.Context, n naming.Name) (asked int, answers []map[string]bool, err error) {
	if a.Network == nil {
		return 0, nil, nil
	}
	holdings, err := a.State.Holdings(ctx, n)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, keptDeadline)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, hold := range holdings {
		host, err := a.State.Host(ctx, hold.Host)
		if err != nil || hold.NamePin == "" {
			continue
		}
		asked++
		wg.Go(func() {
			s, err := a.pins(host).Get(ctx, hold.NamePin)
			if err != nil {
				a.Log.Info("host does not say what it keeps", "host", host.Name, "err", err)
				return
			}
			kept := make(map[string]bool)
			for c := range strings.SplitSeq(s.Info[replicate.InfoKept], ",") {
				kept[c] = true
			}
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, kept)
		})
	}
	wg.Wait()
	return asked, answers, nil
}
