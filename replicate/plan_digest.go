package replicate

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"
)

// Digest names what a proposal would do, for whoever shows it and carries it
// out later: it changes with the wants and with the actions, and not with estimates
// or reasons, which every look at a host changes.
func (p Proposal) Digest(d Desired) [32]byte {
	h := digest{sha256.New()}
	h.text("holdfast plan digest 1")
	h.text(string(d.Site.Peer()))
	h.text(d.Root.KeyString())
	for _, n := range []int64{
		d.Bytes, int64(d.Copies), int64(d.Most), int64(d.Availability), d.MoveBytes, int64(d.Standbys), int64(len(d.Regions)),
	} {
		h.number(n)
	}
	for _, r := range slices.Sorted(slices.Values(d.Regions)) {
		h.text(r)
	}
	for _, a := range p.Actions {
		h.text(string(a.Kind))
		h.text(string(a.Host))
		after := int64(0)
		if a.AfterProof {
			after = 1
		}
		h.number(after)
	}
	return [32]byte(h.Sum(nil))
}

// digest writes texts with their lengths, so that no two plans are written alike.
type digest struct{ hash.Hash }

func (h digest) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func (h digest) text(s string) {
	h.number(int64(len(s)))
	h.Write([]byte(s))
}
