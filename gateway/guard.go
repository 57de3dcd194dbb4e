package gateway

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// guard stands before everything: it knows who asks, keeps clients to their
// limits, and counts.
type guard struct {
	trusted []netip.Prefix
	hall    *hall
	clients *clients // nil: no limits
	log     *accessLog
	warn    func() // that a proxy speaks for others, and is not trusted to
	meter   *meter
	open    atomic.Int64
	maxOpen int64
	blocks  int64 // of a request's budget
	bytes   int64
}

func newGuard(cfg Config) (*guard, error) {
	g := &guard{
		trusted: cfg.TrustedProxies,
		hall:    newHall(cfg.MaxConcurrent, cfg.MaxRetrievals),
		clients: newClients(cfg.Clients),
		log:     newAccessLog(cfg.AccessLog),
		blocks:  int64(cfg.RetrievalBlocks),
		bytes:   cfg.RetrievalBytes,
	}
	g.warn = sync.OnceFunc(func() {
		cfg.Log.Warn("a proxy on this machine passes requests on: until trusted_proxies names it, all its clients count as one")
	})
	g.maxOpen = int64(streamsPerWorked*cfg.MaxConcurrent + g.hall.capacity())
	var err error
	g.meter, err = newMeter(cfg.Metrics, g)
	return g, err
}

// streamsPerWorked is how many answers may be as slow as their readers, for each
// request that may be worked on.
const streamsPerWorked = 8

// visit is a request from its arrival to its end.
type visit struct {
	g      *guard
	w      http.ResponseWriter
	r      *http.Request // as it came
	addr   netip.Addr    // of the client; invalid where that isn't known
	here   bool          // the client is on this machine, and speaks for nobody else
	began  time.Time
	client *client
	seat   *seat
	status int          // of the answer; 0: there was none
	sent   int64        // bytes of its body
	out    *pacedWriter // knows both, where it isn't nil
}

// arrive lets a request in, or says why not. leave has to follow in either case.
func (g *guard) arrive(w http.ResponseWriter, r *http.Request) (visit, *Failure) {
	v := visit{g: g, w: w, r: r, addr: clientAddr(r, g.trusted), began: time.Now()}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && peer.Addr().Unmap().IsLoopback() {
		v.here = !passedOn(r.Header)
		if !v.here && v.addr.IsLoopback() && !isTrusted(v.addr, g.trusted) {
			g.warn()
		}
	}
	if g.open.Add(1) > g.maxOpen {
		return v, busy()
	}
	if g.clients == nil || v.here || !v.addr.IsValid() {
		return v, nil
	}
	var after time.Duration
	if v.client, after = g.clients.arrive(v.addr); v.client == nil {
		w.Header().Set("Retry-After", retryAfter(after))
		return v, &Failure{
			Status: http.StatusTooManyRequests, Kind: KindLimited, Step: StepRequest, Message: "too many requests from your address",
		}
	}
	if v.client.bytes != nil {
		v.w = &sipWriter{ResponseWriter: w, ctx: r.Context(), bytes: v.client.bytes}
	}
	return v, nil
}

// sit takes the request's place among those that are worked on.
func (v *visit) sit(x *transaction) *Failure {
	s, err := v.g.hall.sit(x.ctx, clientKey(v.addr))
	if err != nil {
		return busy()
	}
	s.budget.blocks.Store(v.g.blocks)
	s.budget.bytes.Store(v.g.bytes)
	v.seat, x.w.seat = s, s
	traceOf(x.ctx).seat = s
	return nil
}

func busy() *Failure {
	return &Failure{Status: http.StatusServiceUnavailable, Kind: KindBusy, Step: StepRequest, Message: errBusy.Error()}
}

// leave ends the visit.
func (v *visit) leave() {
	v.seat.leave()
	if v.client != nil {
		v.g.clients.depart(v.client)
	}
	v.g.open.Add(-1)
	if v.out != nil {
		v.status, v.sent = v.out.status, v.out.written
	}
	v.g.meter.count(v)
	v.g.log.write(v)
}

// passedOn tells whether a request says that it is somebody else's, sent on by a
// proxy: then where it comes from says nothing about who asks.
func passedOn(h http.Header) bool {
	for _, k := range [...]string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if h[k] != nil {
			return true
		}
	}
	return false
}

// remote is the client as handlers behind the gateway may count it, in place of
// Request.RemoteAddr.
func (v *visit) remote() string {
	switch {
	case v.here || !v.addr.IsValid():
		return v.r.RemoteAddr
	case v.addr.IsLoopback():
		return "proxy" // no address: they would take it for this machine's own
	}
	return netip.AddrPortFrom(v.addr, 0).String()
}

// clientAddr is who asks: the peer of the connection, or, where that is a
// trusted proxy, the last address of X-Forwarded-For that is none. What stands
// before that address anybody may have written. Invalid where it isn't known.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 {
		return addr
	}
	hops := r.Header.Values("X-Forwarded-For")
	for i := len(hops) - 1; i >= 0; i-- {
		for rest := hops[i]; rest != ""; {
			if !isTrusted(addr, trusted) {
				return addr
			}
			var hop string
			rest, hop = cutLast(rest)
			next, ok := parseHop(hop)
			if !ok {
				return addr
			}
			addr = next
		}
	}
	return addr
}

func cutLast(list string) (rest, last string) {
	i := strings.LastIndexByte(list, ',')
	return list[:max(i, 0)], strings.TrimSpace(list[i+1:])
}

// parseHop reads an address, with a port or without.
func parseHop(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// retryAfter is a Retry-After header's value: whole seconds, at least one.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}
