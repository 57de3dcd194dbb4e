package replicate

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// repairNow is the moment of the decisions below.
var repairNow = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return repairNow.Add(-d) }

// Sights of members, as of now; they were called just now.
func sightLive() Sight {
	return Sight{Patience: day, Tried: ago(0), Seen: ago(0), Up: ago(90 * day), Awake: ago(90 * day), Asked: ago(6 * time.Hour), Held: ago(6 * time.Hour), Since: ago(90 * day)}
}

func sightEmpty() Sight {
	s := sightLive()
	s.Held, s.Since, s.Absent = time.Time{}, time.Time{}, ago(90*day)
	return s
}

// sightSilent has held, and answered no call for so long.
func sightSilent(d time.Duration) Sight {
	s := sightLive()
	s.Seen, s.Down, s.Held = ago(d+5*time.Minute), ago(d), ago(d+time.Hour)
	return s
}

func (s Sight) askedAgo(d time.Duration) Sight  { s.Asked = ago(d); return s }
func (s Sight) provedAgo(d time.Duration) Sight { s.Asked, s.Held = ago(d), ago(d); return s }

func TestDecideGivesTheReasonsOfRepair(t *testing.T) {
	live, empty, silent := sightLive(), sightEmpty(), sightSilent
	convicted := live
	convicted.Out = true
	justBack := live
	justBack.Up = ago(2 * time.Hour)
	stale := live
	stale.Held, stale.Since, stale.Asked = ago(30*day), ago(90*day), ago(time.Minute)
	unknown := Sight{Patience: day, Tried: ago(0), Down: ago(time.Hour), Awake: ago(2 * time.Hour), Asked: ago(time.Minute)}
	awake := func(s Sight) Sight { s.Awake = ago(10 * time.Minute); return s }
	const asked = time.Minute
	for _, c := range []struct {
		name   string
		seat   Seat // Copies 3, Rank 3 and May where nothing else is said
		want   Step
		whom   []int
		at     time.Duration // from now; 0: not looked at
		longer bool          // Short is set
	}{
		{name: "enough", seat: Seat{Others: []Sight{live, live, live, {}}}, want: Rest},
		{name: "one silent, but not for long", seat: Seat{Others: []Sight{live, live, silent(20 * time.Hour), {}}}, want: Rest, at: 4 * time.Hour},
		{name: "one gone, just seen", seat: Seat{Others: []Sight{live, live, silent(25 * time.Hour), {}}}, want: Rest, at: time.Hour, longer: true},
		{name: "one gone, the wait is over, not asked again", seat: Seat{Others: []Sight{live, live, silent(26 * time.Hour).askedAgo(3 * time.Hour), {}}, Short: ago(2 * time.Hour)}, want: Ask, whom: []int{2}, longer: true},
		{name: "one gone, asked again", seat: Seat{Others: []Sight{live, live, silent(26 * time.Hour).askedAgo(asked), {}}, Short: ago(2 * time.Hour)}, want: Take, longer: true},
		{name: "one gone, and we were asleep until a moment ago", seat: Seat{Others: []Sight{awake(live), awake(live), awake(silent(26 * time.Hour)).askedAgo(asked), {}}, Short: ago(2 * time.Hour)}, want: Rest, at: 50 * time.Minute, longer: true},
		{name: "asked, but too long ago", seat: Seat{Others: []Sight{live, live, silent(30 * time.Hour).askedAgo(2 * time.Hour), {}}, Short: ago(5 * time.Hour)}, want: Ask, whom: []int{2}, longer: true},
		{name: "asked while it was silent, and back since", seat: Seat{Others: []Sight{live, live, func() Sight {
			s := empty
			s.Asked, s.Back = ago(30*time.Minute), ago(10*time.Minute)
			return s
		}(), {}}, Short: ago(5 * time.Hour)}, want: Ask, whom: []int{2}, longer: true},
		{name: "one has lost it: its own pin comes first", seat: Seat{Others: []Sight{live, live, empty.askedAgo(asked), {}}, Short: ago(90 * time.Minute)}, want: Rest, at: 30 * time.Minute, longer: true},
		{name: "one has lost it, and doesn't get it back", seat: Seat{Others: []Sight{live, live, empty.askedAgo(asked), {}}, Short: ago(150 * time.Minute)}, want: Take, longer: true},
		{name: "a standby of better rank comes first", seat: Seat{Rank: 4, Others: []Sight{live, live, silent(30 * time.Hour).askedAgo(asked), empty.askedAgo(asked), {}}, Short: ago(90 * time.Minute)}, want: Rest, at: 30 * time.Minute, longer: true},
		{name: "one that is away costs nobody a wait", seat: Seat{Rank: 4, Others: []Sight{live, live, silent(30 * time.Hour).askedAgo(asked), func() Sight {
			s := silent(30 * time.Hour).askedAgo(asked)
			s.Absent, s.Held = ago(90*day), time.Time{}
			return s
		}(), {}}, Short: ago(90 * time.Minute)}, want: Take, longer: true},
		{name: "a standby of worse rank has taken over", seat: Seat{Others: []Sight{live, live, silent(30 * time.Hour), {}, live}}, want: Rest},
		{name: "one live copy is left", seat: Seat{Others: []Sight{live, silent(time.Hour).askedAgo(asked), silent(time.Hour).askedAgo(asked), {}}, Short: ago(20 * time.Minute)}, want: Take, longer: true},
		{name: "one live copy is left, for a moment yet", seat: Seat{Others: []Sight{live, silent(5 * time.Minute), silent(time.Hour), {}}, Short: ago(time.Hour)}, want: Rest, at: 5 * time.Minute, longer: true},
		{name: "convicted is gone at once", seat: Seat{Others: []Sight{live, live, convicted, {}}, Short: ago(2 * time.Hour)}, want: Take, longer: true},
		{name: "always busy is no copy", seat: Seat{Others: []Sight{live, live, stale, {}}, Short: ago(3 * time.Hour)}, want: Take, longer: true},
		{name: "one that was never reached may hold", seat: Seat{Others: []Sight{live, live, unknown, {}}, Short: ago(2 * time.Hour)}, want: Rest, longer: true},
		{name: "a fetch that is in hand goes on", seat: Seat{Others: []Sight{live, live, justBack, {}}, Taking: true}, want: Rest},
		{name: "a fetch that is in hand goes on over a flap", seat: Seat{Others: []Sight{live, live, func() Sight { s := live; s.Up = ago(10 * time.Minute); return s }(), {}}, Taking: true}, want: Take, longer: true},
		{name: "nobody answers", seat: Seat{Others: []Sight{silent(time.Hour), silent(time.Hour), silent(time.Hour), {}}, Short: ago(50 * time.Hour)}, want: Rest},
		{name: "nobody of the roster answers, others do", seat: Seat{Others: []Sight{silent(time.Hour).askedAgo(asked), silent(time.Hour).askedAgo(asked), silent(time.Hour).askedAgo(asked), {}}, Short: ago(time.Hour), Heard: ago(0)}, want: Take, longer: true},
		{name: "a holder of its tenant's never acts", seat: Seat{Rank: 1, Others: []Sight{{}, {}, {}}}, want: Rest},
		{name: "no seat", seat: Seat{Rank: 9, Others: []Sight{live}}, want: Rest},

		{name: "holding, needed", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live, live, silent(time.Minute), {}}}, want: Rest},
		{name: "holding, one too many, one has not been back for long", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live, live, justBack, {}}}, want: Rest, at: 34 * time.Hour},
		{name: "holding, one too many", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live, live, live, {}}}, want: Ask, whom: []int{0, 1, 2}},
		{name: "holding, some have proved themselves", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live.provedAgo(time.Minute), live, live.provedAgo(0), {}}}, want: Ask, whom: []int{1}},
		{name: "holding, all have", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live.provedAgo(time.Minute), live.provedAgo(time.Hour), live.provedAgo(0), {}}}, want: Give},
		{name: "holding, one was asked and is busy", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live.provedAgo(time.Minute), live.askedAgo(10 * time.Minute), live.provedAgo(0), {}}}, want: Rest, at: 50 * time.Minute},
		{name: "holding, those of worse rank don't count", seat: Seat{Holding: true, Since: ago(90 * day), Others: []Sight{live.provedAgo(0), live.provedAgo(0), empty, {}, live.provedAgo(0)}}, want: Rest},
		{name: "holding for its tenant", seat: Seat{Rank: 2, Holding: true, Others: []Sight{live.provedAgo(0), live.provedAgo(0), {}, live.provedAgo(0)}}, want: Rest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.seat
			s.Copies, s.May = 3, s.Rank == 0 || s.Rank >= 3
			if s.Rank == 0 {
				s.Rank = 3
			}
			d := Decide(s, Times{}, repairNow)
			if d.Step != c.want || !slices.Equal(d.Whom, c.whom) {
				t.Errorf("%s %v (%s), want %s %v", d.Step, d.Whom, d.Why, c.want, c.whom)
			}
			if at := d.At.Sub(repairNow); at <= 0 || c.at != 0 && at != c.at {
				t.Errorf("decide again in %v, want %v", at, c.at)
			}
			if d.Short.IsZero() == c.longer {
				t.Errorf("short since %v", d.Short)
			}
		})
	}
}

// A laptop that was closed for the night: what calls say counts from when it calls again.
func TestAHostThatSleptPresumesNobodyGone(t *testing.T) {
	var times Times
	s := Seat{Copies: 3, Rank: 3, May: true, Others: make([]Sight, 4)}
	for i := range s.Others {
		s.Others[i].Patience = day
	}
	evening := repairNow
	for at := evening.Add(-48 * time.Hour); !at.After(evening); at = at.Add(5 * time.Minute) {
		for i := range 3 {
			s.Others[i].Call(at, i != 2 || at.Before(evening.Add(-time.Hour)), times)
			if at.Equal(evening.Add(-2 * time.Hour)) {
				s.Others[i].Audit(Proved, at, times)
			}
		}
	}
	morning := evening.Add(60 * 24 * time.Hour)
	if d := Decide(s, times, morning); d.Step != Rest || !d.Short.IsZero() {
		t.Fatalf("before any call: %+v", d)
	}
	for i := range 3 {
		s.Others[i].Call(morning, i == 0, times)
	}
	s.Short = evening // of before
	for at := morning; at.Before(morning.Add(8 * time.Hour)); at = at.Add(5 * time.Minute) {
		for i := range 3 {
			s.Others[i].Call(at, at.After(morning) && i != 2, times)
		}
		d := Decide(s, times, at)
		if s.Short = d.Short; d.Step != Rest {
			t.Fatalf("%v after waking: %+v", at.Sub(morning), d)
		}
	}
}

// TestDecideIsIndifferentToWhoIsWho: among those of better rank, and among those of
// worse, only what is seen matters.
func TestDecideIsIndifferentToWhoIsWho(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		s := randomSeat(rng)
		d := Decide(s, Times{}, repairNow)
		order := make([]int, len(s.Others)) // order[i]: who stands at i now
		for i := range order {
			order[i] = i
		}
		for _, part := range [][]int{order[:s.Rank], order[s.Rank+1:]} {
			rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		}
		shuffled := s
		shuffled.Others = make([]Sight, len(s.Others))
		for i, was := range order {
			shuffled.Others[i] = s.Others[was]
		}
		e := Decide(shuffled, Times{}, repairNow)
		if d.Step != e.Step || !d.At.Equal(e.At) || !d.Short.Equal(e.Short) || len(d.Whom) != len(e.Whom) {
			t.Fatalf("%+v, and shuffled %+v", d, e)
		}
		if again := Decide(s, Times{}, repairNow); !reflect.DeepEqual(d, again) {
			t.Fatalf("%+v, and again %+v", d, again)
		}
	}
}

// However few of the others each one sees, and though all act at once: who is
// among the best-ranked holders can't see enough of better rank.
func TestAllThatLetGoAtTheSameInstantLeaveTheWantedCopies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	given := 0
	for range 20_000 {
		n := 2 + rng.IntN(9)
		copies := 1 + rng.IntN(4)
		holds := make([]bool, n)
		holders := 0
		for i := range holds {
			if holds[i] = rng.IntN(4) > 0; holds[i] {
				holders++
			}
		}
		left := holders
		for rank := range n {
			s := Seat{Copies: copies, Rank: rank, Holding: holds[rank], Since: ago(90 * day), May: true}
			for i := range n {
				o := sightEmpty()
				if holds[i] && rng.IntN(8) > 0 {
					o = sightLive().provedAgo(time.Duration(rng.Int64N(int64(time.Hour))))
				}
				if i == rank {
					o = Sight{}
				}
				s.Others = append(s.Others, o)
			}
			if Decide(s, Times{}, repairNow).Step == Give {
				left--
				given++
			}
		}
		if left < min(copies, holders) {
			t.Fatalf("%d of %d holders are left, %d are wanted", left, holders, copies)
		}
	}
	if given < 1000 {
		t.Errorf("%d gave in all: this tests nothing", given)
	}
}

// randomSeat is any seat that the methods of Sight could bring about, and some that they couldn't.
func randomSeat(rng *rand.Rand) Seat {
	n := 1 + rng.IntN(9)
	s := Seat{Copies: rng.IntN(5), Rank: rng.IntN(n), Holding: rng.IntN(2) == 0, May: rng.IntN(4) > 0, Others: make([]Sight, n)}
	some := func() time.Time {
		switch rng.IntN(6) {
		case 0:
			return time.Time{}
		case 1:
			return ago(0)
		case 2:
			return ago(time.Duration(rng.Int64N(int64(40 * day))))
		}
		return ago(time.Duration(rng.Int64N(int64(time.Hour))))
	}
	s.Short, s.Since, s.Jitter = some(), some(), time.Duration(rng.Int64N(int64(time.Hour)))
	for i := range s.Others {
		o := &s.Others[i]
		for _, t := range o.times() {
			*t = some()
		}
		if rng.IntN(2) == 0 {
			o.Tried, o.Seen, o.Down, o.Absent = ago(0), ago(0), time.Time{}, time.Time{}
		}
		o.Out = rng.IntN(8) == 0
	}
	return s
}

func TestRestingCostsNoMemory(t *testing.T) {
	live := sightLive()
	s := Seat{Copies: 3, Rank: 3, May: true, Others: []Sight{live, live, live, {}, sightEmpty(), sightEmpty()}}
	if n := testing.AllocsPerRun(100, func() { Decide(s, Times{}, repairNow) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte(nil), int64(3), int64(3), false, true, int64(0))
	f.Add(make([]byte, 400), int64(2), int64(1), true, true, int64(time.Hour))
	f.Add([]byte("a roster of nobody in particular, called at no time that a clock could show"), int64(1), int64(0), false, true, int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, copies, rank int64, holding, may bool, scale int64) {
		word := func() int64 {
			if len(b) < 8 {
				return 0
			}
			v := int64(binary.LittleEndian.Uint64(b))
			b = b[8:]
			return v
		}
		some := func() time.Time {
			v := word()
			if v == 0 {
				return time.Time{}
			}
			return repairNow.Add(time.Duration(v >> (uint64(v) & 31)))
		}
		s := Seat{Copies: int(copies), Rank: int(rank), Holding: holding, May: may, Short: some(), Since: some(), Heard: some(), Jitter: time.Duration(word()), Taking: word()&1 == 1}
		for len(b) >= 8 && len(s.Others) < 64 {
			o := Sight{Patience: time.Duration(word()), Out: word()&7 == 1}
			for _, at := range o.times() {
				*at = some()
			}
			s.Others = append(s.Others, o)
		}
		before := slices.Clone(s.Others)
		d := Decide(s, Times{Call: time.Duration(scale), Surplus: time.Duration(scale)}, repairNow)
		switch {
		case !d.At.After(repairNow):
			t.Errorf("decide again at %v", d.At)
		case d.Step == Take && (holding || !may), d.Step == Give && (!holding || !may):
			t.Errorf("%s, holding %v, may %v", d.Step, holding, may)
		case (d.Step == Ask) != (len(d.Whom) > 0) || slices.Contains(d.Whom, s.Rank):
			t.Errorf("%s %v", d.Step, d.Whom)
		case d.Short.After(repairNow):
			t.Errorf("short since %v", d.Short)
		case !slices.Equal(before, s.Others):
			t.Error("it wrote into what it was given")
		}
	})
}
