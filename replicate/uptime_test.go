package replicate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// betaBelow is I_x(a, b) in floating point, by its series for a whole b.
func betaBelow(x, a float64, b int) float64 {
	la, _ := math.Lgamma(a)
	sum := 0.0
	for i := range b {
		n, _ := math.Lgamma(a + float64(i))
		f, _ := math.Lgamma(float64(i) + 1)
		sum += math.Exp(n - la - f + a*math.Log(x) + float64(i)*math.Log1p(-x))
	}
	return sum
}

func TestTheLowQuantileIsThatOfABetaDistribution(t *testing.T) {
	for _, a := range []uint64{1, 16, 69, 100, 1000, 5000, 65_536, 1 << 24} {
		for _, b := range []int{1, 2, 3, 10, 50, maxFailures + 1} {
			q := lowQuantile(a, b)
			x := float64(q) / 1e6
			low, high := betaBelow(x-2e-6, float64(a)/16, b), betaBelow(x+3e-6, float64(a)/16, b)
			if x >= 3e-6 && low > 0.05 || high < 0.05 && q < 999_998 {
				t.Errorf("Beta(%v/16, %d): %d millionths; there the distribution is at %.5f to %.5f", a, b, q, low, high)
			}
		}
	}
}

func TestANewHostCountsHalf(t *testing.T) {
	if got := (Presence{}).Uptime(); got != NewUptime {
		t.Fatal(got)
	}
	// The prior says the same by itself, so that the first look is no leap.
	if got := lowQuantile(priorUp, 1); got < NewUptime-1000 || got > NewUptime+1000 {
		t.Fatalf("the prior's own low quantile is %d", got)
	}
	var seen, missed Presence
	seen.Observe(testTime, true)
	missed.Observe(testTime, false)
	if seen.Uptime() <= NewUptime || missed.Uptime() >= NewUptime {
		t.Fatalf("%d after one answer, %d after one silence", seen.Uptime(), missed.Uptime())
	}
}

// watched is a host that is there and away for exponentially distributed times, looked at once an hour.
func watched(r *rand.Rand, up, down time.Duration, hours int) Presence {
	var p Presence
	is := r.Float64() < float64(up)/float64(up+down)
	var left time.Duration
	next := func() time.Duration {
		if is {
			return time.Duration(r.ExpFloat64() * float64(up))
		}
		return time.Duration(r.ExpFloat64() * float64(down))
	}
	left = next()
	for h := range hours {
		for left < time.Hour {
			is = !is
			left += next()
		}
		left -= time.Hour
		p.Observe(testTime.Add(time.Duration(h)*time.Hour), is)
	}
	return p
}

// The estimate is to be above the truth for one host in twenty. Of hosts that are away for days at a time a few weeks show too
// little to promise that.
func TestAnEstimateIsRarelyTooHigh(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, days := range []int{7, 30, 120} {
		for _, down := range []time.Duration{time.Hour, 6 * time.Hour, 24 * time.Hour, 72 * time.Hour} {
			high, naive, n := 0, 0, 400
			slack := 0.0
			for range n {
				truth := 1 - math.Pow(10, -0.5-2*r.Float64()) // 68 % to 99.7 %
				p := watched(r, time.Duration(float64(down)*truth/(1-truth)), down, 24*days)
				if float64(p.Uptime()) > 1e6*truth {
					high++
				}
				if lowQuantile(priorUp+uint64(p.Up)*16, min(p.Down+1, 2000)) > int(1e6*truth) {
					naive++
				}
				slack += truth - float64(p.Uptime())/1e6
			}
			t.Logf("%3d days, downtimes of %3.0f h: too high for %4.1f %% of hosts (%4.1f %% if looks were independent), %.1f points below the truth on average",
				days, down.Hours(), 100*float64(high)/float64(n), 100*float64(naive)/float64(n), 100*slack/float64(n))
			if down <= 24*time.Hour && high > n/8 {
				t.Errorf("%d days, downtimes of %v: too high for %d of %d hosts", days, down, high, n)
			}
		}
	}
}

func TestLooksAMinuteApartSayNoMoreThanOneAnHour(t *testing.T) {
	var often, hourly Presence
	for m := range 60 * 24 * 7 {
		at := testTime.Add(time.Duration(m) * time.Minute)
		often.Observe(at, m%1000 > 60)
		if m%55 == 0 {
			hourly.Observe(at, m%1000 > 60)
		}
	}
	if often.Up != hourly.Up || often.Down != hourly.Down || often.Uptime() != hourly.Uptime() {
		t.Fatalf("%+v\n%+v", often, hourly)
	}
}

func TestAHostThatChangedIsSeenAsItIsNow(t *testing.T) {
	var p Presence
	for h := range 24 * 800 {
		p.Observe(testTime.Add(time.Duration(h)*time.Hour), h < 24*400 || h%10 < 5)
	}
	if p.Up+p.Down > memory {
		t.Fatalf("%d looks are remembered", p.Up+p.Down)
	}
	if u := p.Uptime(); u > 600_000 || u < 350_000 {
		t.Fatalf("a host that has been there half of the time for a year counts %d", u)
	}
}

func TestPatienceIsTheHostsOwnHabit(t *testing.T) {
	nightly := func(away time.Duration) Presence {
		var p Presence
		for h := range 24 * 60 {
			p.Observe(testTime.Add(time.Duration(h)*time.Hour), time.Duration(h%72)*time.Hour >= away)
		}
		return p
	}
	for away, want := range map[time.Duration]time.Duration{
		2 * time.Hour: 12 * time.Hour, 10 * time.Hour: 12 * time.Hour, 20 * time.Hour: 24 * time.Hour, 40 * time.Hour: 48 * time.Hour,
	} {
		p := nightly(away)
		if got := p.habit(); got != want || p.Patience() != leastPatience {
			t.Errorf("away for %v: %v, and %v of patience; want %v", away, got, p.Patience(), want)
		}
	}
	if got := (Presence{}).Patience(); got != leastPatience {
		t.Errorf("of a new host: %v", got)
	}
	for away, want := range map[int]time.Duration{15: leastPatience, 23: 25 * 24 * time.Hour, 50: mostPatience} {
		var p Presence
		for d := range 240 {
			p.Observe(testTime.Add(time.Duration(d)*24*time.Hour), d%60 < 60-away)
		}
		if got := p.Patience(); got != want {
			t.Errorf("of one that is away for %d days: %v, want %v", away, got, want)
		}
	}
}

func TestTheTimeInWhichNobodyLookedIsNoDowntime(t *testing.T) {
	var p Presence
	at := testTime
	for range 20 {
		p.Observe(at, true)
		at = at.Add(10 * 24 * time.Hour) // the observer was off
		p.Observe(at, false)
		at = at.Add(time.Hour)
	}
	if got := p.habit(); got > 12*time.Hour {
		t.Fatalf("%v, from downtimes of which an hour was seen", got)
	}
}

func TestAClockThatJumpsSpoilsNothing(t *testing.T) {
	for name, jump := range map[string]time.Duration{
		"back an hour": -time.Hour, "back 30 years": -30 * 365 * 24 * time.Hour, "forward 200 years": 200 * 365 * 24 * time.Hour,
	} {
		var p Presence
		at := testTime
		look := func(hours int) {
			for h := range hours {
				p.Observe(at, h%50 != 0)
				at = at.Add(time.Hour)
			}
		}
		look(1000)
		before := p
		at = at.Add(jump)
		look(200)
		at = at.Add(-jump)
		look(1000)
		if got := p.Up + p.Down - before.Up - before.Down; got < 1150 || got > 1202 {
			t.Errorf("%s: %d of 1200 looks counted", name, got)
		}
		if d := p.Uptime() - before.Uptime(); d < -10_000 || d > 30_000 {
			t.Errorf("%s: the estimate went from %d to %d", name, before.Uptime(), p.Uptime())
		}
		if p.habit() != 12*time.Hour {
			t.Errorf("%s: downtimes of %v", name, p.habit())
		}
		if p.Merge(before).Uptime() == 0 {
			t.Errorf("%s: can't be merged", name)
		}
	}
}

func TestPresenceSurvivesJSONAndHostileNumbers(t *testing.T) {
	p := watched(rand.New(rand.NewPCG(2, 2)), 50*time.Hour, 5*time.Hour, 1000)
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Presence
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(p, back) {
		t.Fatalf("%+v\n%+v, %v", p, back, err)
	}
	for _, s := range []string{`{"up":-5,"down":-7}`, `{"up":9223372036854775807,"down":9223372036854775807,"falls":-1}`, `{"silences":[-1,-9]}`} {
		var p Presence
		if err := json.Unmarshal([]byte(s), &p); err != nil {
			t.Fatal(err)
		}
		p.Observe(testTime, true)
		if u, d := p.Merge(p).Uptime(), p.Patience(); u < 1 || u > 999_999 || d < leastPatience || d > mostPatience {
			t.Errorf("%s: %d, %v", s, u, d)
		}
	}
}

func TestWhatTwoSawAtTheSameTimeCountsOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	p := watched(r, 100*time.Hour, 10*time.Hour, 2000)
	if got := p.Merge(p, p); got.Up < p.Up || got.Up > p.Up+3 || got.Down > p.Down+3 {
		t.Fatalf("three with the same eyes saw %d and %d, one alone %d and %d", got.Up, got.Down, p.Up, p.Down)
	}
	later := Presence{}
	for h := range 1000 {
		later.Observe(testTime.Add(time.Duration(3000+h)*time.Hour), true)
	}
	m := p.Merge(later)
	if m.Up != p.Up+later.Up || m.Down != p.Down {
		t.Fatalf("one after the other saw %d and %d", m.Up, m.Down)
	}
	a, b := p.Merge(later, Presence{}), later.Merge(p)
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("another order, another result:\n%+v\n%+v", a, b)
	}
}

func BenchmarkPresence(b *testing.B) {
	p := watched(rand.New(rand.NewPCG(4, 4)), 100*time.Hour, 10*time.Hour, 3000)
	b.Run("Observe", func(b *testing.B) {
		at := p.Last
		for b.Loop() {
			at = at.Add(time.Hour)
			p.Observe(at, at.Hour() > 2)
		}
	})
	b.Run("Uptime", func(b *testing.B) {
		for b.Loop() {
			p.Uptime()
		}
	})
	b.Run("Patience", func(b *testing.B) {
		for b.Loop() {
			p.Patience()
		}
	})
}
