package replicate

import (
	"context"
	"errors"
	"fmt"
)

// Account is the books of one tenant, or of the host: all tenants together.
type Account struct {
	Tenant   string // empty: the host
	Label    string // of the tenant's token
	Quota    int64  // unique bytes over all pins, reserved ones too; 0: no limit
	Used     int64  // never less than what its pins keep, each block once. Not kept for the host
	Exact    bool   // Used is just that
	Version  int64  // grows with every change of what its pins keep
	Reserved int64  // bytes promised beyond what is kept
	Stored   int64  // of Reserved, on the disk already
	Pins     int
}

// Free is what may still be reserved; -1: no limit.
func (a Account) Free() int64 {
	if a.Quota <= 0 {
		return -1
	}
	return max(0, a.Quota-a.Used-a.Reserved)
}

// Room is what a host has for all its tenants. The zero value is no limit.
type Room struct {
	Capacity int64 // bytes that may be kept and reserved here in all; 0: no limit
	Used     int64 // bytes kept here, as the block store had it when the host's account was at Version
	Version  int64
	Free     int64 // bytes that may still be written to the disk; 0: not known; negative: none
}

// FreeBeside is what there is room for beside what the host's account has reserved, as far as that is known; 0 where nothing is.
func (r Room) FreeBeside(host Account) int64 {
	free := int64(-1)
	if r.Capacity > 0 {
		free = max(0, r.Capacity-r.Used-host.Reserved)
	}
	if r.Free != 0 {
		if disk := max(0, r.Free-(host.Reserved-host.Stored)); free < 0 || disk < free {
			free = disk
		}
	}
	return max(0, free)
}

// Claim is what a pin wants reserved before it stores more.
type Claim struct {
	Fresh    bool  // nothing counts as stored before Since: a new session
	Since    int64 // bytes stored since the last claim
	Need     int64 // bytes about to be stored
	Want     int64 // bytes that would save claims later; at least Need
	Declared bool  // its size was declared, and the quota for it is reserved from the start: only the disk counts
}

// Settlement is what a pin has come to keep.
type Settlement struct {
	Held     int64 // bytes that the pin keeps, each once
	Reserved int64 // still promised to it beyond that
	Check    bool  // refuse what is over the quota or the capacity; else it is written down as it is
	// Measured is what the tenant's pins were found to keep with this one, where Used of the account is too
	// rough to decide by.
	Measured *Measured
}

// Measured is what the pins of a tenant keep, counted by the block store while
// the account was at Version.
type Measured struct {
	Version int64
	Used    int64 // each block once
	After   int64 // likewise, without the pin that is being replaced
}

// ErrStale says that the books were changed since they were read: read them again.
var ErrStale = errors.New("the books have changed meanwhile")

// QuotaError says what is full. It is an ErrQuota.
type QuotaError struct {
	Of       string // what has the limit: "the token's quota", "this host", "this host's disk"
	Limit    int64
	Used     int64 // may be more than is used in truth unless Exact
	Reserved int64 // by others
	Need     int64
	Exact    bool
	Waits    bool // it fits once fetches that are in hand have ended
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: %s is %d bytes, %d are used and %d reserved, %d more are needed", ErrQuota, e.Of, e.Limit, e.Used, e.Reserved, e.Need)
}

// Unwrap is ErrQuota.
func (e *QuotaError) Unwrap() error { return ErrQuota }

// Ledger keeps the books of who takes how much. A reservation belongs to a pin's row, and goes with it. All
// of it is conditional in one step, so that claims of several processes never overrun a limit together.
//
// Used of an account is an upper bound that needs no counting: it grows with every pin that grows, and comes
// down only when somebody has counted.
type Ledger interface {
	// Account is one tenant's books; of one who never had a token or a pin, empty ones. The empty id is the host.
	Account(ctx context.Context, tenant string) (Account, error)

	// Accounts is everybody's who has a token or a pin, those of the oldest tokens first.
	Accounts(ctx context.Context) ([]Account, error)

	// Reserve reserves what a claim needs for a row that by has claimed, and tells how many bytes may be stored
	// before the next claim. QuotaError; ErrLeased; ErrStale where the room is of another version.
	Reserve(ctx context.Context, id, by string, c Claim, room Room) (slack int64, err error)

	// Settle writes down what a row that by has claimed keeps now; nothing counts as stored any more. QuotaError; ErrLeased; ErrStale.
	Settle(ctx context.Context, id, by string, st Settlement, room Room) error

	// Measure notes what a tenant's pins were found to keep, while its account was at this version. ErrStale.
	Measure(ctx context.Context, tenant string, m Measured) error

	// Unbooked is the request ids of pins of which is not written down what they keep.
	Unbooked(ctx context.Context) ([]string, error)

	// PinIDs is the request ids of a tenant's pins, with those that were removed and may still keep something.
	PinIDs(ctx context.Context, tenant string) ([]string, error)
}
