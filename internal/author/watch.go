package author

import (
	"context"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/merkle"
)

// WatchOptions says what Watch watches and what it does about a change.
type WatchOptions struct {
	Dir      string             // absolute
	Symlinks merkle.SymlinkMode // as in the PublishRequest
	// Publish publishes the folder as it is now. It is never called twice at
	// once. An error ends the watch; a failure that a later try may not meet is
	// an Attempt.
	Publish func(context.Context) (Attempt, error)
	// Note is told what a person should know of the watching itself; nil: nothing is.
	Note func(string)
}

// Attempt is how one publish of a watched folder went.
type Attempt int

// The outcomes. All but Succeeded were told to whom it concerns by Publish.
const (
	Succeeded   Attempt = iota // or there was nothing new to publish
	FailedSoon                 // worth another try by itself: the folder was half written, no host could be reached
	FailedUntil                // the next change may mend it, time alone does not
)

// Watch publishes a folder, then once more after each change, until ctx ends,
// which is no error. Changes that come close together, and those that come
// while a publish runs, lead to one publish after them. While the folder is
// away, as when a site generator makes it anew, it waits.
//
// What the kernel does not tell is found by a look at the whole folder every
// few minutes. Ignored files don't count. Errors: those of Publish, and those of
// the first look at the folder.
func Watch(ctx context.Context, o WatchOptions) error {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	// The watch stands before the first build reads anything.
	f, err := watchFolder(o.Dir, o.Symlinks, o.Note)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.serve(ctx) })
	g.Go(func() error {
		defer cancel()
		first := true
		return defaultPace.run(ctx, f.changed, func(ctx context.Context) (Attempt, error) {
			if !first && !isFolder(o.Dir) {
				return Succeeded, nil // its return is a change
			}
			first = false
			return o.Publish(ctx)
		})
	})
	return g.Wait()
}

func isFolder(dir string) bool {
	fi, err := os.Stat(dir)
	return err == nil && fi.IsDir()
}

// pace is when changes are published.
type pace struct {
	quiet time.Duration // without another change, before a publish begins
	most  time.Duration // from the first change, where there is no quiet
	// A publish that failed is tried again after soon, then after twice as
	// long each time, up to late.
	soon, late time.Duration
}

// A save is a few operations within some milliseconds, whatever dance the
// editor dances. A generator writes for seconds with hardly a pause: what
// was published in its middle would be half a site, for everybody to see, so
// it gets a while.
var defaultPace = pace{quiet: 100 * time.Millisecond, most: 2 * time.Second, soon: 250 * time.Millisecond, late: time.Minute}

// burst is a run of changes that belong together. The zero value is none.
type burst struct{ first, last time.Time }

// touch adds a change.
func (b *burst) touch(now time.Time) {
	if b.first.IsZero() {
		b.first = now
	}
	b.last = now
}

// due is when the burst is to be published; zero for none.
func (p pace) due(b burst) time.Time {
	if b.first.IsZero() {
		return time.Time{}
	}
	quiet, most := b.last.Add(p.quiet), b.first.Add(p.most)
	if most.Before(quiet) {
		return most
	}
	return quiet
}

// wait is how long to wait after so many failures in a row, at least one.
func (p pace) wait(failures int) time.Duration {
	d := p.soon
	for range failures - 1 {
		if d *= 2; d >= p.late {
			return p.late
		}
	}
	return d
}

// run publishes now and after each burst of changes, one at a time, until ctx
// ends or publish returns an error. It waits for the publish that runs then.
func (p pace) run(ctx context.Context, changes <-chan struct{}, publish func(context.Context) (Attempt, error)) error {
	type outcome struct {
		Attempt
		err error
	}
	done := make(chan outcome, 1)
	start := func() {
		go func() { // ends with publish; run waits for it
			a, err := publish(ctx)
			done <- outcome{a, err}
		}()
	}
	var (
		pending  burst
		failures int
		retry    time.Time // when to try again without a change; zero: not
		running  = true
		timer    = time.NewTimer(time.Hour)
		now      = make(chan time.Time)
	)
	defer timer.Stop()
	close(now)
	start()
	for {
		var begin <-chan time.Time
		at := p.due(pending)
		if at.IsZero() {
			at = retry
		}
		if !running && !at.IsZero() {
			if begin = now; time.Until(at) > 0 {
				timer.Reset(time.Until(at))
				begin = timer.C
			}
		}
		select {
		case <-ctx.Done():
			if running {
				<-done
			}
			return nil
		case <-changes:
			pending.touch(time.Now())
			failures = 0
		case <-begin:
			pending, retry, running = burst{}, time.Time{}, true
			start()
		case o := <-done:
			running = false
			switch {
			case o.err != nil:
				return o.err
			case o.Attempt == Succeeded:
				failures = 0
			case o.Attempt == FailedSoon:
				failures++
				retry = time.Now().Add(p.wait(failures))
			}
		}
	}
}
