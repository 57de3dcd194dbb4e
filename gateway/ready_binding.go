package gateway

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
)

// bindingTime is for how long a host is taken to stand for the same root before
// it is resolved again, at most: so often the names that readers ask for are followed.
const bindingTime = time.Second

// Changing is implemented by Names that tell when what they know changes. What
// other Names resolve is asked for again with each request.
type Changing interface {
	// Changes is another number than before once any name may resolve to
	// something else, other than by time.
	Changes() uint64
}

// originKind is what of an origin decides an answer's header, beside its content.
type originKind uint8

const (
	originOwn    originKind = iota // of a local alias: nobody else's scripts may read it
	originShared                   // by name, CID or domain: anybody may
	originPath                     // by path, in a sandbox
)

func kindOf(o origin, shared bool) originKind {
	switch {
	case !o.isolated():
		return originPath
	case shared:
		return originShared
	}
	return originOwn
}

// bindingKey is what a client asked for, as it was spelled.
type bindingKey struct {
	host string
	id   string // "/ipfs/<cid>" or "/ipns/<name>" where that is in the path; empty on a site's own origin
}

// binding is where that led.
type binding struct {
	kind    originKind
	prefix  string // of the content path: "/ipns/<name>"
	root    cid.Cid
	base    string
	until   time.Time // zero: for ever
	fresh   time.Time // end of the time for which clients may keep it; zero: for ever
	changes uint64    // of the names, before they were asked

	text atomic.Pointer[lifetimeText]
}

// lifetimeText is a Cache-Control header, made once a second.
type lifetimeText struct {
	seconds int64
	value   []string
}

// same tells whether two bindings say the same.
func (b *binding) same(o *binding) bool {
	return b.kind == o.kind && b.prefix == o.prefix && b.root == o.root && b.base == o.base &&
		b.until.Equal(o.until) && b.fresh.Equal(o.fresh) && b.changes == o.changes
}

// valid tells whether the binding may be used now.
func (b *binding) valid(now time.Time, changes uint64) bool {
	return b.until.IsZero() || now.Before(b.until) && b.changes == changes
}

// lifetime is the Cache-Control of what is served now.
func (b *binding) lifetime(now time.Time) []string {
	if b.fresh.IsZero() {
		return immutableText
	}
	left := b.fresh.Sub(now)
	if left <= 0 {
		return noCacheText
	}
	seconds := int64(left / time.Second)
	t := b.text.Load()
	if t == nil || t.seconds != seconds {
		t = &lifetimeText{seconds, []string{lifetimeFor(left)}}
		b.text.Store(t)
	}
	return t.value
}

var (
	immutableText = []string{immutable}
	noCacheText   = []string{lifetimeFor(0)}
)

// pathID is the "/ipfs/<cid>" that a path begins with; empty where it begins otherwise.
func pathID(path string) string {
	if !strings.HasPrefix(path, "/ipfs/") && !strings.HasPrefix(path, "/ipns/") {
		return ""
	}
	if end := strings.IndexByte(path[6:], '/'); end >= 0 {
		return path[:6+end]
	}
	return path
}

// secondText is the time as headers show it, formatted once a second.
type secondText struct{ text atomic.Pointer[lifetimeText] }

// thisSecond is the Last-Modified of what has no other: browsers keep it longer then.
var thisSecond secondText

func (s *secondText) lastModified(now time.Time) []string {
	t := s.text.Load()
	if t == nil || t.seconds != now.Unix() {
		t = &lifetimeText{now.Unix(), []string{now.UTC().Format(http.TimeFormat)}}
		s.text.Store(t)
	}
	return t.value
}
