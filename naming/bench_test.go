package naming_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// latencies is how long each of the last operations took, of one goroutine.
type latencies struct {
	took []time.Duration
	at   int
}

// maxLatencies bounds what is remembered, so that it stays in the caches.
const maxLatencies = 1 << 14

func (l *latencies) time(f func()) {
	start := time.Now()
	f()
	took := time.Since(start)
	if len(l.took) < maxLatencies {
		l.took = append(l.took, took)
		return
	}
	l.took[l.at%maxLatencies] = took
	l.at++
}

// report prints percentiles beside ns/op, which is a mean and, in parallel, that of all processors.
func report(b *testing.B, all ...*latencies) {
	var took []time.Duration
	for _, l := range all {
		took = append(took, l.took...)
	}
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	for name, p := range map[string]int{"p50-ns": 50, "p99-ns": 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100]), name)
	}
}

// each measures f one after the other and side by side.
func each(b *testing.B, f func(b *testing.B, i int, l *latencies)) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		l := &latencies{}
		for i := 0; b.Loop(); i++ {
			f(b, i, l)
		}
		report(b, l)
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var mu sync.Mutex
		var all []*latencies
		b.RunParallel(func(pb *testing.PB) {
			l := &latencies{}
			for i := 0; pb.Next(); i++ {
				f(b, i, l)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, l)
		})
		report(b, all...)
	})
}

func librarian(b *testing.B, l library) *naming.Resolver {
	r := naming.NewResolver(naming.ResolverConfig{
		Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return []naming.Source{l} },
	})
	b.Cleanup(r.Close)
	return r
}

// BenchmarkResolveCached is what a reader's next page costs: the goal is a p99 of 50 µs.
func BenchmarkResolveCached(b *testing.B) {
	books, names := thousands(b, 1000)
	r := librarian(b, books)
	ask := func(b *testing.B, n naming.Name) {
		if _, err := r.Resolve(context.Background(), n); err != nil {
			b.Error(err)
		}
	}
	for _, n := range names {
		ask(b, n)
	}
	each(b, func(b *testing.B, i int, l *latencies) {
		l.time(func() { ask(b, names[i%len(names)]) })
	})
}

// BenchmarkResolveFromSource is what asking costs beside the network: "first" checks a signature, "again" gets the
// bytes that are kept already.
func BenchmarkResolveFromSource(b *testing.B) {
	books, names := thousands(b, 1000)
	b.Run("first", func(b *testing.B) {
		each(b, func(b *testing.B, i int, l *latencies) {
			r := naming.NewResolver(naming.ResolverConfig{
				Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return []naming.Source{books} },
			})
			l.time(func() {
				if res, err := r.Resolve(context.Background(), names[i%len(names)]); err != nil || res.Source != books.String() {
					b.Errorf("from %s, %v", res.Source, err)
				}
			})
			r.Close()
		})
	})
	b.Run("again", func(b *testing.B) {
		r := librarian(b, books)
		ask := func(b *testing.B, n naming.Name) {
			if _, reached, err := r.ResolveFresh(context.Background(), n); err != nil || !reached {
				b.Error(err)
			}
		}
		for _, n := range names {
			ask(b, n)
		}
		each(b, func(b *testing.B, i int, l *latencies) {
			l.time(func() { ask(b, names[i%len(names)]) })
		})
	})
}
