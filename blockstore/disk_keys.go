package blockstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// The keys in the database. Strings of arbitrary content have their length in
// front, so that none is the beginning of another.
//
//	b multihash                  -> the block's bytes
//	m root digest chunk          -> manifest of a kept root, see manifest.go
//	o owner root                 -> "" (owner keeps root)
//	r root owner                 -> "" (the same, to be asked the other way)
//	x session multihash          -> "" (session shields block)
//	t session                    -> when the session last wrote: Unix nanoseconds, 8 bytes
//	g                            -> number of the last change to what is kept, 8 bytes
//
// There is no key for a block's size: the engine knows the length of a value
// that it has put in a file of its own without reading it.
const (
	kindBlock    = 'b'
	kindManifest = 'm'
	kindOwner    = 'o'
	kindRoot     = 'r'
	kindShield   = 'x'
	kindTime     = 't'
)

var keyChanges = []byte{'g'}

func appendSized(k []byte, s string) []byte {
	k = binary.AppendUvarint(k, uint64(len(s)))
	return append(k, s...)
}

// cutSized takes a sized string off the front of k.
func cutSized(k []byte) (s string, rest []byte, ok bool) {
	n, w := binary.Uvarint(k)
	if w <= 0 || n > uint64(len(k)-w) {
		return "", nil, false
	}
	return string(k[w : w+int(n)]), k[w+int(n):], true
}

func blockKey(k []byte, h mh.Multihash) []byte { return append(append(k[:0], kindBlock), h...) }

func ownerPrefix(owner string) []byte { return appendSized([]byte{kindOwner}, owner) }

func ownerKey(owner string, root cid.Cid) []byte {
	return append(ownerPrefix(owner), root.KeyString()...)
}

func rootPrefix(root cid.Cid) []byte { return appendSized([]byte{kindRoot}, root.KeyString()) }

func rootKey(root cid.Cid, owner string) []byte { return append(rootPrefix(root), owner...) }

func shieldPrefix(session string) []byte { return appendSized([]byte{kindShield}, session) }

func timeKey(session string) []byte { return append([]byte{kindTime}, session...) }

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func cursorAt(h []byte) Cursor { return Cursor(base64.RawURLEncoding.EncodeToString(h)) }

func (c Cursor) multihash() ([]byte, error) {
	h, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil {
		return nil, fmt.Errorf("%w: not a cursor of this store: %q", ErrRefused, string(c))
	}
	return h, nil
}
