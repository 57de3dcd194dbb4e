package replicate

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Seat is a host's own place in the roster of one site, and what it sees from
// there. It is all that Decide may know.
type Seat struct {
	Copies  int           // wanted: the policy's. 0: nothing is done
	Rank    int           // ours, from 0
	Holding bool          // we hold the site whole, verified
	Since   time.Time     // since when we hold it; zero where we don't
	Taking  bool          // an earlier Take is in hand, and getting on
	May     bool          // we take over and let go by this rule: it is ours as a standby, not as a holder that a tenant pays for
	Others  []Sight       // of every member, by rank; the one at Rank is ignored
	Short   time.Time     // since when we have seen too few copies; from the last Decision
	Jitter  time.Duration // our own share of Times.Jitter, drawn once for the site
	Heard   time.Time     // when any peer at all, of this roster or not, last answered us; zero: not known
}

// Times are the clocks of repair. The zero value of each is its default.
type Times struct {
	Grace    time.Duration // before the first standby takes over; 1 h
	Delta    time.Duration // more for each live standby of better rank; 1 h
	Jitter   time.Duration // the most that is added to part those who would act at once; 30 min
	Fast     time.Duration // in place of Grace, and at most of Delta, where one live copy is left; 10 min
	ProofAge time.Duration // how old a proof may be that lets us give up, and an answer that lets us take over; 1 h
	Surplus  time.Duration // for how long there have to be more copies than wanted before one goes; 36 h
	Call     time.Duration // how often every member is called; 5 min
	Break    time.Duration // the silence that ends an unbroken time of being up; 20 min, and at least three calls
	Stale    time.Duration // a proof that is older doesn't count of one that answers: who is always busy holds nothing; 14 days
}

// withDefaults fills in what is not set.
func (t Times) WithDefaults() Times {
	set := func(d *time.Duration, byDefault time.Duration) {
		if *d <= 0 {
			*d = byDefault
		}
	}
	set(&t.Grace, time.Hour)
	set(&t.Delta, time.Hour)
	set(&t.Jitter, 30*time.Minute)
	set(&t.Fast, 10*time.Minute)
	set(&t.ProofAge, time.Hour)
	set(&t.Surplus, 36*time.Hour)
	set(&t.Call, 5*time.Minute)
	set(&t.Break, 20*time.Minute)
	t.Break = max(t.Break, 3*t.Call) // or what is up all the time would break between two calls
	set(&t.Stale, 14*24*time.Hour)
	return t
}

// Pause is the time between two calls that is too long to be by plan: we were asleep.
func (t Times) Pause() time.Duration { return max(3*t.Call, t.Fast) }

// Step is what a host should do about a site now.
type Step string

// The steps.
const (
	Rest Step = "rest" // nothing until Decision.At; a fetch for an earlier Take is called off
	Ask  Step = "ask"  // call, and have prove itself, each of Decision.Whom (Sight.Audit); then decide again
	Take Step = "take" // fetch the site, verify the whole root, serve it, relay its name
	Give Step = "give" // let go of our copy
)

// Decision is what Decide says.
type Decision struct {
	Step  Step
	Whom  []int     // of Ask: ranks
	At    time.Time // when to decide again at the latest, always later than now; sooner where something is seen
	Short time.Time // for the next Seat
	Why   string    // for people
}

// restAtMost is how long nothing is decided where nothing is seen to change.
const restAtMost = 24 * time.Hour

// Decide is the rule by which a host keeps a site alive without its author. It is a
// pure function of what the host sees.
func Decide(s Seat, t Times, now time.Time) Decision {
	v := newView(s, t, now)
	switch {
	case s.Copies <= 0 || s.Rank < 0 || s.Rank >= len(s.Others):
		return v.rest(time.Time{}, "no seat in a roster that wants copies")
	case !s.May:
		return v.rest(time.Time{}, "a holder, by the word of its tenant")
	case s.Holding:
		return v.holding()
	}
	return v.standing()
}

// view is a seat with what follows from it at one moment.
type view struct {
	Seat
	t       Times
	now     time.Time
	present int
	live    int
}

func newView(s Seat, t Times, now time.Time) view {
	v := view{Seat: s, t: t.WithDefaults(), now: now}
	v.Jitter = min(max(0, s.Jitter), v.t.Jitter)
	if slices.ContainsFunc(s.Others, func(o Sight) bool { return o.ahead(now) }) {
		v.Others = slices.Clone(s.Others)
		for i := range v.Others {
			v.Others[i].forgetAhead(now, v.t)
		}
	}
	for _, o := range v.others() {
		if o.present(v.t, now) {
			v.present++
		}
		if o.live(v.t, now) {
			v.live++
		}
	}
	return v
}

// others are the members but ourselves, by rank.
func (v *view) others() iter.Seq2[int, *Sight] {
	return func(yield func(int, *Sight) bool) {
		for i := range v.Others {
			if i != v.Rank && !yield(i, &v.Others[i]) {
				return
			}
		}
	}
}

// standing is for a standby that doesn't hold.
func (v *view) standing() Decision {
	if v.Taking && v.solid() < v.Copies {
		return Decision{Step: Take, At: v.now.Add(v.t.Call), Short: v.since(), Why: "begun, and those that are back have not been so for long"}
	}
	if why := v.blind(); why != "" {
		return v.rest(v.now.Add(v.t.Call), why)
	}
	few := min(2, v.Copies)
	if v.present >= v.Copies && v.live >= few {
		return v.rest(v.nextGone(), "enough are present")
	}
	short := v.since()
	end, counts, maybe := v.slowEnd(short), (*Sight).present, v.unknown()
	if fast := v.fastEnd(short, few); end.IsZero() || !fast.IsZero() && fast.Before(end) {
		end, counts, maybe = fast, (*Sight).live, 0
	}
	d := Decision{Step: Rest, At: v.now.Add(v.t.Call), Short: short}
	d.Why = fmt.Sprintf("%d of %d present, %d live", v.present, v.Copies, v.live)
	if v.now.Before(end) {
		d.At, d.Why = end, d.Why+": waiting"
		return d
	}
	since := later(end, v.now.Add(-v.t.ProofAge))
	for i, o := range v.others() {
		if !o.Out && !counts(o, v.t, v.now) && !o.asked(since) {
			d.Whom = append(d.Whom, i)
		}
	}
	switch {
	case len(d.Whom) > 0:
		d.Step, d.Why = Ask, d.Why+": asking the others again"
	case v.present+maybe >= v.Copies && maybe > 0:
		d.Why += ": waiting for those that may hold"
	default:
		d.Step = Take
	}
	return d
}

// unknown is how many may hold for all that we know.
func (v *view) unknown() int {
	n := 0
	for _, o := range v.others() {
		if o.unknown(v.t, v.now) {
			n++
		}
	}
	return n
}

// blind says why what we see may be our own fault: then nobody is presumed gone.
func (v *view) blind() string {
	var tried time.Time
	answered := false
	for _, o := range v.others() {
		if o.called(v.t, v.now) {
			tried = later(tried, o.Tried)
			answered = answered || o.answered()
		}
	}
	switch {
	case tried.IsZero():
		return "nobody has been called lately"
	case !answered && (v.Heard.After(v.now) || tried.Sub(v.Heard) > v.t.Call*3/2):
		return "nobody answers, so it may be us"
	}
	return ""
}

// since is from when we have seen too few copies without a pause of our own.
func (v *view) since() time.Time {
	short := v.Short
	if short.IsZero() || short.After(v.now) {
		return v.now
	}
	awake := v.now
	for _, o := range v.others() {
		if o.called(v.t, v.now) {
			awake = earlier(awake, o.Awake)
		}
	}
	return later(short, awake)
}

// solid is how many are live and have been so for a while: those that flap
// don't have a fetch begun again and again.
func (v *view) solid() int {
	n := 0
	for i, o := range v.others() {
		if o.live(v.t, v.now) && v.now.Sub(v.up(i)) > v.t.Break {
			n++
		}
	}
	return n
}

// slowEnd is when the wait on the slow clock ends; zero where it doesn't run.
func (v *view) slowEnd(short time.Time) time.Time {
	if v.present >= v.Copies {
		return time.Time{}
	}
	from := later(short, v.nth(v.Copies-v.present, func(o *Sight) (time.Time, bool) {
		return o.gone(v.t), !o.present(v.t, v.now)
	}))
	return from.Add(v.t.Grace + time.Duration(v.before())*v.t.Delta + v.Jitter)
}

// fastEnd is when the wait on the fast clock ends; zero where it doesn't run.
func (v *view) fastEnd(short time.Time, few int) time.Time {
	if v.live >= few {
		return time.Time{}
	}
	from := later(short, v.nth(few-v.live, func(o *Sight) (time.Time, bool) {
		return o.lost(v.t, v.now), !o.live(v.t, v.now)
	}))
	wait := v.t.Fast + time.Duration(v.before())*min(v.t.Delta, v.t.Fast)
	return from.Add(wait + v.Jitter%max(1, v.t.Fast/2))
}

// nth is the n-th latest of the times of those members that have one: when the
// count fell to where it is. Zero where there are fewer, or the time is not known.
func (v *view) nth(n int, when func(*Sight) (time.Time, bool)) time.Time {
	var times []time.Time
	for _, o := range v.others() {
		if at, ok := when(o); ok && !at.After(v.now) {
			times = append(times, at)
		}
	}
	if len(times) < n {
		return time.Time{}
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[n-1]
}

// before is how many would take over before us: those of better rank that are
// up and don't hold. Those that are down cost nobody a wait.
func (v *view) before() int {
	n := 0
	for i := range v.Others[:v.Rank] {
		if o := &v.Others[i]; !o.Out && o.called(v.t, v.now) && o.answered() && !o.present(v.t, v.now) {
			n++
		}
	}
	return n
}

// nextGone is when the next member stops to be present where nothing more is heard of it.
func (v *view) nextGone() time.Time {
	at := v.now.Add(restAtMost)
	for _, o := range v.others() {
		if o.present(v.t, v.now) {
			at = earlier(at, o.gone(v.t))
		}
	}
	return at
}

// holding is for a standby that holds.
func (v *view) holding() Decision {
	steady := v.steady()
	if len(steady) < v.Copies {
		return v.rest(time.Time{}, fmt.Sprintf("needed: %d of %d of better rank are live", len(steady), v.Copies))
	}
	// As many as are wanted, the steadiest of them, have to have been so for long enough.
	ripe := later(v.Since, v.up(steady[v.Copies-1])).Add(v.t.Surplus + v.Jitter)
	if v.now.Before(ripe) {
		return v.rest(ripe, "one copy too many, not for long enough")
	}
	return v.giving(steady)
}

// steady are the live holders of better rank, those first who have been so for longest.
func (v *view) steady() []int {
	var ranks []int
	for i := range v.Others[:v.Rank] {
		if v.Others[i].live(v.t, v.now) {
			ranks = append(ranks, i)
		}
	}
	slices.SortFunc(ranks, func(a, b int) int {
		return cmp.Or(v.up(a).Compare(v.up(b)), cmp.Compare(a, b))
	})
	return ranks
}

// up is since when a live holder has been one without a break.
func (v *view) up(rank int) time.Time {
	o := &v.Others[rank]
	since := o.Since
	if since.IsZero() {
		since = o.Held
	}
	return later(since, o.Up)
}

// giving lets go against fresh proofs of as many holders of better rank as copies are wanted.
func (v *view) giving(steady []int) Decision {
	fresh := v.now.Add(-v.t.ProofAge)
	proved, ask, again := 0, []int(nil), v.now.Add(v.t.ProofAge)
	for _, i := range steady {
		o := &v.Others[i]
		switch {
		case v.up(i).Add(v.t.Surplus).After(v.now):
			// It has come too lately to be relied upon.
		case !o.Held.Before(fresh):
			proved++
		case o.Asked.Before(fresh):
			ask = append(ask, i)
		default:
			again = earlier(again, o.Asked.Add(v.t.ProofAge))
		}
	}
	missing := v.Copies - proved
	switch {
	case missing <= 0:
		return Decision{Step: Give, At: v.now.Add(v.t.Call), Why: fmt.Sprintf("%d of better rank have proved that they hold", proved)}
	case len(ask) > 0:
		ask = ask[:min(len(ask), missing)]
		slices.Sort(ask)
		return Decision{Step: Ask, Whom: ask, At: v.now.Add(v.t.Call), Why: "one copy too many: asking those that would remain"}
	}
	return v.rest(again, "one copy too many, but those that would remain don't prove it")
}

// rest is the decision to do nothing until at: some time, where that is zero or past.
func (v *view) rest(at time.Time, why string) Decision {
	switch {
	case at.IsZero():
		at = v.now.Add(restAtMost)
	case !at.After(v.now):
		at = v.now.Add(v.t.Call)
	}
	return Decision{Step: Rest, At: at, Why: why}
}
