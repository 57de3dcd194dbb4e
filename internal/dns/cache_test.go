package dns_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/testnet/dnstest"
	"github.com/holdfast-sites/holdfast/naming"
)

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// cached is a cache over a real resolver, with the test's clock.
type cached struct {
	*dns.Cache
	*clock
	dns *dnstest.Server
	t   *testing.T
}

func newCached(t *testing.T) cached {
	d, c := dnstest.New(t), &clock{at: time.Unix(1_700_000_000, 0)}
	return cached{dns.NewCache(parse(t, d.UDP(), dns.Options{}), c.now), c, d, t}
}

// wants asks for the text of site.org, which is "" where there is none, and counts the questions that came of it.
func (c cached) wants(text string, ttl time.Duration, questions int) {
	c.t.Helper()
	before := c.dns.Asked("site.org")
	a, err := c.Ask(c.t.Context(), "Site.org", dns.TXT)
	got := ""
	if len(a.Data) > 0 {
		got = a.Data[0]
	}
	if n := c.dns.Asked("site.org") - before; err != nil || got != text || a.TTL != ttl || n != questions {
		c.t.Errorf("%q for %v, %v, after %d questions; want %q for %v after %d", got, a.TTL, err, n, text, ttl, questions)
	}
}

func TestAnAnswerIsKeptForItsTTLAndNoLonger(t *testing.T) {
	c := newCached(t)
	c.dns.Set(`site.org. 60 IN TXT "one"`)
	c.wants("one", 60*time.Second, 1)
	c.dns.Set(`site.org. 60 IN TXT "two"`)
	c.pass(59 * time.Second)
	c.wants("one", time.Second, 0)
	c.pass(time.Second)
	c.wants("two", 60*time.Second, 1)
	c.dns.Set(`site.org. 9999999 IN TXT "long"`)
	c.pass(time.Minute)
	c.wants("long", dns.MaxTTL, 1)
	c.dns.Set(`site.org. 0 IN TXT "zero"`)
	c.pass(dns.MaxTTL)
	c.wants("zero", 0, 1)
	c.wants("zero", 0, 0) // one page is one question
	c.pass(dns.MinHold)
	c.wants("zero", 0, 1)
}

func TestThatThereIsNothingIsKeptAsLongAsTheZoneSays(t *testing.T) {
	c := newCached(t)
	c.wants("", time.Minute, 1)
	c.dns.Set(`site.org. 60 IN TXT "new"`)
	c.pass(59 * time.Second)
	c.wants("", time.Second, 0)
	c.pass(time.Second)
	c.wants("new", time.Minute, 1)
}

func TestAnOldAnswerServesWhileDNSFailsAndForAnHour(t *testing.T) {
	c := newCached(t)
	c.dns.Set(`site.org. 60 IN TXT "old"`)
	c.wants("old", time.Minute, 1)
	c.dns.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	c.pass(time.Minute)
	c.wants("old", 0, 1)
	c.wants("old", 0, 0) // not asked again at once
	c.pass(dns.RetryAfter)
	c.wants("old", 0, 1)
	c.pass(dns.MaxStale - dns.RetryAfter)
	if _, err := c.Ask(t.Context(), "site.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("an hour later: %v", err)
	}
	before := c.dns.Asked("site.org")
	if _, err := c.Ask(t.Context(), "site.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) || c.dns.Asked("site.org") != before {
		t.Errorf("at once again: %v, %d questions", err, c.dns.Asked("site.org")-before)
	}
	c.dns.Become(dnstest.Illness{})
	c.pass(dns.FailHold)
	c.wants("old", time.Minute, 1)
}

func TestAnAnswerThatWasTakenBackIsNeverServedAgain(t *testing.T) {
	c := newCached(t)
	c.dns.Set(`site.org. 60 IN TXT "old"`)
	c.wants("old", time.Minute, 1)
	c.dns.Set(``)
	c.pass(time.Minute)
	c.wants("", time.Minute, 1)
	c.dns.Become(dnstest.Illness{Rcode: wire.RcodeServerFailure})
	c.pass(time.Minute)
	if a, err := c.Ask(t.Context(), "site.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("%+v, %v", a, err)
	}
	c.dns.Become(dnstest.Illness{})
	c.dns.Set("site.org. 60 IN CNAME b.org.\nb.org. 60 IN CNAME site.org.")
	c.pass(dns.FailHold)
	if a, err := c.Ask(t.Context(), "site.org", dns.TXT); !errors.Is(err, naming.ErrLoop) {
		t.Errorf("%+v, %v", a, err)
	}
}

// held is a resolver that answers when it is let.
type held struct {
	mu    sync.Mutex
	let   chan struct{}
	asked int
}

func (h *held) String() string { return "held" }

func (h *held) Ask(ctx context.Context, name string, _ dns.Type) (dns.Answer, error) {
	h.mu.Lock()
	h.asked++
	let := h.let
	h.mu.Unlock()
	select {
	case <-let:
		return dns.Answer{Data: []string{name}, TTL: time.Minute}, nil
	case <-ctx.Done():
		return dns.Answer{}, fmt.Errorf("%w: %w", naming.ErrUnavailable, ctx.Err())
	}
}

func TestReadersDoNotWaitLongForAResolverThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{let: make(chan struct{})}
		c := dns.NewCache(h, nil)
		close(h.let)
		if _, err := c.Ask(t.Context(), "site.org", dns.TXT); err != nil {
			t.Fatal(err)
		}
		h.let = make(chan struct{})
		time.Sleep(time.Minute)
		begun := time.Now()
		a, err := c.Ask(t.Context(), "site.org", dns.TXT)
		if err != nil || len(a.Data) != 1 || a.TTL != 0 || time.Since(begun) != dns.Patience {
			t.Errorf("%+v, %v after %v", a, err, time.Since(begun))
		}
		close(h.let) // what was asked goes on, and its answer counts
		synctest.Wait()
		if a, err := c.Ask(t.Context(), "site.org", dns.TXT); err != nil || a.TTL != time.Minute || h.asked != 2 {
			t.Errorf("%+v, %v after %d questions", a, err, h.asked)
		}
	})
}

func TestEqualQuestionsAtTheSameTimeAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{let: make(chan struct{})}
		c := dns.NewCache(h, nil)
		var wg sync.WaitGroup
		gone, leave := context.WithCancel(t.Context())
		wg.Go(func() { // the first to ask leaves: the others get their answer all the same
			if _, err := c.Ask(gone, "site.org", dns.TXT); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if a, err := c.Ask(t.Context(), "SITE.org.", dns.TXT); err != nil || len(a.Data) != 1 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		close(h.let)
		wg.Wait()
		if h.asked != 1 {
			t.Errorf("%d questions", h.asked)
		}
	})
}

func TestStrangersCanNotFillTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{let: make(chan struct{})}
		close(h.let)
		c := dns.NewCache(h, nil)
		for i := range dns.MaxEntries + 500 {
			if _, err := c.Ask(t.Context(), fmt.Sprintf("d%d.org", i), dns.TXT); err != nil {
				t.Fatal(err)
			}
		}
		if c.Len() != dns.MaxEntries {
			t.Errorf("%d answers are kept", c.Len())
		}
	})
}

// hanging answers nobody until its question is given up.
type hanging struct{ asked, ended chan struct{} }

func (h hanging) String() string { return "hanging" }

func (h hanging) Ask(ctx context.Context, _ string, _ dns.Type) (dns.Answer, error) {
	close(h.asked)
	<-ctx.Done()
	close(h.ended)
	return dns.Answer{}, fmt.Errorf("%w: %w", naming.ErrUnavailable, ctx.Err())
}

func TestAClosedCacheAsksNobodyAnyMoreAndLeavesNoQuestionBehind(t *testing.T) {
	h := hanging{make(chan struct{}), make(chan struct{})}
	c := dns.NewCache(h, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := c.Ask(ctx, "site.org", dns.TXT)
		done <- err
	}()
	<-h.asked
	cancel()
	if err := <-done; !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("a question that is given up: %v", err)
	}
	c.Close()
	select {
	case <-h.ended:
	default:
		t.Error("the question is still under way")
	}
	if _, err := c.Ask(t.Context(), "other.org", dns.TXT); !errors.Is(err, naming.ErrUnavailable) {
		t.Errorf("after the end: %v", err) // h would panic
	}
}
