package dnstest

import (
	"net"
	"os"
	"testing"

	wire "github.com/miekg/dns"
)

// Everywhere answers, over TCP, that every name is this machine, and that every TXT record
// holds what the file does: all that an authority for certificates asks. It ends with the test.
func Everywhere(t testing.TB, txtFile string) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &wire.Server{Listener: ln, Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg).SetReply(q)
		head := wire.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: wire.ClassINET}
		switch q.Question[0].Qtype {
		case wire.TypeA:
			m.Answer = []wire.RR{&wire.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)}}
		case wire.TypeTXT:
			text, _ := os.ReadFile(txtFile)
			m.Answer = []wire.RR{&wire.TXT{Hdr: head, Txt: []string{string(text)}}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = srv.ActivateAndServe() }() // ends with Shutdown
	t.Cleanup(func() { _ = srv.Shutdown() })
	return ln.Addr().String()
}
