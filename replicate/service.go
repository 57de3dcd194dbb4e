package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// Follower resolves a name to its root. It is satisfied by *naming.Resolver.
type Follower interface {
	Follow(ctx context.Context, n naming.Name) (chain []naming.Resolution, root cid.Cid, err error)
}

// ServiceConfig is what a Service works with. Pins, Blocks and Fetcher are
// required; without Names, name pins keep their original CID only.
type ServiceConfig struct {
	Pins    PinStore
	Tokens  TokenStore // read by the HTTP face only
	Blocks  blockstore.Store
	Fetcher Fetcher
	Names   Follower

	// Identity is under which name this process leases rows; it must differ
	// between processes on one store. A process takes its own leases back when
	// it starts. Empty: "host".
	Identity string

	// TenantAddrs turns a pin's origins into what may be dialled; those that
	// may not are left out. nil: origins are not used.
	TenantAddrs func(origins []string) ([]peer.AddrInfo, error)
	// Delegates is this host's addresses, for a pin's status. May be nil.
	Delegates func() []string
	// NamePut is when this host last put a name's record into routing, zero for never; for a pin's status. May be nil.
	NamePut func(ctx context.Context, n naming.Name) time.Time

	MaxPinBytes    int64         // unique bytes of one pin; 0: no limit
	Capacity       int64         // bytes that may be kept here and reserved, for anybody; 0: what the disk has
	Workers        int           // fetches of new pins at once; four times as many names are followed at once; 0: 4
	FollowInterval time.Duration // how often names are looked up, jittered; 0: 1 minute
	StallAfter     time.Duration // how long a fetch may bring nothing; 0: 2 minutes
	GiveUpAfter    time.Duration // how long a pin's source may be unavailable; 0: 24 hours

	// FreeDisk is how many bytes may still be written to the disk: 0 where that is not known, negative where the
	// disk is full. May be nil.
	FreeDisk func() int64
	// Admission decides which pins are taken; nil: all.
	Admission *Admission
	// Draining tells whether the host wants to be empty: it takes no new pins then. May be nil.
	Draining func(ctx context.Context) (bool, error)
	// Traffic is told of what comes, and says when a day's budget for it is spent. May be nil.
	Traffic *TrafficMeter

	// OnPinned is called after a row has become pinned, or a name pin has
	// switched to a new root. May be nil. It must return soon.
	OnPinned func(ctx context.Context, row PinRow)

	// OnTakenBack is called after a root was released that its site's policy takes back at once: nobody is to have it
	// any more. May be nil. It must return soon.
	OnTakenBack func()

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: discards
}

// Service is the pin service of a host: what the Pinning Service API asks for,
// free of HTTP. Its state is in the PinStore; what is in memory can be lost.
type Service struct {
	cfg  ServiceConfig
	log  *slog.Logger
	wake [2]chan struct{} // by Work

	mu       sync.Mutex
	jobs     map[string]*job // in hand, by request id
	sessions map[string]*metered
	poked    map[naming.Name]struct{}

	rates     rates
	counting  chan struct{} // held while somebody counts what a tenant keeps
	countNext time.Time     // guarded by counting: not before then
}

// NewService checks the configuration. Nothing happens before Serve but what
// its methods do.
func NewService(cfg ServiceConfig) (*Service, error) {
	if cfg.Pins == nil || cfg.Blocks == nil || cfg.Fetcher == nil {
		return nil, errors.New("replicate: a pin service needs Pins, Blocks and Fetcher")
	}
	if cfg.Identity == "" {
		cfg.Identity = "host"
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	for d, v := range map[*time.Duration]time.Duration{
		&cfg.FollowInterval: time.Minute, &cfg.StallAfter: 2 * time.Minute, &cfg.GiveUpAfter: 24 * time.Hour,
	} {
		if *d <= 0 {
			*d = v
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		cfg:      cfg,
		log:      cfg.Log,
		wake:     [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
		jobs:     make(map[string]*job),
		sessions: make(map[string]*metered),
		counting: make(chan struct{}, 1),
		poked:    make(map[naming.Name]struct{}),
	}, nil
}

// Owner is under which name the block store keeps the roots of a pin.
func Owner(requestID string) string { return "pin:" + requestID }

// Add accepts a pin, which is queued durably when Add returns, with room reserved for it where
// its size is declared. ErrInvalid, ErrQuota, ErrForbidden.
func (s *Service) Add(ctx context.Context, t Tenant, p Pin) (PinStatus, error) {
	return s.add(ctx, t, p, "")
}

// Replace accepts a pin that takes the place of another: that one stays whole
// until the new one is pinned, and goes then. ErrInvalid, ErrQuota, ErrForbidden, ErrNotFound.
func (s *Service) Replace(ctx context.Context, t Tenant, id string, p Pin) (PinStatus, error) {
	if _, err := s.Get(ctx, t, id); err != nil { // not found comes before what is wrong with the pin
		return PinStatus{}, err
	}
	return s.add(ctx, t, p, id)
}

func (s *Service) add(ctx context.Context, t Tenant, p Pin, replaces string) (PinStatus, error) {
	if t.ID == "" {
		return PinStatus{}, ErrUnauthorized
	}
	if err := p.Check(); err != nil {
		return PinStatus{}, err
	}
	terms, err := p.Terms()
	if err != nil {
		return PinStatus{}, err
	}
	if m := s.cfg.MaxPinBytes; m > 0 && terms.MaxBytes > m {
		return PinStatus{}, fmt.Errorf("%w: %s is %d, this host's limit is %d", ErrQuota, MetaMaxBytes, terms.MaxBytes, m)
	}
	limit, err := s.admit(ctx, t, p, terms, replaces)
	if err != nil {
		return PinStatus{}, err
	}
	now := s.cfg.Now()
	row := PinRow{
		ID:       uuid.NewString(),
		Tenant:   t.ID,
		Pin:      p,
		Created:  now.UTC().Truncate(time.Millisecond),
		Replaces: replaces,
		Status:   Queued,
		Due:      now,
		MaxBytes: limit,
	}
	row.Reserved = s.standing(row, terms, 0)
	if row, err = s.addRow(ctx, row); err != nil {
		return PinStatus{}, err
	}
	s.rouse(WorkNew)
	return s.status(row), nil
}

// Get is one of the tenant's pins. ErrNotFound, also for another tenant's.
func (s *Service) Get(ctx context.Context, t Tenant, id string) (PinStatus, error) {
	if t.ID == "" {
		return PinStatus{}, ErrUnauthorized
	}
	row, err := s.cfg.Pins.GetPin(ctx, t.ID, id)
	if err != nil {
		return PinStatus{}, err
	}
	return s.statusAndUsage(ctx, row)
}

// List is the newest of the tenant's pins that match. ErrInvalid.
func (s *Service) List(ctx context.Context, t Tenant, q Query) (PinResults, error) {
	if t.ID == "" {
		return PinResults{}, ErrUnauthorized
	}
	if err := q.Check(); err != nil {
		return PinResults{}, err
	}
	rows, total, err := s.cfg.Pins.ListPins(ctx, t.ID, q)
	if err != nil {
		return PinResults{}, err
	}
	res := PinResults{Count: total, Results: make([]PinStatus, len(rows))}
	for i, row := range rows {
		if res.Results[i], err = s.statusAndUsage(ctx, row); err != nil {
			return PinResults{}, err
		}
	}
	return res, nil
}

// Delete ends a pin: it is gone for the tenant at once, and its roots are
// released, durably so. ErrNotFound.
func (s *Service) Delete(ctx context.Context, t Tenant, id string) error {
	if t.ID == "" {
		return ErrUnauthorized
	}
	if err := s.cfg.Pins.RemovePin(ctx, t.ID, id, s.cfg.Now()); err != nil {
		return err
	}
	s.mu.Lock()
	j := s.jobs[id]
	s.mu.Unlock()
	if j != nil { // whoever works on it is told, and a worker removes it then
		j.cancel(errRemoved)
		return nil
	}
	row, err := s.cfg.Pins.LeasePin(ctx, id, s.lease())
	if err == nil {
		s.work(ctx, row)
	}
	return nil // else a worker finds it
}

// FollowNow has the pins that follow this name look it up at once: a new record
// has come. It is a hint that may be given often, and for any name.
func (s *Service) FollowNow(n naming.Name) {
	const most = 10_000 // beyond, names are left to the timer
	s.mu.Lock()
	if len(s.poked) < most {
		s.poked[n] = struct{}{}
	}
	for _, j := range s.jobs {
		if j.follow == n {
			j.poked = true
		}
	}
	s.mu.Unlock()
	s.rouse(WorkStanding)
}

// FollowedNames is the names of all name pins, each once: whose records a
// host keeps alive.
func (s *Service) FollowedNames(ctx context.Context) ([]naming.Name, error) {
	return s.cfg.Pins.FollowedNames(ctx)
}

// Audited tells whether a tenant's pin lets verifier audit these roots of the
// site: it names the verifier as its auditor, and either follows the site or is
// an ordinary pin of the site that has one of the roots. Where the store fails, nobody may.
func (s *Service) Audited(ctx context.Context, verifier peer.ID, site naming.Name, roots []cid.Cid) bool {
	if verifier == "" || site.IsZero() {
		return false
	}
	rows, err := s.cfg.Pins.AuditorPins(ctx, verifier)
	if err != nil {
		s.log.Error("pin store", "err", err)
		return false
	}
	for _, row := range rows {
		t, err := row.Pin.Terms()
		if err != nil || t.Auditor != verifier || t.Site != site {
			continue
		}
		if t.Follow == site || slices.ContainsFunc(roots, func(c cid.Cid) bool { return sameBlock(c, row.Pin.CID) }) {
			return true
		}
	}
	return false
}

// sameBlock tells whether two CIDs name the same bytes, read the same way.
func sameBlock(a, b cid.Cid) bool {
	return a.Defined() && b.Defined() && a.Type() == b.Type() && string(a.Hash()) == string(b.Hash())
}

// status is a row as the API shows it, with the progress in hand.
func (s *Service) status(row PinRow) PinStatus {
	info := map[string]string{}
	s.tellProgress(info, row)
	if row.Reserved > 0 {
		info[InfoReserved] = strconv.FormatInt(row.Reserved, 10)
	}
	if row.Sequence > 0 {
		info[InfoSequence] = strconv.FormatUint(row.Sequence, 10)
	}
	if row.Root.Defined() {
		info[InfoRoot] = row.Root.String()
	}
	if len(row.Kept) > 0 {
		info[InfoKept] = joinCIDs(row.Kept)
	}
	if row.LastError != "" {
		info[InfoLastError] = row.LastError
		if row.Status == Failed {
			info["status_details"] = row.LastError // where other clients look
		}
	}
	if (row.Attempts > 0 || row.LastError != "" && row.Status == Queued) && !row.Due.IsZero() {
		info[InfoNextTry] = row.Due.UTC().Format(time.RFC3339)
	}
	tellRole(info, row)
	st := PinStatus{RequestID: row.ID, Status: row.Status, Created: row.Created, Pin: row.Pin, Delegates: []string{}, Info: info}
	if s.cfg.Delegates != nil {
		if d := s.cfg.Delegates(); len(d) > 0 {
			st.Delegates = d[:min(len(d), 20)] // the specification's limit
		}
	}
	return st
}

// statusAndUsage is status with what the pin takes here. How much of it others
// keep too is not the tenant's business.
func (s *Service) statusAndUsage(ctx context.Context, row PinRow) (PinStatus, error) {
	st := s.status(row)
	u, err := s.cfg.Blocks.Usage(ctx, Owner(row.ID))
	if err == nil && u.Roots > 0 {
		st.Info[InfoBytes] = strconv.FormatInt(u.Bytes, 10)
	}
	if terms, terr := row.Pin.Terms(); terr == nil && !terms.Follow.IsZero() && s.cfg.NamePut != nil {
		if at := s.cfg.NamePut(ctx, terms.Follow); !at.IsZero() {
			st.Info[InfoNamePut] = at.UTC().Format(time.RFC3339)
		}
	}
	return st, err
}

func joinCIDs(cs []cid.Cid) string {
	var b strings.Builder
	for i, c := range cs {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(c.String())
	}
	return b.String()
}

// rouse makes the loop of this kind look for work.
func (s *Service) rouse(w Work) {
	select {
	case s.wake[w] <- struct{}{}:
	default: // it is about to look anyway
	}
}

// jittered is d, give or take a tenth.
func jittered(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }
