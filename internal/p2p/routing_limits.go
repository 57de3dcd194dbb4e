package p2p

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What one remote may ask of the routing API: so many a second, and so many at once after a pause.
const (
	putsEvery, putsBurst = rate.Limit(50), 2000 // a relay puts all of its names in one go

	strangersEvery, strangersBurst = rate.Limit(1), 64 // puts of names that nobody here follows

	lookupsEvery, lookupsBurst = rate.Limit(5), 50 // searches in the network
)

// maxRemotes bounds the remotes that are remembered: at most twice as many.
const maxRemotes = 4096

// remotes counts what each remote asks. Those that have asked nothing for long are forgotten: in two generations, so
// that nobody who goes on asking is.
type remotes struct {
	now func() time.Time

	mu            sync.Mutex
	young, former map[string]*allowance
}

// allowance is what one remote has left.
type allowance struct{ puts, strangers, lookups *rate.Limiter }

func newRemotes(now func() time.Time) *remotes {
	return &remotes{now: now, young: map[string]*allowance{}}
}

// mayPut tells whether a remote may put one more record, of a name that is followed here or not. A waitError otherwise.
func (rs *remotes) mayPut(from string, followed bool) error {
	if from == thisMachine {
		return nil
	}
	r := rs.of(from)
	if err := rs.take(r.puts); err != nil || followed {
		return err
	}
	return rs.take(r.strangers)
}

// mayLookUp tells whether a remote may have one more search. A waitError otherwise.
func (rs *remotes) mayLookUp(from string) error {
	if from == thisMachine {
		return nil
	}
	return rs.take(rs.of(from).lookups)
}

func (rs *remotes) of(from string) *allowance {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r, ok := rs.young[from]; ok {
		return r
	}
	if len(rs.young) >= maxRemotes {
		rs.young, rs.former = map[string]*allowance{}, rs.young
	}
	r, ok := rs.former[from]
	if !ok {
		r = &allowance{
			rate.NewLimiter(putsEvery, putsBurst), rate.NewLimiter(strangersEvery, strangersBurst),
			rate.NewLimiter(lookupsEvery, lookupsBurst),
		}
	}
	rs.young[from] = r
	return r
}

func (rs *remotes) take(l *rate.Limiter) error {
	now := rs.now()
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &waitError{wait}
}

// waitError says that a remote asks too much, and when it may ask again.
type waitError struct{ wait time.Duration }

func (e *waitError) Error() string {
	return fmt.Sprintf("you ask too much: come back in %d s", e.seconds())
}

func (e *waitError) seconds() int { return int((e.wait + time.Second - 1) / time.Second) }

// thisMachine is the remote of requests from here. It has no limits of its own: it may be a proxy that speaks for many,
// which has to count them itself.
const thisMachine = ""

// remoteOf is whom a request is counted for: a peer, an IPv4 address, or the /64 that an IPv6 address is in, since
// every customer has as many of those addresses as they like.
func remoteOf(r *http.Request) string {
	if id := RemotePeer(r); id != "" {
		return id.String()
	}
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr := a.Addr().Unmap()
	if addr.IsLoopback() {
		return thisMachine
	}
	if addr.Is6() {
		if p, err := addr.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
