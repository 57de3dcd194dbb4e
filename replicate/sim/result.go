package sim

// Result is what a run came to, or several runs together (Add). All counts are integers, so that
// the order in which sites are played makes no difference.
type Result struct {
	Sites     int
	FourNines int // sites that could be had for 99.99 % of the time
	Lost      int // sites of which no copy is left
	Unplaced  int // sites that never had a copy: too few hosts

	Bytes  int64 // of one copy of each site
	Placed int64 // copied by the author's publishing
	Moved  int64 // copied for repair
	// Oracle is what would have been copied by one that knows of permanent losses at once, repairs nothing
	// else, and wants as many copies of each site as the contender.
	Oracle int64

	Span   int64 // milliseconds of all sites' time
	Served int64 // of them with a live copy somewhere
	Held   int64 // times copies, on hosts that aren't gone for good
	Wanted int64 // times copies wanted

	Takes, Gives int
	// Below is how often a host let go and left fewer copies than wanted, up or down; 0 is the promise.
	// Thin is how often it left fewer live ones: another failed since the proofs.
	Below, Thin int
	MostExtra   int // the most live copies of a site beyond those wanted
	Decisions   int // how often Decide was called

	// Load is the use of the fullest host after the publish by what is allowed, max(1.10 × its fair share, that and
	// the largest site), in thousandths; Overruns are hosts that were given more than their quota.
	Load, Overruns int
	// Liars are those with a seat in a roster; Convicted are those of whom two members of a roster were sure within
	// seven days.
	Liars, Convicted int
	guilt            []guilt // by host, while a world is played

	Days []Day // the course of it
	Split
}

// Split is how a world that was split came together again; zero in worlds that weren't.
type Split struct {
	Most int // the most copies of a site while split and for 48 h after, as a multiple of those wanted, in hundredths
	// Before and After are the sites with more live copies than wanted as the split began, and 48 h after it ended:
	// some always have, since hosts come back.
	Before, After int
}

// guilt is what came out about a liar.
type guilt uint8

const (
	unseated guilt = iota
	seated
	convicted
)

// judge sums up what came out in a world.
func (r *Result) judge() {
	for _, g := range r.guilt {
		if g > unseated {
			r.Liars++
		}
		if g == convicted {
			r.Convicted++
		}
	}
	r.guilt = nil
}

// Day is one day of the course.
type Day struct {
	Moved int64 // bytes
	Dark  int64 // milliseconds of sites that could not be had
}

// Available is the share of all sites' time with a live copy.
func (r Result) Available() float64 { return ratio(r.Served, r.Span) }

// Nines is the share of sites that could be had for 99.99 % of the time.
func (r Result) Nines() float64 { return ratio(int64(r.FourNines), int64(r.Sites)) }

// Copies is the mean number of copies of a site on hosts that aren't gone for good.
func (r Result) Copies() float64 { return ratio(r.Held, r.Span) }

// Cost is the bytes of repair by those of the oracle; 0 where that moves nothing.
func (r Result) Cost() float64 { return ratio(r.Moved, r.Oracle) }

// PerYear is the bytes of repair in a year by those of one copy of all sites.
func (r Result) PerYear() float64 {
	if r.Span == 0 {
		return 0
	}
	years := float64(r.Span) / float64(r.Sites) / float64(year.Milliseconds())
	return ratio(r.Moved, r.Bytes) / years
}

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Add takes in the result of another seed, or of other sites.
func (r *Result) Add(o Result) {
	r.Sites, r.FourNines, r.Lost, r.Unplaced = r.Sites+o.Sites, r.FourNines+o.FourNines, r.Lost+o.Lost, r.Unplaced+o.Unplaced
	r.Bytes, r.Placed, r.Moved, r.Oracle = r.Bytes+o.Bytes, r.Placed+o.Placed, r.Moved+o.Moved, r.Oracle+o.Oracle
	r.Span, r.Served, r.Held, r.Wanted = r.Span+o.Span, r.Served+o.Served, r.Held+o.Held, r.Wanted+o.Wanted
	r.Takes, r.Gives, r.Decisions = r.Takes+o.Takes, r.Gives+o.Gives, r.Decisions+o.Decisions
	r.Below, r.Thin = r.Below+o.Below, r.Thin+o.Thin
	r.MostExtra = max(r.MostExtra, o.MostExtra)
	r.Load, r.Overruns = max(r.Load, o.Load), r.Overruns+o.Overruns
	r.Liars, r.Convicted = r.Liars+o.Liars, r.Convicted+o.Convicted
	r.Split = Split{Most: max(r.Most, o.Most), Before: r.Before + o.Before, After: r.After + o.After}
	for i, g := range o.guilt {
		if len(r.guilt) <= i {
			r.guilt = append(r.guilt, unseated)
		}
		r.guilt[i] = max(r.guilt[i], g)
	}
	for len(r.Days) < len(o.Days) {
		r.Days = append(r.Days, Day{})
	}
	for i, d := range o.Days {
		r.Days[i].Moved += d.Moved
		r.Days[i].Dark += d.Dark
	}
}

// Contender is a way to place sites and to keep them.
type Contender struct {
	Name string
	play func(*World) Result
}

// Run plays the world to its end.
func (c Contender) Run(w *World) Result { return c.play(w) }
