package dns

import (
	"net"

	wire "github.com/miekg/dns"
)

// Inside of the package, for its tests.
const (
	MinHold    = minHold
	FailHold   = failHold
	MaxStale   = maxStale
	Patience   = patience
	RetryAfter = retryAfter
	MaxEntries = maxEntries
)

// NewNative is what stands in for resolv.conf where there is none.
func NewNative(r *net.Resolver) Resolver { return native{r} }

// Len is how many answers are kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Follow reads one message as the answer to a question.
func Follow(m *wire.Msg, name string, t Type) (Answer, string, error) {
	c := chain{seen: map[string]bool{name: true}, answer: Answer{TTL: MaxTTL}}
	next, err := c.follow(m, name, t)
	return c.answer, next, err
}
