package gateway

import (
	"github.com/maypok86/otter/v2"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxSpellings bounds the names whose spelling is remembered: base 36 is slow to
// read and to write, and a request needs it half a dozen times.
const maxSpellings = 4096

// spellings remembers what names are called.
type spellings struct {
	read    *otter.Cache[string, spelled]
	written *otter.Cache[naming.Name, string]
}

// spelled is a name and its one spelling.
type spelled struct {
	name naming.Name
	text string
}

func newSpellings() *spellings {
	return &spellings{
		read:    newRemembered[string, spelled](maxSpellings),
		written: newRemembered[naming.Name, string](maxSpellings),
	}
}

// parse is naming.ParseName, and the name's one spelling.
func (s *spellings) parse(id string) (naming.Name, string, error) {
	if known, ok := s.read.GetIfPresent(id); ok {
		return known.name, known.text, nil
	}
	n, err := naming.ParseName(id)
	if err != nil {
		return naming.Name{}, "", err
	}
	text := s.text(n)
	s.read.Set(id, spelled{n, text})
	return n, text, nil
}

// text is the name's one spelling.
func (s *spellings) text(n naming.Name) string {
	text, ok := s.written.GetIfPresent(n)
	if !ok {
		text = n.String()
		s.written.Set(n, text)
	}
	return text
}
