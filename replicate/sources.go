package replicate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// SourceWatcher is what a session may be beside a session: a Fetcher then tells it who gave
// how much, and who failed how. The methods may be called concurrently, and return at once.
type SourceWatcher interface {
	// Gave says that bytes came from a peer, as they came: what was refused counts, too.
	Gave(id peer.ID, bytes int64)
	// Failed says what was wrong with a peer. The last word counts.
	Failed(id peer.ID, why string)
}

const (
	maxSources     = 64   // peers that are remembered of one fetch
	maxSourcesText = 1024 // bytes of InfoSources
	maxFailureText = 120  // bytes of what one of them said
)

// sources is who was asked by a fetch. The zero value is ready to use.
type sources struct {
	mu  sync.Mutex
	all map[peer.ID]*source
}

type source struct {
	id    peer.ID
	bytes int64
	said  string
}

func (s *sources) gave(id peer.ID, bytes int64) {
	s.note(id, func(x *source) { x.bytes += bytes })
}

func (s *sources) failed(id peer.ID, why string) {
	s.note(id, func(x *source) { x.said = why })
}

func (s *sources) note(id peer.ID, change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[peer.ID]*source)
	}
	x := s.all[id]
	if x == nil {
		if len(s.all) >= maxSources {
			return
		}
		x = &source{id: id}
		s.all[id] = x
	}
	change(x)
}

// String is the sources for people, those who gave most first, as in docs/formats.md.
func (s *sources) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*source, 0, len(s.all))
	for _, x := range s.all {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *source) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.id, b.id))
	})
	var b strings.Builder
	for _, x := range list {
		line := fmt.Sprintf("%s %d", x.id, x.bytes)
		if x.said != "" {
			line += ": " + cutTo(x.said, maxFailureText)
		}
		if b.Len()+len(line)+2 > maxSourcesText {
			break
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// cutTo is at most n bytes of a text that somebody else chose, on one line.
func cutTo(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
