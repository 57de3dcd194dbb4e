// Package dnstest is a DNS resolver for tests, on loopback. It is apart from testnet because it needs nothing of ours:
// the tests of small rooms need not link whole nodes.
package dnstest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"
)

// Server is a resolver on loopback that knows the records it was given, and nothing else. It answers over UDP and TCP,
// and over HTTPS (RFC 8484), and can be made to fail in the ways in which resolvers do. It ends with the test.
type Server struct {
	addr string

	mu    sync.Mutex
	zone  []wire.RR
	asked map[string]int
	ill   Illness
	cured chan struct{} // closed when a stall ends
	t     testing.TB
}

// Illness is what is wrong with a Server. The zero value is a healthy one.
type Illness struct {
	Stall    bool // questions are left without an answer until it is healthy again
	Rcode    int  // every answer is this, such as SERVFAIL
	Truncate bool // nothing fits into a datagram: UDP answers are empty and say so
	NoSOA    bool // it doesn't say for how long there is nothing
	OneStep  bool // aliases are not followed: the answer ends with the first
	Refer    bool // it names other servers instead of asking them
	Lie      bool // answers are to another question
}

// New starts one without records.
func New(t testing.TB) *Server {
	t.Helper()
	d := &Server{t: t, asked: make(map[string]int), cured: make(chan struct{})}
	close(d.cured)
	pc, ln := d.listen()
	d.addr = pc.LocalAddr().String()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // runs last
	for _, s := range []*wire.Server{{PacketConn: pc}, {Listener: ln}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		_, udp := s.PacketConn.(*net.UDPConn)
		s.Handler = wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
			if m := d.answer(q, udp); m != nil {
				_ = w.WriteMsg(m) // who asked may have left
			}
		})
		wg.Go(func() {
			if err := s.ActivateAndServe(); err != nil {
				t.Errorf("DNS server: %v", err)
			}
		})
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	t.Cleanup(func() { d.Become(Illness{}) }) // runs first: lets go of whoever is stalled
	return d
}

// listen takes a port that is free for UDP and for TCP.
func (d *Server) listen() (net.PacketConn, net.Listener) {
	d.t.Helper()
	var last error
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			d.t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		last = err
		_ = pc.Close()
	}
	d.t.Fatal(last)
	return nil, nil
}

// Addr is where it listens, "127.0.0.1:PORT", for UDP and TCP.
func (d *Server) Addr() string { return d.addr }

// UDP is the resolver as configurations name it.
func (d *Server) UDP() string { return "udp://" + d.addr }

// HTTPS serves it over HTTPS too: the resolver as configurations name it, and a transport that trusts its certificate.
func (d *Server) HTTPS() (spec string, transport http.RoundTripper) {
	s := httptest.NewTLSServer(http.HandlerFunc(d.serveHTTP))
	d.t.Cleanup(s.Close)
	d.t.Cleanup(func() { d.Become(Illness{}) })
	return s.URL + "/dns-query", s.Client().Transport
}

// HTTP serves it over plain HTTP too.
func (d *Server) HTTP() (spec string) {
	s := httptest.NewServer(http.HandlerFunc(d.serveHTTP))
	d.t.Cleanup(s.Close)
	d.t.Cleanup(func() { d.Become(Illness{}) })
	return s.URL + "/dns-query"
}

// Set replaces all records by those of a text like a zone file's.
func (d *Server) Set(zone string) {
	d.t.Helper()
	var all []wire.RR
	p := wire.NewZoneParser(strings.NewReader(zone), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all = append(all, rr)
	}
	if err := p.Err(); err != nil {
		d.t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zone = all
}

// Become makes it ill in some way, or healthy.
func (d *Server) Become(i Illness) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ill.Stall && !i.Stall {
		close(d.cured)
	} else if i.Stall && !d.ill.Stall {
		d.cured = make(chan struct{})
	}
	d.ill = i
}

// Asked counts the questions for a name, of any type, without and with an answer.
func (d *Server) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[wire.CanonicalName(name)]
}

// answer is nil where there is none.
func (d *Server) answer(q *wire.Msg, udp bool) *wire.Msg {
	d.mu.Lock()
	ill, cured := d.ill, d.cured
	if len(q.Question) == 1 {
		d.asked[wire.CanonicalName(q.Question[0].Name)]++
	}
	d.mu.Unlock()
	if ill.Stall {
		<-cured
		return nil
	}
	m := new(wire.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	switch {
	case ill.Rcode != wire.RcodeSuccess:
		m.Rcode = ill.Rcode
	case ill.Truncate && udp:
		m.Truncated = true
	case ill.Refer:
		m.Ns = []wire.RR{&wire.NS{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeNS, Class: wire.ClassINET, Ttl: 60}, Ns: "a.root.test."}}
	default:
		d.look(m, ill)
	}
	if ill.Lie {
		m.Question[0].Name = "lie.test."
	}
	return m
}

// look finds what is asked for, along aliases.
func (d *Server) look(m *wire.Msg, ill Illness) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name, t := wire.CanonicalName(m.Question[0].Name), m.Question[0].Qtype
	seen := map[string]bool{}
	for name != "" && !seen[name] {
		seen[name] = true
		exists, next := false, ""
		for _, rr := range d.zone {
			h := rr.Header()
			if wire.CanonicalName(h.Name) != name {
				continue
			}
			exists = true
			cname, alias := rr.(*wire.CNAME)
			if h.Rrtype == t || alias {
				m.Answer = append(m.Answer, rr)
			}
			if alias && t != wire.TypeCNAME {
				next = wire.CanonicalName(cname.Target)
			}
		}
		if !exists {
			m.Rcode = wire.RcodeNameError
		}
		name = next
		if ill.OneStep {
			break
		}
	}
	if n := len(m.Answer); !ill.NoSOA && !ill.OneStep && (n == 0 || m.Answer[n-1].Header().Rrtype != t) {
		m.Ns = append(m.Ns, d.soa())
	}
}

// soa is the zone's, or one that lets absences be kept for a minute.
func (d *Server) soa() wire.RR {
	for _, rr := range d.zone {
		if rr.Header().Rrtype == wire.TypeSOA {
			return rr
		}
	}
	return &wire.SOA{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeSOA, Class: wire.ClassINET, Ttl: 3600}, Ns: "ns.test.", Mbox: "host.test.", Minttl: 60}
}

func (d *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxMsgSize))
	q := new(wire.Msg)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/dns-message" || q.Unpack(b) != nil {
		http.Error(w, "not a DNS question", http.StatusBadRequest)
		return
	}
	m := d.answer(q, false)
	if m == nil {
		panic(http.ErrAbortHandler)
	}
	if b, err = m.Pack(); err != nil {
		d.t.Errorf("pack: %v", err)
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	_, _ = w.Write(b)
}
