package naming_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// behindAtMost is how many names a resolver goes on asking for behind answers that it has given.
const behindAtMost = 256

// library is a source of many names.
type library map[naming.Name][]byte

func (l library) String() string { return "library" }

func (l library) Fetch(_ context.Context, n naming.Name) ([]byte, error) {
	if raw, ok := l[n]; ok {
		return raw, nil
	}
	return nil, naming.ErrNotFound
}

// thousands is a library of so many names.
func thousands(t testing.TB, n int) (library, []naming.Name) {
	t.Helper()
	l := library{}
	var names []naming.Name
	for i := range n {
		key := testKey(t, fmt.Sprint("many ", i))
		name := nameOfKey(t, key)
		l[name] = honest().Raw(t, key)
		names = append(names, name)
	}
	return l, names
}

// deaf is a source that never answers, and counts who waits for it.
type deaf struct{ waiting atomic.Int64 }

func (d *deaf) String() string { return "deaf" }

func (d *deaf) Fetch(ctx context.Context, _ naming.Name) ([]byte, error) {
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestThousandsOfNamesDoNotPileUpBehindASourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		books, names := thousands(t, 2000)
		hangs := &deaf{}
		r := naming.NewResolver(naming.ResolverConfig{
			Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return []naming.Source{books, hangs} },
		})
		resolveAll := func() {
			t.Helper()
			for _, n := range names {
				if _, err := r.Resolve(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		check := func(when string) {
			t.Helper()
			if got := hangs.waiting.Load(); got == 0 || got > behindAtMost {
				t.Errorf("%s %d askings go on, want 1 to %d", when, got, behindAtMost)
			}
		}
		resolveAll()
		check("behind first answers")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := hangs.waiting.Load(); got != 0 {
			t.Errorf("%d askings outlive the deadline", got)
		}
		resolveAll() // from the cache, which is stale now
		check("behind stale ones")

		r.Close()
		if got := hangs.waiting.Load(); got != 0 {
			t.Errorf("%d askings outlive Close", got)
		}
	}) // which fails where a goroutine is left
}

func TestThousandsWhoAskAtOnceLeaveNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		books, names := thousands(t, 2000)
		hangs := &deaf{}
		r := naming.NewResolver(naming.ResolverConfig{
			Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return []naming.Source{books, hangs} },
		})
		var readers sync.WaitGroup
		for _, n := range names {
			readers.Go(func() {
				if _, err := r.Resolve(t.Context(), n); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		synctest.Wait()
		if got := hangs.waiting.Load(); got > behindAtMost {
			t.Errorf("%d askings go on, want at most %d", got, behindAtMost)
		}
		r.Close()
	})
}
