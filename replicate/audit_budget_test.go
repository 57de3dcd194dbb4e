package replicate

import (
	"testing"
	"time"
)

func TestTheRateOfAuditsIsConfigurable(t *testing.T) {
	s := newAuditScene(t, func(cfg *AuditorConfig) { cfg.Interval, cfg.Burst = time.Second, 2 })
	for range 2 {
		wantVerdict(t, s.audit(t, s.first), Proved)
	}
	res := s.audit(t, s.first)
	wantVerdict(t, res, Busy)
	if want := testTime.Add(time.Second); !res.Until.Equal(want) {
		t.Errorf("busy until %s, want %s", res.Until, want)
	}
	s.clock.advance(time.Second)
	s.proverClock.advance(time.Second)
	wantVerdict(t, s.audit(t, s.first), Proved)
}

func TestWhenTheDaysBytesForAuditsAreReadAProverIsBusyUntilTheNext(t *testing.T) {
	s := newAuditScene(t, func(cfg *AuditorConfig) { cfg.BytesPerDay = 1 })
	s.verifier.spent.limit = 1
	wantVerdict(t, s.audit(t, s.first), Proved)
	if s.verifier.WithinBudget() {
		t.Error("the verifier's own reading isn't counted")
	}
	res := s.audit(t, s.first)
	wantVerdict(t, res, Busy)
	tomorrow := testTime.Truncate(24 * time.Hour).Add(24 * time.Hour)
	if !res.Until.Equal(tomorrow) {
		t.Errorf("busy until %s, want %s", res.Until, tomorrow)
	}
	s.clock.advance(tomorrow.Sub(testTime))
	s.proverClock.advance(tomorrow.Sub(testTime))
	if !s.verifier.WithinBudget() {
		t.Error("a new day has no budget of its own")
	}
	wantVerdict(t, s.audit(t, s.first), Proved)
}
