package replicate

import "time"

// Sight is what one host knows of one member of a site's roster, by its own
// audits and calls only: hearsay never counts. Call and Audit keep it. What calls tell is the
// same for all sites that the two share; what audits tell is the site's own.
type Sight struct {
	// By calls.
	Tried    time.Time     // when we last called it; zero: never
	Seen     time.Time     // when it last answered anything; equal to Tried while it is up
	Up       time.Time     // since when it has answered without a silence of Times.Break; zero: never
	Back     time.Time     // when it last answered after a call that it didn't; zero: never
	Down     time.Time     // since when no call was answered, pauses of our own taken out; zero while it answers
	Awake    time.Time     // since when we have called it without a pause of our own
	Patience time.Duration // the silence after which we presume it gone; 0: DefaultPatience

	// By audits.
	Asked  time.Time // when we last had it prove itself, whatever came of it; zero: never
	Held   time.Time // when it last proved to us that it holds the site; zero: never
	Since  time.Time // since when it holds it without a break, as far as we saw; zero where it doesn't
	Absent time.Time // since when it says, or was found, not to hold it; zero: never. Counts unless it proved to later
	Out    bool      // convicted: it never counts again
}

// DefaultPatience is how long a host of which too little is known may be silent before it is presumed gone.
const DefaultPatience = 21 * 24 * time.Hour

// Call takes in one call to the member.
func (s *Sight) Call(at time.Time, answered bool, t Times) {
	t = t.WithDefaults()
	s.forgetAhead(at, t)
	pause, first := at.Sub(s.Tried), s.Tried.IsZero()
	if first || pause > t.Pause() {
		s.Awake = at
	}
	switch {
	case answered:
		if s.Up.IsZero() || at.Sub(s.Seen) > t.Break {
			s.Up = at
		}
		if !first && !s.answered() {
			s.Back = at
		}
		s.Seen, s.Down = at, time.Time{}
	case first || s.Down.IsZero():
		s.Down = at
	case pause > t.Pause():
		s.Down = s.Down.Add(pause) // it was us who were away
	}
	s.Tried = at
}

// Audit takes in what came of having the member prove that it holds the site, by
// whatever kind of proof. NotHeld has to be about what is to be held now: of a
// root that was let go it says nothing, and is not to be taken in.
func (s *Sight) Audit(v Verdict, at time.Time, t Times) {
	s.Call(at, v != Unreachable, t)
	s.Asked = at
	switch v {
	case Proved:
		if s.Since.IsZero() || !s.holds() {
			s.Since = at
		}
		s.Held, s.Absent = at, time.Time{}
	case NotHeld, Wrong:
		if s.holds() || s.Absent.IsZero() {
			s.Absent = at
		}
		s.Since = time.Time{}
	}
}

// ahead tells whether any of its times is yet to come.
func (s *Sight) ahead(now time.Time) bool {
	for _, t := range s.times() {
		if t.After(now) {
			return true
		}
	}
	return false
}

func (s *Sight) times() [10]*time.Time {
	return [...]*time.Time{&s.Tried, &s.Seen, &s.Up, &s.Back, &s.Down, &s.Awake, &s.Asked, &s.Held, &s.Since, &s.Absent}
}

// forgetAhead drops times that are yet to come: a clock ran ahead when they were
// written. What was proved stays proved, as something old.
func (s *Sight) forgetAhead(now time.Time, t Times) {
	held := s.Held.After(s.Absent)
	if s.Held.After(now) || s.Absent.After(now) {
		s.Held, s.Absent = time.Time{}, time.Time{}
		if held {
			s.Held = now.Add(-t.Stale / 2)
		}
	}
	for _, t := range s.times() {
		if t.After(now) {
			*t = time.Time{}
		}
	}
}

// holds is what its last proof or denial says, however old.
func (s *Sight) holds() bool { return !s.Out && s.Held.After(s.Absent) }

// answered tells of the last call.
func (s *Sight) answered() bool {
	return s.Down.IsZero() && !s.Tried.IsZero() && !s.Seen.Before(s.Tried)
}

// silentFrom is when it fell silent; it is asked of those that don't answer.
func (s *Sight) silentFrom() time.Time {
	if s.Down.IsZero() {
		return s.Seen
	}
	return s.Down
}

// asked tells whether we had it prove itself since, and not before it was
// last silent: who could not be reached then may hold the site all the same.
func (s *Sight) asked(since time.Time) bool {
	return !s.Asked.Before(since) && !(s.answered() && s.Asked.Before(s.Back))
}

func (s *Sight) patience() time.Duration {
	if s.Patience <= 0 {
		return DefaultPatience
	}
	return s.Patience
}

// stale is when its last proof stops to count, if it answers all the while. Time in which
// we didn't call, or which a clock that jumped made up, doesn't count either.
func (s *Sight) stale(t Times) time.Time { return later(s.Held, s.Awake).Add(t.Stale) }

// gone is when it stopped, or will stop, to be present where nothing more is
// heard of it; zero where it never was.
func (s *Sight) gone(t Times) time.Time {
	switch stale := s.stale(t); {
	case s.Held.IsZero():
		return time.Time{}
	case !s.holds():
		return s.Absent
	case s.Tried.IsZero() || s.answered() || s.silentFrom().After(stale):
		return stale
	}
	return s.silentFrom().Add(s.patience()) // who is silent has no chance to prove itself
}

// present: it proved to hold, has not shown the contrary since, and was not
// silent for longer than its patience over calls of ours.
func (s *Sight) present(t Times, now time.Time) bool {
	switch {
	case !s.holds():
		return false
	case s.Tried.IsZero() || s.answered():
		return !now.After(s.stale(t))
	}
	return !s.silentFrom().After(s.stale(t)) && s.Tried.Sub(s.silentFrom()) <= s.patience()
}

// unknown: it is silent, not for long enough to be gone, and it never told us
// whether it holds, or too long ago.
func (s *Sight) unknown(t Times, now time.Time) bool {
	if s.Out || s.answered() || s.present(t, now) || s.Absent.After(s.Held) {
		return false
	}
	return s.Tried.Sub(s.silentFrom()) <= s.patience()
}

// called: we called it lately, so that what we know of its being up is news.
func (s *Sight) called(t Times, now time.Time) bool {
	return !s.Tried.IsZero() && now.Sub(s.Tried) <= t.Pause()
}

// live: present, and it answered a call just now.
func (s *Sight) live(t Times, now time.Time) bool {
	return s.called(t, now) && s.answered() && s.present(t, now)
}

// lost is when it stopped to be live.
func (s *Sight) lost(t Times, now time.Time) time.Time {
	switch {
	case !s.called(t, now):
		return now // not known, so no wait begins
	case s.holds() && !s.answered():
		return earlier(s.silentFrom(), s.gone(t))
	}
	return s.gone(t)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
