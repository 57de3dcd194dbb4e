package blockstore

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"
)

// climber seeks keys in ascending order. Where they lie close together it steps
// from one to the next, which costs a fraction of a seek.
type climber struct {
	it      *pebble.Iterator
	started bool
}

// stepsBeforeSeek is how many entries are passed over before a seek is cheaper.
const stepsBeforeSeek = 16

func newClimber(r pebble.Reader, kind byte) (*climber, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}})
	return &climber{it: it}, err
}

// to goes to the first entry at or behind key; false where there is none. No key
// may be before one asked for earlier.
func (c *climber) to(key []byte) bool {
	for step := 0; c.started && c.it.Valid() && step < stepsBeforeSeek; step++ {
		if bytes.Compare(c.it.Key(), key) >= 0 {
			return true
		}
		c.it.Next()
	}
	if c.started && !c.it.Valid() {
		return false // the end, or an error
	}
	c.started = true
	return c.it.SeekGE(key)
}

func (c *climber) close() error { return c.it.Close() }
