package replicate

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// ErrLeased says that a pin's row is leased by somebody else, or that a lease
// was lost.
var ErrLeased = errors.New("pin is in somebody else's hands")

// PinRow is a pin as a PinStore keeps it: what was asked, and how far the work
// on it is.
type PinRow struct {
	ID       string // the request id
	Tenant   string
	Pin      Pin
	Created  time.Time // unique for a tenant, by the millisecond: clients in JavaScript page by no less
	Replaces string    // the request id of the pin that goes when this one is pinned

	Status    Status
	Done      merkle.Count // of the fetch in hand, or of the last one
	Attempts  int          // failures in a row
	Failing   time.Time    // when the first of them was; zero where the last try went well
	LastError string
	Due       time.Time // when there is something to do next; zero: nothing

	// Of a name pin:
	Root     cid.Cid   // the name's current root, held whole
	Sequence uint64    // of the record that named it
	Switched time.Time // when Root became the current one; zero where that is not known
	Kept     []cid.Cid // the roots held, newest first; of a snapshot its CID
	Release  cid.Cid   // small blocks that the record names, where held
	Policy   cid.Cid
	Fetching cid.Cid   // the root that is being fetched: kept, maybe, and not yet in Kept
	Dropping []cid.Cid // no longer wanted, and maybe still kept
	Refused  cid.Cid   // the last root that broke a limit: not tried again
	// RefusedNeed is how many bytes more Refused needs, at least, where it was the quota that it broke: it is tried again
	// once they are free. Else 0.
	RefusedNeed int64

	MaxBytes int64  // what the tenant's token allows for one pin; 0: the host's limit
	Sources  string // whom the last fetch asked, and what each gave or said; for people
	// Of the books, which Reserve and Settle write:
	Reserved int64 // bytes promised to it beyond Held
	Stored   int64 // of them on the disk already
	Held     int64 // bytes that it keeps, each once, as booked

	// Of a standby; SavePin leaves them alone:
	Active time.Time // since when it is its turn; zero while it isn't
	Holds  time.Time // since when it holds the site, in this turn

	Removed     bool // deleted by its tenant, its roots not yet all released
	LeasedBy    string
	LeasedUntil time.Time
}

// Lease is one worker's claim on a row.
type Lease struct {
	By    string
	Now   time.Time
	Until time.Time
}

// Work is a kind of due rows.
type Work int

// The kinds of work: those that fetch what a tenant has just asked for, and the
// rest (following names, removing), which must not wait behind them.
const (
	WorkNew Work = iota
	WorkStanding
)

// PinStore keeps the rows of a pin service durably: what a call wrote survives
// a crash once the call returned nil. Many processes may work on one store at once:
// every write that depends on what was read is conditional, in one step. Rows that were removed are
// seen by leases only. Implemented by internal/state.
type PinStore interface {
	StandbyStore
	Ledger

	// AddPin keeps a new row. Created is moved up by milliseconds until no
	// other pin of the tenant has it; the row is returned as kept. A row with
	// Replaces needs that pin to be the tenant's: else ErrNotFound. Its Reserved is reserved in
	// the same step: QuotaError, ErrStale.
	AddPin(ctx context.Context, row PinRow, room Room) (PinRow, error)

	// GetPin is one tenant's row. ErrNotFound, also where it is another
	// tenant's. The empty tenant means any.
	GetPin(ctx context.Context, tenant, id string) (PinRow, error)

	// ListPins is the newest rows that match, and how many match in all. The
	// empty tenant means all.
	ListPins(ctx context.Context, tenant string, q Query) ([]PinRow, int, error)

	// RemovePin marks a tenant's row as removed, and due. ErrNotFound.
	RemovePin(ctx context.Context, tenant, id string, now time.Time) error

	// LeaseNext claims the row of the given kind that has been due longest, those never tried
	// first. ErrNotFound where nothing is due.
	LeaseNext(ctx context.Context, w Work, l Lease) (PinRow, error)

	// LeasePin claims one row, due or not, removed or not. ErrNotFound,
	// ErrLeased.
	LeasePin(ctx context.Context, id string, l Lease) (PinRow, error)

	// RenewLease lengthens a claim and notes the progress. ErrLeased where the
	// claim was lost, or the row has been removed meanwhile.
	RenewLease(ctx context.Context, id string, l Lease, done merkle.Count) error

	// SavePin writes everything from Status to RefusedNeed, and Sources, of a row that by has
	// claimed. With giveBack the claim ends. A row that becomes pinned removes the one that it replaces, in the same step, and, where both
	// stand by for one name, goes on with that one's turn. ErrLeased where the claim was
	// lost, or the row has been removed meanwhile: nothing is written then.
	SavePin(ctx context.Context, row PinRow, by string, giveBack bool) error

	// GiveBack ends by's claim on a row; with an empty id, all of by's claims.
	GiveBack(ctx context.Context, id, by string) error

	// ForgetPin erases a removed row that by has claimed. ErrLeased.
	ForgetPin(ctx context.Context, id, by string) error

	// NextDue is when LeaseNext may have something; zero: nothing in sight.
	NextDue(ctx context.Context, w Work) (time.Time, error)

	// DueName makes the pinned rows that follow the name due since then,
	// unless they are for longer.
	DueName(ctx context.Context, n naming.Name, since time.Time) error

	// FollowedNames is the names of all name pins, each once, sorted.
	FollowedNames(ctx context.Context) ([]naming.Name, error)

	// AuditorPins is the rows whose meta names this auditor.
	AuditorPins(ctx context.Context, auditor peer.ID) ([]PinRow, error)
}
