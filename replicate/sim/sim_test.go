package sim

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"
)

func playAll(w *World) []Result {
	var all []Result
	for _, c := range append([]Contender{Ours("ours", Settings{})}, Baselines()...) {
		all = append(all, c.Run(w))
	}
	return all
}

func TestARunDependsOnItsSeedAndOnNothingElse(t *testing.T) {
	few := func() *World { return friends(1, true).Part(5) }
	want := playAll(few())
	before := runtime.GOMAXPROCS(1)
	got := playAll(few())
	runtime.GOMAXPROCS(before)
	if !reflect.DeepEqual(got, want) {
		t.Error("the same world gives another result on one processor")
	}
	if got := playAll(friends(2, true).Part(5)); reflect.DeepEqual(got, want) {
		t.Error("another seed gives the same result")
	}
	w := few()
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(w.Hosts), func(i, j int) { w.Hosts[i], w.Hosts[j] = w.Hosts[j], w.Hosts[i] })
	for i, h := range w.Hosts {
		h.index = i
	}
	if got := playAll(w); !reflect.DeepEqual(got[0], want[0]) {
		t.Error("the order in which hosts are listed matters")
	}
}

func TestAmongFriendsAYearIsSurvived(t *testing.T) {
	for seed := range uint64(2) {
		w := friends(seed, true)
		r := Ours("", Settings{}).Run(w)
		if r.Nines() < 0.99 || r.Lost > 0 || r.Unplaced > 0 || r.Below > 0 || r.Overruns > 0 || r.Copies() > 5.5 {
			r.Days = nil
			t.Errorf("seed %d: %+v", seed, r)
		}
		// Repair that waits at the end has not moved yet what the oracle has.
		if r.Oracle > r.Moved+4*r.Bytes/10 {
			t.Errorf("seed %d: the oracle copies %d bytes, we %d", seed, r.Oracle, r.Moved)
		}
	}
}

func TestASplitMakesNoMoreThanTwiceTheCopiesAndHeals(t *testing.T) {
	w := splitInto(2)(1, true)
	w.Sites = w.Sites[:40]
	r := Ours("", Settings{}).Run(w)
	if r.Most > 200 || r.Below > 0 || r.Lost > 0 {
		t.Errorf("%d hundredths of the copies wanted, %d let go below them, %d lost", r.Most, r.Below, r.Lost)
	}
	if r.After > 16 {
		t.Errorf("48 h after, %d of %d sites have too many live copies", r.After, r.Sites)
	}
}

func TestLiarsAreConvictedAndReplaced(t *testing.T) {
	w := liars(1, true)
	w.Sites = w.Sites[:100]
	r := Ours("", Settings{}).Run(w)
	if r.Liars == 0 || r.Convicted < r.Liars {
		t.Errorf("%d of %d liars are convicted", r.Convicted, r.Liars)
	}
	if r.Nines() < 0.99 {
		t.Errorf("only %.4f of the sites are served", r.Nines())
	}
	if n := Honest(100_000, 10); n > 0 {
		t.Errorf("%d honest hosts convicted", n)
	}
}

// still makes a world by hand: hosts with the times in which they are up.
func still(length time.Duration, up ...[]span) *World {
	w := &World{Length: length}
	for i, s := range up {
		h := &Host{Name: string(rune('a' + i)), index: i, gone: never, up: s, domain: i, Quota: 1e9, seed: uint64(i + 1)}
		h.ID = idOf("host", h.Name)
		h.patience = []stamp{{-known, 2 * day}}
		w.Hosts = append(w.Hosts, h)
	}
	w.Sites = []Site{{Bytes: 7, seed: 9}}
	return w
}

func TestByHandOneSilenceLongerThanPatienceCostsOneCopy(t *testing.T) {
	always := []span{{-day, 20 * day}}
	w := still(20*day, always, []span{{-day, 5 * day}, {9 * day, 20 * day}}, always, always, always)
	var r Result
	r.Days = make([]Day, 20)
	play := roster{copies: copies{Result: &r, w: w}, times: Settings{}.Times.WithDefaults()}
	play.begin(&w.Sites[0], w.Hosts, 3)
	play.play()
	if r.Takes != 1 || r.Moved != 7 || r.Gives != 1 || r.Below != 0 || r.FourNines != 1 {
		r.Days = nil
		t.Errorf("%+v: want one take after day 7, and its copy let go of when the holder is back", r)
	}
	if r.Days != nil && r.Days[7].Moved != 7 {
		t.Errorf("copied on another day: %v", r.Days)
	}
}

func TestByHandTheFastClockRunsWhereOneLiveCopyIsLeft(t *testing.T) {
	always := []span{{-day, 10 * day}}
	w := still(10*day, always, []span{{-day, 5 * day}, {5*day + 8*time.Hour, 10 * day}}, always)
	w.Hosts[0].up = []span{{-day, 5*day + time.Hour}, {6 * day, 10 * day}}
	var r Result
	r.Days = make([]Day, 10)
	play := roster{copies: copies{Result: &r, w: w}, times: Settings{}.Times.WithDefaults()}
	play.begin(&w.Sites[0], w.Hosts, 2)
	play.play()
	if r.Takes != 1 || r.Served != (10*day).Milliseconds() {
		r.Days = nil
		t.Errorf("%+v: want the standby to hold before the second holder goes, an hour after the first", r)
	}
}

func TestByHandTheOthersCountWhoIsSilentForTooLong(t *testing.T) {
	always := []span{{-day, 10 * day}}
	w := still(10*day, always, []span{{-day, 5 * day}, {7 * day, 10 * day}}, always)
	for _, keep := range []bool{true, false} {
		var r Result
		r.Days = make([]Day, 10)
		play := fixed{copies: copies{Result: &r, w: w}, rule: fixedRule{low: 2, high: 2, wait: day, keep: keep}}
		play.play(&w.Sites[0], w.Hosts)
		want := 1
		if keep {
			want = 0
		}
		if r.Takes != 1 || r.Gives != want {
			r.Days = nil
			t.Errorf("keeping returning copies %v: %+v", keep, r)
		}
	}
}

func TestAVanishedHostCostsTheOracleOneCopyAtOnce(t *testing.T) {
	always := []span{{-day, 10 * day}}
	w := still(10*day, always, []span{{-day, 5 * day}}, always)
	w.Hosts[1].gone = 5 * day
	var r Result
	r.Days = make([]Day, 10)
	play := fixed{copies: copies{Result: &r, w: w}, rule: fixedRule{low: 2, high: 2, oracle: true}}
	if moved := play.play(&w.Sites[0], w.Hosts); moved != 7 || r.Days[5].Moved != 7 || r.Held != 2*(10*day).Milliseconds() {
		t.Errorf("%d bytes, %+v", moved, r)
	}
}

func TestPartsOfAWorldShareItsHosts(t *testing.T) {
	w := friends(1, true)
	if p := w.Part(4); len(p.Sites) != 50 || len(p.Hosts) != len(w.Hosts) || len(w.Sites) != 200 {
		t.Errorf("%d sites of %d", len(p.Sites), len(w.Sites))
	}
}
