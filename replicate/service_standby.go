package replicate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// Keys in the info of a pin's status that tell of its role; see docs/formats.md.
const (
	InfoRole  = "role"
	InfoHolds = "holds"
)

// StandbyStore is the part of a PinStore that knows whose turn it is. The marks
// are not the worker's who has leased a row, so SavePin leaves them alone.
type StandbyStore interface {
	// NamePins is the rows that follow the name, oldest first; of the zero name, all rows
	// that follow any, by name.
	NamePins(ctx context.Context, n naming.Name) ([]PinRow, error)

	// BeginTurn marks the pinned standbys of a name as active since now, but
	// those that are already, and makes them due. It tells how many are active.
	BeginTurn(ctx context.Context, n naming.Name, now time.Time) (int, error)

	// EndTurn takes the marks of a name's standbys back, and makes those that had one due.
	EndTurn(ctx context.Context, n naming.Name, now time.Time) error

	// NoteHolds writes down since when an active standby holds the site, unless it does so already.
	NoteHolds(ctx context.Context, id string, at time.Time) error
}

// TakeOver makes it the turn of this host's standby for a name: from now on it
// holds the site, as a holder does. It is written down when TakeOver returns; the
// work is the next one's who looks, here or after a restart. Doing so again changes nothing.
// ErrNotFound where no standby is pinned.
func (s *Service) TakeOver(ctx context.Context, n naming.Name) error {
	active, err := s.cfg.Pins.BeginTurn(ctx, n, s.cfg.Now())
	if err != nil {
		return err
	}
	if active == 0 {
		return fmt.Errorf("%s: %w that stands by", n, ErrNotFound)
	}
	s.FollowNow(n)
	return nil
}

// LetGo ends the turn of this host's standby for a name: its roots are released,
// the policy stays. Holders are not touched. Doing so again changes nothing.
func (s *Service) LetGo(ctx context.Context, n naming.Name) error {
	if err := s.cfg.Pins.EndTurn(ctx, n, s.cfg.Now()); err != nil {
		return err
	}
	s.FollowNow(n)
	return nil
}

// Standing is where this host stands with one site that its pins follow.
type Standing struct {
	Site     naming.Name
	Standby  bool      // a standby's pin decides: there is one, and no other pin holds the site
	Root     cid.Cid   // held whole; undefined where the site isn't held
	Switched time.Time // when Root became the current one
	Holds    time.Time // since when the site is held, as far as that is known
	Active   time.Time // of a standby: since when it is its turn
	Refused  cid.Cid   // a root that broke a limit of each pin that decides
	Policy   cid.Cid
	Sequence uint64
	Failing  time.Time // since when following fails for each of them; zero where it doesn't
	Error    string
}

// Standings is this host's sites, by name. Store errors.
func (s *Service) Standings(ctx context.Context) ([]Standing, error) {
	rows, err := s.cfg.Pins.NamePins(ctx, naming.Name{})
	if err != nil {
		return nil, err
	}
	var out []Standing
	for len(rows) > 0 {
		n := followedName(rows[0])
		end := slices.IndexFunc(rows, func(r PinRow) bool { return followedName(r) != n })
		if end < 0 {
			end = len(rows)
		}
		st, err := s.bestOf(ctx, n, rows[:end])
		if err != nil {
			return nil, err
		}
		out, rows = append(out, st), rows[end:]
	}
	return out, nil
}

// StandingOf is where this host stands with one site. ErrNotFound where no pin follows it.
func (s *Service) StandingOf(ctx context.Context, n naming.Name) (Standing, error) {
	if n.IsZero() {
		return Standing{}, ErrNotFound
	}
	rows, err := s.cfg.Pins.NamePins(ctx, n)
	if err != nil {
		return Standing{}, err
	}
	if len(rows) == 0 {
		return Standing{}, fmt.Errorf("%s: %w", n, ErrNotFound)
	}
	return s.bestOf(ctx, n, rows)
}

func followedName(row PinRow) naming.Name {
	terms, _ := row.Pin.Terms() // was checked when it came
	return terms.Follow
}

// bestOf puts together what the pins of one name say: the best of them counts.
func (s *Service) bestOf(ctx context.Context, n naming.Name, rows []PinRow) (Standing, error) {
	out := Standing{Site: n}
	held := false // by a pin that is no standby's
	for _, row := range rows {
		terms, _ := row.Pin.Terms()
		holding := row.Root.Defined() && (!terms.Standby || !row.Active.IsZero())
		if holding {
			whole, err := keeps(ctx, s.cfg.Blocks, row.Root)
			if err != nil {
				return Standing{}, err
			}
			holding = whole
		}
		since := row.Holds
		if terms.Standby {
			out.Standby = true
		} else {
			since, held = row.Created, held || holding
		}
		if holding && (!out.Root.Defined() || row.Sequence > out.Sequence) {
			out.Root, out.Switched = row.Root, row.Switched
		}
		if holding && (out.Holds.IsZero() || since.Before(out.Holds)) {
			out.Holds = since
		}
		if row.Policy.Defined() && (!out.Policy.Defined() || row.Sequence >= out.Sequence) {
			out.Policy = row.Policy
		}
		if row.Active.After(out.Active) {
			out.Active = row.Active
		}
		out.Sequence = max(out.Sequence, row.Sequence)
	}
	out.Standby = out.Standby && !held
	out.blame(rows)
	return out, nil
}

// blame says what is wrong with the pins that decide. The trouble of one tenant's is not another's: while one of them
// has none, there is none.
func (st *Standing) blame(rows []PinRow) {
	first := true
	for _, row := range rows {
		if terms, _ := row.Pin.Terms(); terms.Standby != st.Standby {
			continue
		}
		if first {
			st.Refused, st.Failing, st.Error, first = row.Refused, row.Failing, row.LastError, false
		}
		if !row.Refused.Defined() {
			st.Refused = cid.Undef
		}
		if row.LastError == "" {
			st.Failing, st.Error = time.Time{}, ""
		}
	}
}

// roomToHold tells whether a standby that a full quota has kept from holding the site has room for it now.
func (s *Service) roomToHold(ctx context.Context, n naming.Name) bool {
	rows, err := s.cfg.Pins.NamePins(ctx, n)
	if err != nil {
		s.log.Error("pin store", "err", err)
	}
	return slices.ContainsFunc(rows, func(row PinRow) bool {
		terms, _ := row.Pin.Terms()
		return terms.Standby && s.roomAgain(ctx, row)
	})
}

// waits tells whether a pin holds the policy only, until its turn comes.
func waits(row PinRow, terms PinTerms) bool { return terms.Standby && row.Active.IsZero() }

// standBack leaves a standby, whose turn is over, with the policy alone.
func (r *PinRow) standBack() {
	r.keepOnly(slices.DeleteFunc(slices.Clone(r.Kept), func(c cid.Cid) bool { return !sameBlock(c, r.Pin.CID) }))
	if r.Fetching.Defined() && !slices.Contains(r.Dropping, r.Fetching) {
		r.Dropping = append(r.Dropping, r.Fetching)
	}
	r.Root, r.Fetching, r.Switched = cid.Undef, cid.Undef, time.Time{}
}

// noteHolds has a standby that holds the site say since when.
func (s *Service) noteHolds(ctx context.Context, row *PinRow, terms PinTerms) error {
	if !terms.Standby || row.Active.IsZero() || !row.Root.Defined() || !row.Holds.IsZero() {
		return nil
	}
	row.Holds = s.cfg.Now()
	return s.cfg.Pins.NoteHolds(ctx, row.ID, row.Holds)
}

// tellRole adds to a pin's info what part it has in keeping its site.
func tellRole(info map[string]string, row PinRow) {
	terms, err := row.Pin.Terms()
	if err != nil || terms.Follow.IsZero() {
		return
	}
	info[InfoRole] = RoleHolder
	if terms.Standby {
		info[InfoRole] = RoleStandby
		if !row.Holds.IsZero() && row.Root.Defined() {
			info[InfoHolds] = row.Holds.UTC().Format(time.RFC3339)
		}
	}
}

// rosterSources is the members of the roster of a pin's policy, from whom its site
// may be had. They are the author's word: what of their addresses may be dialled is the fetcher's business.
func (s *Service) rosterSources(ctx context.Context, row PinRow) (from []peer.AddrInfo) {
	if !row.Policy.Defined() {
		return nil
	}
	p, err := ReadPolicy(ctx, s.cfg.Blocks, row.Policy)
	if err != nil {
		return nil
	}
	for _, m := range p.Roster {
		// One without a readable address may be connected all the same.
		ai, _ := m.AddrInfo()
		from = append(from, ai)
	}
	return from
}
