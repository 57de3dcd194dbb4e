package author

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// paced runs a pace in a bubble of fake time. Its publishes take a while and
// end as told; their beginnings are noted, in time since the start.
type paced struct {
	takes   time.Duration
	answers []Attempt // of the publishes in turn, then Succeeded
	fails   error     // of the last answer

	changes chan struct{}
	began   []time.Duration
	busy    bool
	stop    context.CancelFunc
	ended   chan error
}

func (p *paced) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p.changes, p.stop, p.ended = make(chan struct{}, 1), cancel, make(chan error, 1)
	start := time.Now()
	go func() {
		p.ended <- defaultPace.run(ctx, p.changes, func(ctx context.Context) (Attempt, error) {
			if p.busy {
				t.Error("two publishes at once")
			}
			p.busy = true
			defer func() { p.busy = false }()
			n := len(p.began)
			p.began = append(p.began, time.Since(start))
			time.Sleep(p.takes)
			if n == len(p.answers)-1 && p.fails != nil {
				return 0, p.fails
			}
			if n < len(p.answers) {
				return p.answers[n], nil
			}
			return Succeeded, nil
		})
	}()
	synctest.Wait()
}

// change is one change, as soon as it is.
func (p *paced) change(after time.Duration) {
	time.Sleep(after)
	select {
	case p.changes <- struct{}{}:
	default:
	}
	synctest.Wait()
}

// end ends it after a while and tells when publishes began.
func (p *paced) end(t *testing.T, after time.Duration) []time.Duration {
	time.Sleep(after)
	p.stop()
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
	if p.busy {
		t.Error("it ended before its publish")
	}
	return p.began
}

const ms = time.Millisecond

func wantBegan(t *testing.T, got []time.Duration, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("publishes began after %v, want %v", got, want)
	}
}

func TestASaveIsPublishedOnceWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p paced
		p.start(t)
		p.change(time.Second)
		p.change(5 * ms)
		p.change(20 * ms)
		wantBegan(t, p.end(t, time.Hour), 0, time.Second+125*ms)
	})
}

func TestAFolderThatNeverRestsIsPublishedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p paced
		p.start(t)
		for range 100 {
			p.change(51 * ms)
		}
		wantBegan(t, p.end(t, time.Hour), 0, 2051*ms, 4091*ms, 5200*ms)
	})
}

func TestChangesDuringAPublishLeadToOneMoreAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{takes: 10 * time.Second}
		p.start(t)
		for range 5 {
			p.change(time.Second)
		}
		p.change(4990 * ms) // shortly before the first one ends
		wantBegan(t, p.end(t, time.Hour), 0, 10*time.Second)
	})
}

func TestAFailedPublishIsTriedAgainEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{answers: []Attempt{Succeeded, FailedSoon, FailedSoon, FailedSoon, Succeeded}}
		p.start(t)
		p.change(time.Second)
		wantBegan(t, p.end(t, time.Hour), 0, 1100*ms, 1350*ms, 1850*ms, 2850*ms)
	})
	synctest.Test(t, func(t *testing.T) {
		p := paced{answers: slices.Repeat([]Attempt{FailedSoon}, 1000)}
		p.start(t)
		got := p.end(t, 30*time.Minute)
		if n := len(got); got[n-1]-got[n-2] != time.Minute {
			t.Errorf("the last two tries are %v apart", got[n-1]-got[n-2])
		}
	})
}

func TestAFailedPublishIsTriedAgainAtOnceOnAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{answers: slices.Repeat([]Attempt{FailedSoon}, 8)}
		p.start(t)
		p.change(20 * time.Second) // the next try would be at 31.75 s
		got := p.end(t, 500*ms)
		wantBegan(t, got[7:], 20100*ms, 20350*ms) // and soon again
	})
}

func TestAFailureThatTimeDoesNotMendWaitsForAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{answers: []Attempt{FailedUntil, FailedUntil}}
		p.start(t)
		p.change(time.Hour)
		wantBegan(t, p.end(t, time.Hour), 0, time.Hour+100*ms)
	})
}

func TestAnErrorEndsTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{answers: []Attempt{Succeeded, 0}, fails: errors.New("no")}
		p.start(t)
		p.change(time.Second)
		if err := <-p.ended; err != p.fails {
			t.Errorf("it ended with %v", err)
		}
	})
}

func TestTheEndOfAWatchWaitsForThePublishThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := paced{takes: time.Minute}
		p.start(t)
		wantBegan(t, p.end(t, time.Second), 0)
	})
}
