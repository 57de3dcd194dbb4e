package replicate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
)

const (
	claimAhead = 1 << 20 // bytes that a fetch reserves beyond what it is about to store, at least
	bookTries  = 10      // how often it is begun anew because somebody else has changed the books
	countShare = 10      // of the time, one part in so many may be spent on counting what tenants keep
)

// metered is a pin's session that stores nothing for which there was no room,
// and notes where it came from.
type metered struct {
	blockstore.Session
	service  *Service
	id       string // of the pin
	declared bool
	sources  *sources

	claiming chan struct{} // held while a claim is made: those who come after may find room left
	claimed  bool          // guarded by claiming, like all below
	since    int64         // bytes stored since the last claim
	total    int64         // bytes stored in all
	slack    int64         // bytes that may be stored before the next
}

// Put implements blockstore.Session. A *QuotaError where there is no room.
func (m *metered) Put(ctx context.Context, blks ...blockstore.Block) (blockstore.Added, error) {
	var need int64
	for _, b := range blks {
		need += int64(b.Size())
	}
	if err := m.claim(ctx, need); err != nil {
		return blockstore.Added{}, err
	}
	added, err := m.Session.Put(ctx, blks...)
	m.claiming <- struct{}{}
	m.slack += need - added.Bytes // what was there already took no room
	m.since += added.Bytes
	m.total += added.Bytes
	<-m.claiming
	return added, err
}

// claim takes need bytes out of the slack, and reserves more where that is not enough.
func (m *metered) claim(ctx context.Context, need int64) error {
	m.claiming <- struct{}{}
	defer func() { <-m.claiming }()
	if m.claimed && need <= m.slack {
		m.slack -= need
		return nil
	}
	slack, err := m.service.reserve(ctx, m.id, Claim{
		Fresh: !m.claimed, Since: m.since, Need: need, Want: need + max(claimAhead, m.total/4), Declared: m.declared,
	})
	if err != nil {
		return err
	}
	m.claimed, m.since, m.slack = true, 0, slack-need
	return nil
}

// Gave implements SourceWatcher.
func (m *metered) Gave(id peer.ID, bytes int64) {
	m.sources.gave(id, bytes)
	m.service.cfg.Traffic.AddIngress(bytes)
}

// Failed implements SourceWatcher.
func (m *metered) Failed(id peer.ID, why string) { m.sources.failed(id, why) }

// room is what there is for all tenants together.
func (s *Service) room(ctx context.Context) (Room, error) {
	var r Room
	if s.cfg.FreeDisk != nil {
		r.Free = s.cfg.FreeDisk()
	}
	if s.cfg.Capacity <= 0 {
		return r, nil
	}
	// In this order: what is kept later is in the books later.
	host, err := s.cfg.Pins.Account(ctx, "")
	if err != nil {
		return r, err
	}
	u, err := s.cfg.Blocks.Usage(ctx, "")
	r.Capacity, r.Version, r.Used = s.cfg.Capacity, host.Version, u.Bytes
	return r, err
}

// withRoom does something by the room that there is, and again where the books were changed meanwhile.
func (s *Service) withRoom(ctx context.Context, do func(Room) error) error {
	for try := 0; ; try++ {
		room, err := s.room(ctx)
		if err != nil {
			return err
		}
		if err = do(room); !errors.Is(err, ErrStale) || try == bookTries {
			return err
		}
	}
}

// rough tells whether a refusal may only be due to what nobody has counted lately.
func rough(err error) bool {
	q := new(QuotaError)
	return errors.As(err, &q) && !q.Exact
}

// reserve makes a claim, and counts what the tenant keeps where that decides.
func (s *Service) reserve(ctx context.Context, id string, c Claim) (slack int64, err error) {
	try := func() error {
		return s.withRoom(ctx, func(room Room) (err error) {
			slack, err = s.cfg.Pins.Reserve(ctx, id, s.cfg.Identity, c, room)
			return err
		})
	}
	if err = try(); rough(err) {
		row, gerr := s.cfg.Pins.GetPin(ctx, "", id)
		if gerr != nil {
			return 0, err
		}
		if merr := s.count(ctx, row.Tenant); merr != nil {
			return 0, merr
		}
		err = try()
	}
	return slack, err
}

// addRow keeps a new row, and counts what the tenant keeps where that decides.
func (s *Service) addRow(ctx context.Context, row PinRow) (added PinRow, err error) {
	try := func() error {
		return s.withRoom(ctx, func(room Room) (err error) {
			added, err = s.cfg.Pins.AddPin(ctx, row, room)
			return err
		})
	}
	if err = try(); rough(err) {
		if cerr := s.count(ctx, row.Tenant); cerr != nil {
			return row, cerr
		}
		err = try()
	}
	return added, err
}

// count brings a tenant's account up to date.
func (s *Service) count(ctx context.Context, tenant string) error {
	for try := 0; ; try++ {
		m, err := s.measureTenant(ctx, tenant, "")
		if err != nil {
			return err
		}
		if err = s.cfg.Pins.Measure(ctx, tenant, m); !errors.Is(err, ErrStale) || try == bookTries {
			return err
		}
	}
}

// account is a tenant's account, counted anew where it is not exact and that can be done at once: who asks for it
// again and again must not keep this host busy.
func (s *Service) account(ctx context.Context, tenant string) (Account, error) {
	acc, err := s.cfg.Pins.Account(ctx, tenant)
	if err != nil || acc.Exact {
		return acc, err
	}
	select {
	case s.counting <- struct{}{}:
		early := time.Now().Before(s.countNext)
		<-s.counting
		if early {
			return acc, nil
		}
	default:
		return acc, nil
	}
	if err := s.count(ctx, tenant); err != nil && !errors.Is(err, ErrStale) {
		return acc, err
	}
	return s.cfg.Pins.Account(ctx, tenant)
}

// measureTenant counts what the pins of a tenant keep, with and without one of them. That takes a walk over the
// whole index of the blocks, so it is done one at a time, and with pauses.
func (s *Service) measureTenant(ctx context.Context, tenant, without string) (Measured, error) {
	select {
	case s.counting <- struct{}{}:
	case <-ctx.Done():
		return Measured{}, ctx.Err()
	}
	defer func() { <-s.counting }()
	if err := pauseUntil(ctx, s.countNext); err != nil {
		return Measured{}, err
	}
	began := time.Now()
	acc, err := s.cfg.Pins.Account(ctx, tenant)
	if err != nil {
		return Measured{}, err
	}
	ids, err := s.cfg.Pins.PinIDs(ctx, tenant)
	if err != nil {
		return Measured{}, err
	}
	groups := map[string][]string{"all": nil, "after": nil}
	for _, id := range ids {
		groups["all"] = append(groups["all"], Owner(id))
		if id != without {
			groups["after"] = append(groups["after"], Owner(id))
		}
	}
	used, err := s.cfg.Blocks.GroupUsage(ctx, groups)
	s.countNext = time.Now().Add(time.Since(began) * (countShare - 1))
	return Measured{Version: acc.Version, Used: used["all"].Bytes, After: used["after"].Bytes}, err
}

func pauseUntil(ctx context.Context, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// standing is what stays reserved for a pin that keeps held bytes: what it declared beyond that.
func (s *Service) standing(row PinRow, terms PinTerms, held int64) int64 {
	if terms.MaxBytes <= 0 || row.Status == Failed {
		return 0
	}
	return max(0, s.limit(row, terms)-held)
}

// book writes down what a pin has come to keep. With check, what is over the quota or over the host's
// capacity is refused with a *QuotaError, and whoever has kept it releases it.
func (s *Service) book(ctx context.Context, row *PinRow, terms PinTerms, check bool) error {
	u, err := s.cfg.Blocks.Usage(ctx, Owner(row.ID))
	if err != nil {
		return err
	}
	st := Settlement{Held: u.Bytes, Reserved: s.standing(*row, terms, u.Bytes), Check: check}
	settle := func(room Room) error { return s.cfg.Pins.Settle(ctx, row.ID, s.cfg.Identity, st, room) }
	err = s.withRoom(ctx, settle)
	for try := 0; (rough(err) || st.Measured != nil && errors.Is(err, ErrStale)) && try < bookTries; try++ {
		m, merr := s.measureTenant(ctx, row.Tenant, row.Replaces)
		if merr != nil {
			return merr
		}
		st.Measured = &m
		err = s.withRoom(ctx, settle)
	}
	if err == nil {
		row.Held, row.Reserved, row.Stored = st.Held, st.Reserved, 0
	}
	return err
}

// bookRoot books a root that a name pin has just come to keep, and releases it again where that is too much. What
// declared its size keeps to that: it may take more only until the roots before have gone.
func (s *Service) bookRoot(ctx context.Context, row *PinRow, terms PinTerms, root cid.Cid) error {
	err := s.book(ctx, row, terms, terms.MaxBytes <= 0)
	if !errors.Is(err, ErrQuota) || slices.Contains(row.Kept, root) {
		return err
	}
	return errors.Join(err, s.cfg.Blocks.Release(ctx, Owner(row.ID), root))
}

// balance books a pin at the end of a job, where what it keeps, or what is reserved for it, is not what is written down.
func (s *Service) balance(ctx context.Context, row *PinRow, terms PinTerms) error {
	u, err := s.cfg.Blocks.Usage(ctx, Owner(row.ID))
	if err != nil {
		return err
	}
	s.mu.Lock()
	used := s.sessions[row.ID] != nil // then more may be reserved than the row says
	s.mu.Unlock()
	if !used && u.Bytes == row.Held && s.standing(*row, terms, u.Bytes) == row.Reserved && row.Stored == 0 {
		return nil
	}
	return s.book(ctx, row, terms, false)
}

// needOf is how many bytes more something needs that the quota refused; 0 where it was something else.
func needOf(err error) int64 {
	if full := new(QuotaError); errors.As(err, &full) {
		return full.Need
	}
	return 0
}

// roomAgain tells whether there is room now for a root that the quota refused.
func (s *Service) roomAgain(ctx context.Context, row PinRow) bool {
	if row.RefusedNeed <= 0 {
		return false
	}
	acc, err := s.cfg.Pins.Account(ctx, row.Tenant)
	if err == nil && !acc.Exact {
		if err = s.count(ctx, row.Tenant); err == nil {
			acc, err = s.cfg.Pins.Account(ctx, row.Tenant)
		}
	}
	if err != nil {
		return false
	}
	room, err := s.FreeBytes(ctx)
	if err != nil {
		return false
	}
	free := acc.Free()
	return (free < 0 || free >= row.RefusedNeed) && (room == 0 && s.cfg.Capacity <= 0 || room >= row.RefusedNeed)
}

// bookOld books the pins of which an earlier version of the program wrote down nothing.
func (s *Service) bookOld(ctx context.Context) error {
	ids, err := s.cfg.Pins.Unbooked(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		row, err := s.cfg.Pins.LeasePin(ctx, id, s.lease())
		if errors.Is(err, ErrLeased) || errors.Is(err, ErrNotFound) {
			continue // another process does it
		}
		if err != nil {
			return err
		}
		terms, _ := row.Pin.Terms() // was checked when it came
		if !row.Removed {
			err = s.book(ctx, &row, terms, false)
		}
		s.giveBack(ctx, id)
		if err != nil {
			return err
		}
	}
	return nil
}

// FreeBytes is what is neither used nor reserved on this host, as far as that is known; 0 where nothing is.
func (s *Service) FreeBytes(ctx context.Context) (int64, error) {
	room, err := s.room(ctx)
	if err != nil {
		return 0, err
	}
	host, err := s.cfg.Pins.Account(ctx, "")
	if err != nil {
		return 0, err
	}
	return room.FreeBeside(host), nil
}
