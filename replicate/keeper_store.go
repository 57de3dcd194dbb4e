package replicate

import (
	"context"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// Caller reaches other hosts. Implemented over libp2p by internal/node.
type Caller interface {
	// Call is nil when the peer answers anything at all just now, over a connection that is
	// open, or at those of the addresses that may be dialled.
	Call(ctx context.Context, ai peer.AddrInfo) error
	// HTTPClient sends requests to that peer, whatever host their URLs name.
	HTTPClient(ai peer.AddrInfo) *http.Client
}

// Challenger has a host prove that it holds every byte. It is satisfied by *Auditor.
type Challenger interface {
	Audit(ctx context.Context, prover peer.ID, site naming.Name, roots []cid.Cid) (AuditResult, error)
}

// KeeperStore keeps durably what a keeper saw and did, so that a restart forgets nothing. Each
// call is one atomic step, also between processes. Implemented by internal/state.
type KeeperStore interface {
	// Presences is what was seen of every host so far.
	Presences(ctx context.Context) (map[peer.ID]Seen, error)
	// Look takes in one look at a host, as Seen.Look does.
	Look(ctx context.Context, host peer.ID, at time.Time, up bool, t Times) error
	// ForgetHost drops what was seen of a host.
	ForgetHost(ctx context.Context, host peer.ID) error

	// Sightings is what was seen of the members of a site's roster.
	Sightings(ctx context.Context, site naming.Name) (map[peer.ID]Sighting, error)
	// Sighted changes what is kept of one member: change gets it as it is, the zero value first, and
	// may be called again.
	Sighted(ctx context.Context, site naming.Name, host peer.ID, change func(*Sighting)) error

	// ForgetMember drops what is kept of one member of a site's roster.
	ForgetMember(ctx context.Context, site naming.Name, host peer.ID) error

	// Watch is what is remembered of our own seat; the zero value where nothing is.
	Watch(ctx context.Context, site naming.Name) (Watch, error)
	PutWatch(ctx context.Context, site naming.Name, w Watch) error
	// WatchedSites is the sites of which anything is kept by Sighted or PutWatch.
	WatchedSites(ctx context.Context) ([]naming.Name, error)
	// ForgetSite drops what Sighted and PutWatch keep of a site. Its events stay.
	ForgetSite(ctx context.Context, site naming.Name) error

	// AddEvent keeps an event, and forgets the oldest of its site over MaxEvents, and of all sites over MaxAllEvents.
	AddEvent(ctx context.Context, e Event) error
	// Events is the newest of a site's events, newest first.
	Events(ctx context.Context, site naming.Name, limit int) ([]Event, error)
	// CountEvents is how many events of a kind there are since then, over all sites.
	CountEvents(ctx context.Context, kind EventKind, since time.Time) (int, error)

	// KeepAudit keeps a piece of evidence, with its signed messages where these prove a lie.
	KeepAudit(ctx context.Context, r AuditResult) error
}

// Seen is what was seen of one host, over all sites. Its zero value has seen nothing.
type Seen struct {
	Presence
	Calls Sight // only what calls tell counts
}

// Look takes in one look at a host.
func (s *Seen) Look(at time.Time, up bool, t Times) {
	s.Observe(at, up)
	s.Calls.Call(at, up, t)
}

// Sighting is what was seen of one member of a site's roster. Its zero value has seen nothing.
type Sighting struct {
	Proofs Sight // only what audits tell counts
	Trial  Trial
	Ask    time.Time // when it is to prove itself next; zero: not thought of yet
	Gone   time.Time // since when we presume it gone; zero while we don't
}

// sight is what Decide may know of the member.
func (s Sighting) sight(seen Seen, patience time.Duration) Sight {
	out := seen.Calls
	out.Asked, out.Held, out.Since, out.Absent = s.Proofs.Asked, s.Proofs.Held, s.Proofs.Since, s.Proofs.Absent
	out.Patience, out.Out = patience, s.Trial.Convicted()
	return out
}

// Watch is what a host remembers of its own seat at one site.
type Watch struct {
	Short   time.Time     // since when it has seen fewer holders than wanted
	Jitter  time.Duration // its own share of Times.Jitter; zero: not drawn yet
	Failing time.Time     // the failing of a take-over that was told last
}

// MaxEvents is how many events are kept of a site, and MaxAllEvents of all sites, also those that nobody pins any more.
const (
	MaxEvents    = 256
	MaxAllEvents = 1 << 20
)

// EventKind is what has happened.
type EventKind string

// The kinds of events; see docs/formats.md.
const (
	EventTookOver    EventKind = "took_over"
	EventLetGo       EventKind = "let_go"
	EventMissed      EventKind = "missed"
	EventAbsent      EventKind = "absent"
	EventConvicted   EventKind = "convicted"
	EventGone        EventKind = "gone"
	EventBack        EventKind = "back"
	EventFetchFailed EventKind = "fetch_failed"
	EventDeclined    EventKind = "declined"
)

// Event is one thing that a keeper saw or did.
type Event struct {
	Site   naming.Name
	At     time.Time
	Kind   EventKind
	Host   peer.ID // whom it is about
	Detail string  // for people; at most 512 bytes
}
