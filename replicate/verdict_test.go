package replicate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// trialEvery is how often a pair audits by default.
const trialEvery = 12 * time.Hour

// untilConvicted is how many audits it takes to convict a host that misses so often; most where it takes more.
func untilConvicted(rng *rand.Rand, misses float64, most int) int {
	var tr Trial
	at := repairNow
	for n := 1; n <= most; n++ {
		at = at.Add(trialEvery)
		v := Proved
		if rng.Float64() < misses {
			v = Missed
		}
		if tr.Add(v, at); tr.Convicted() {
			return n
		}
	}
	return most
}

func TestNoHonestHostIsConvictedInAMillionAudits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	convicted := 0
	for range 100 {
		const audits = 10_000
		if untilConvicted(rng, 0.01, audits) < audits {
			convicted++
		}
	}
	t.Logf("1 000 000 audits of 100 hosts that miss 1 %%: %d convicted", convicted)
	if convicted > 0 {
		t.Errorf("%d honest hosts were convicted", convicted)
	}
}

func TestAHostThatHoldsNothingIsConvictedWithinAWeek(t *testing.T) {
	n := untilConvicted(rand.New(rand.NewPCG(1, 2)), 1, 1000)
	days := float64(n) * trialEvery.Hours() / 24
	t.Logf("one that never answers is convicted after %d audits, %.1f days", n, days)
	if days > 7 {
		t.Errorf("it took %.1f days", days)
	}
}

func TestAHostThatMissesOneInTenIsConvicted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	const hosts, most = 2000, 5000
	for _, rate := range []float64{0.1, 0.5} {
		sum, never, within := 0, 0, 0
		for range hosts {
			n := untilConvicted(rng, rate, most)
			sum += n
			if n == most {
				never++
			}
			if n <= 14 {
				within++
			}
		}
		t.Logf("one that misses %2.0f %%: after %d audits (%.0f days) on average, %.1f %% of them within a week, %d of %d never",
			rate*100, sum/hosts, float64(sum)/hosts*trialEvery.Hours()/24, 100*float64(within)/hosts, never, hosts)
		if never > hosts/100 {
			t.Errorf("%d of %d that miss %v were never convicted", never, hosts, rate)
		}
	}
}

func TestTheWeightsAreWalds(t *testing.T) {
	const p0, p1, alpha, beta = 0.01, 0.10, 1e-6, 0.01
	for _, c := range []struct {
		got  int64
		want float64
	}{
		{missWeight, math.Log(p1 / p0)},
		{proofWeight, math.Log((1 - p1) / (1 - p0))},
		{convictAt, math.Log((1 - beta) / alpha)},
		{acquitAt, math.Log(beta / (1 - alpha))},
	} {
		if math.Abs(float64(c.got)-c.want*1e6) > 1 {
			t.Errorf("%d, want %.0f", c.got, c.want*1e6)
		}
	}
}

func TestOneFaultIsOneMiss(t *testing.T) {
	var tr Trial
	for i := range 24 { // a day of audits each hour, none answered
		tr.Add(Missed, repairNow.Add(time.Duration(i)*time.Hour))
	}
	if tr.Score != 4*missWeight || tr.Convicted() {
		t.Errorf("score %d after a day, convicted %v", tr.Score, tr.Convicted())
	}
	tr.Add(Missed, repairNow.Add(-time.Hour)) // the clock went back: the last miss can't be in the future
	if tr.Score != 5*missWeight {
		t.Errorf("score %d after the clock went back", tr.Score)
	}
}

func TestOnlyMissesAndLiesAreHeldAgainstAHost(t *testing.T) {
	var tr Trial
	for i := range 1000 {
		for _, v := range []Verdict{NotHeld, Busy, Refused, Unreachable, "something of tomorrow"} {
			tr.Add(v, repairNow.Add(time.Duration(i)*day))
		}
	}
	if tr != (Trial{}) {
		t.Errorf("%+v", tr)
	}
}

func TestAFalseProofConvictsForEverAndMissesDoNot(t *testing.T) {
	var misses, lie Trial
	at := repairNow
	for range 6 {
		at = at.Add(trialEvery)
		misses.Add(Missed, at)
	}
	lie.Add(Wrong, repairNow)
	if !misses.Convicted() || !misses.Out.Equal(at) || !lie.Convicted() {
		t.Fatalf("not convicted: %+v, %+v", misses, lie)
	}
	proofs := 0
	for misses.Convicted() && proofs < 1000 {
		misses.Add(Proved, at)
		lie.Add(Proved, at)
		proofs++
	}
	t.Logf("%d proofs end a conviction for misses", proofs)
	if proofs < 100 || proofs == 1000 {
		t.Errorf("%d proofs end a conviction for misses", proofs)
	}
	if !lie.Convicted() || !lie.Wrong.Equal(repairNow) {
		t.Errorf("a false proof was forgiven: %+v", lie)
	}
}

func TestATrialIsKeptAsItIs(t *testing.T) {
	was := Trial{Score: -12, Miss: repairNow, Out: repairNow, Wrong: repairNow}
	raw, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	var is Trial
	if err := json.Unmarshal(raw, &is); err != nil || is != was {
		t.Errorf("%+v came back from %s (%v)", is, raw, err)
	}
}
