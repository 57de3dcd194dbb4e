package replicate

import "time"

// Sight is what one host knows of one member of a site's roster, by its own
// audits and calls only: hearsay never counts.
type Sight struct {
	Tried    time.Time     // when we last called it; zero: never
	Seen     time.Time     // when it last answered anything; equal to Tried while it is up
	Held     time.Time     // when it last proved to us that it holds the site; zero: never
	Absent   time.Time     // when it last said, or was found, not to hold it; zero: never. Counts where it is later than Held
	Since    time.Time     // since when it holds without a break, as far as we saw; zero where it doesn't
	Patience time.Duration // the silence after which we presume it gone
	Out      bool          // convicted: it never counts again
}

// Seat is a host's own place in the roster of one site, and what it sees from
// there. It is all that Decide may know.
type Seat struct {
	Copies  int           // wanted: the policy's
	Rank    int           // ours, from 0
	Holding bool          // we hold the site whole, verified
	Since   time.Time     // since when we hold it; zero where we don't
	May     bool          // we may let go of it: it is ours as a standby, not as a holder that a tenant pays for
	Others  []Sight       // of every member, by rank; the one at Rank is ignored
	Short   time.Time     // since when we have seen fewer than Copies; from the last Decision
	Jitter  time.Duration // our own share of Times.Jitter, drawn once for the site
}

// Times are the clocks of repair. The zero value of each is its default.
type Times struct {
	Grace    time.Duration // before the first standby takes over; 0: default
	Delta    time.Duration // more for each rank
	Jitter   time.Duration // the most that is added to part those who would act at once
	Fast     time.Duration // in place of Grace where one live copy is left
	ProofAge time.Duration // how old a proof may be that lets us give up; 24 h
	Surplus  time.Duration // for how long there have to be more copies than wanted before one goes
	Call     time.Duration // how often every member is called
}

// Step is what a host should do about a site now.
type Step string

// The steps.
const (
	Rest Step = "rest" // nothing until Decision.At
	Ask  Step = "ask"  // call, and have prove itself, each of Decision.Whom; then decide again
	Take Step = "take" // fetch the site, verify the whole root, serve it, relay its name
	Give Step = "give" // let go of our copy
)

// Decision is what Decide says.
type Decision struct {
	Step  Step
	Whom  []int     // of Ask: ranks
	At    time.Time // when to decide again at the latest; sooner where something is seen
	Short time.Time // for the next Seat
	Why   string    // for people
}

// Decide is the rule by which a host keeps a site alive without its author. It is a
// pure function of what the host sees. TODO(skeleton)
func Decide(s Seat, t Times, now time.Time) Decision {
	return Decision{Step: Rest, At: now.Add(time.Hour), Short: s.Short}
}
