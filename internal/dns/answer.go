package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"github.com/holdfast-sites/holdfast/naming"
)

// exchange carries a question to a resolver and brings back what it said: a whole message that answers it.
type exchange func(ctx context.Context, question *wire.Msg) (*wire.Msg, error)

// remote is a resolver that is asked with DNS messages.
type remote struct {
	name     string
	exchange exchange
}

func (r *remote) String() string { return r.name }

// Ask implements Resolver. Resolvers mostly give a chain of aliases with its end; where one doesn't, the end is asked for.
func (r *remote) Ask(ctx context.Context, name string, t Type) (Answer, error) {
	at, err := fqdn(name)
	if err != nil {
		return Answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c := chain{seen: map[string]bool{at: true}, answer: Answer{TTL: MaxTTL}}
	for at != "" {
		m, err := r.exchange(ctx, newQuestion(at, t))
		if err != nil {
			return Answer{}, unavailable(r, err)
		}
		if at, err = c.follow(m, at, t); err != nil {
			if !errors.Is(err, naming.ErrLoop) {
				err = unavailable(r, err)
			}
			return Answer{}, err
		}
	}
	return c.answer, nil
}

func newQuestion(name string, t Type) *wire.Msg {
	q := new(wire.Msg)
	q.SetQuestion(name, uint16(t))
	q.SetEdns0(maxDatagram, false)
	return q
}

// chain is an answer that is being put together.
type chain struct {
	seen   map[string]bool // names on the way
	answer Answer
}

// follow reads what m says about the name at, and about the names that its aliases lead to. It returns the name
// that is to be asked for next; "" at the end of the chain.
func (c *chain) follow(m *wire.Msg, at string, t Type) (next string, err error) {
	if m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		return "", rcodeError(m.Rcode)
	}
	for asked := at; ; {
		found, alias := false, ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != wire.ClassINET || wire.CanonicalName(h.Name) != at {
				continue
			}
			if h.Rrtype == uint16(t) {
				found = true
				c.answer.Data = append(c.answer.Data, dataOf(rr))
				c.holds(seconds(h.Ttl))
			} else if cname, ok := rr.(*wire.CNAME); ok && alias == "" {
				alias = wire.CanonicalName(cname.Target)
				c.holds(seconds(h.Ttl))
			}
		}
		switch {
		case found:
			return "", nil
		case alias == "" && at != asked && m.Rcode == wire.RcodeSuccess && soaOf(m) == nil:
			return at, nil
		case alias == "":
			return "", c.nothing(m)
		case c.seen[alias] || len(c.answer.Aliases) == maxAliases:
			return "", fmt.Errorf("%w: %s is an alias of %s, after %d others", naming.ErrLoop, plain(at), plain(alias), len(c.answer.Aliases))
		}
		c.seen[alias] = true
		c.answer.Aliases = append(c.answer.Aliases, plain(alias))
		at = alias
	}
}

// nothing reads for how long there is nothing: what the SOA says (RFC 2308), and not at all where it is missing.
func (c *chain) nothing(m *wire.Msg) error {
	soa := soaOf(m)
	if soa == nil {
		for _, rr := range m.Ns {
			if rr.Header().Rrtype == wire.TypeNS {
				return errors.New("it refers to others instead of asking them")
			}
		}
		c.holds(0)
		return nil
	}
	c.holds(min(seconds(soa.Hdr.Ttl), seconds(soa.Minttl), maxNegative))
	return nil
}

func (c *chain) holds(ttl time.Duration) { c.answer.TTL = min(c.answer.TTL, ttl) }

func soaOf(m *wire.Msg) *wire.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*wire.SOA); ok {
			return soa
		}
	}
	return nil
}

// seconds is a TTL; one with its highest bit set is 0 (RFC 2181, section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return min(time.Duration(ttl)*time.Second, MaxTTL)
}

// dataOf is a record as Answer.Data holds it.
func dataOf(rr wire.RR) string {
	switch rr := rr.(type) {
	case *wire.TXT:
		var b strings.Builder
		for _, s := range rr.Txt {
			unescape(&b, s)
		}
		return b.String()
	case *wire.CNAME:
		return plain(wire.CanonicalName(rr.Target))
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// unescape undoes the library's spelling of bytes that a zone file can't hold: \" and \\ and \195.
func unescape(b *strings.Builder, s string) {
	digit := func(i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case digit(i+1) && digit(i+2) && digit(i+3):
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
		default:
			b.WriteByte(s[i+1])
			i++
		}
	}
}

// plain is a name without its final dot.
func plain(name string) string { return strings.TrimSuffix(name, ".") }

// rcodeError is a resolver's word that it could not or would not find out.
type rcodeError int

func (e rcodeError) Error() string {
	if s, ok := wire.RcodeToString[int(e)]; ok {
		return "it answered " + s
	}
	return fmt.Sprintf("it answered with code %d", int(e))
}
