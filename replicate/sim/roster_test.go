package sim

import (
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

// What quiet leaves out can't matter.
func TestMembersWhoCantButRestNeedNotDecide(t *testing.T) {
	for _, sc := range []func(uint64, bool) *World{homeOnly, software} {
		w := sc(3, true)
		w.Sites = w.Sites[:8]
		rash := Settings{PatienceMax: 2 * day, Times: replicate.Times{Surplus: 12 * time.Hour}}
		quick := Ours("", rash).Run(w)
		w.every = true
		all := Ours("", rash).Run(w)
		t.Logf("%s: %d decisions, %d with all; %d takes, %d gives", w.Scenario, quick.Decisions, all.Decisions, all.Takes, all.Gives)
		// A member that has not learned yet of another's taking over would ask, and is not made to here.
		if off := abs(quick.Takes - all.Takes); 20*off > all.Takes+20 || quick.FourNines != all.FourNines || quick.Lost != all.Lost || quick.Below != all.Below {
			quick.Days, all.Days = nil, nil
			t.Errorf("%s: %+v, and with all %+v", w.Scenario, quick, all)
		}
		if all.Takes == 0 || all.Gives == 0 {
			t.Errorf("%s: nothing happens, so it shows nothing", w.Scenario)
		}
	}
}

// Sights are worked out; they have to be what calls and audits one by one would leave.
func TestSightsAreWhatEverySingleCallMakesThem(t *testing.T) {
	w := splitInto(2)(5, true)
	w.Hosts[3].jumps = []jump{{20 * day, 3 * time.Hour}, {25 * day, 5 * day}}
	times := replicate.Times{}.WithDefaults()
	compared := 0
	for a := range 8 {
		for b := range 8 {
			if a == b {
				continue
			}
			me := &looker{Host: w.Hosts[a], phase: time.Duration(chance(uint64(times.Call), w.Hosts[a].seed))}
			e := eyes{w, times, me, &looker{Host: w.Hosts[b]}}
			var s replicate.Sight
			for at := me.look(0, times.Call); at < 40*day; at = me.look(at+1, times.Call) {
				s.Call(me.clock(at), e.other.isUp(at) && !w.apart(me.Host, e.other.Host, at), times)
				if at/time.Hour%7 > 0 || at%time.Hour > 10*time.Minute {
					continue
				}
				var got replicate.Sight
				e.calls(&got, at)
				if got != s {
					t.Fatalf("host %d of %d at %v:\n%+v, call by call\n%+v", b, a, at, got, s)
				}
				compared++
			}
		}
	}
	t.Log(compared, "sights compared")
}

func abs(n int) int { return max(n, -n) }
