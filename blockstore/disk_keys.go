package blockstore

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// The keys in the index. Strings of arbitrary content have their length in
// front, so that none is the beginning of another; numbers are uvarints, in keys four bytes, big-endian.
//
//	b multihash                  -> segment, offset, size: where the block's bytes are; or 0, file, offset, size
//	f number                     -> a file that blocks were left in, see inplace.go
//	s segment                    -> how many of its bytes are on stable storage and told of above
//	q multihash                  -> Unix seconds, (length, path), reason: the block was found damaged, see disk_damage.go
//	m root digest chunk          -> list of what is kept under a root, see manifest.go
//	o owner root                 -> digests (16 bytes each) of the lists that owner told for root
//	r root owner                 -> "" (the same, to be asked the other way)
//	i owner                      -> number that stands for the owner
//	c multihash number           -> how many of the owner's lists the block is in, see refs.go
//	u number                     -> what the owner keeps, see refs.go; number 0: all owners
//	x session n                  -> (uvarint length, multihash)… that the session shields
//	t session                    -> when the session last wrote: Unix nanoseconds, 8 bytes
//	v                            -> where an interrupted verification goes on, see disk_verify.go
//	g                            -> changes to what is kept, entries under c (sum of counts), owners numbered
const (
	kindBlock    = 'b'
	kindOrigin   = 'f'
	kindSegment  = 's'
	kindDamage   = 'q'
	kindManifest = 'm'
	kindOwner    = 'o'
	kindRoot     = 'r'
	kindNumber   = 'i'
	kindCount    = 'c'
	kindUsage    = 'u'
	kindShield   = 'x'
	kindTime     = 't'
)

var (
	keyLedger = []byte{'g'}
	keyVerify = []byte{'v'}
)

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

// appendNumbers and cutNumbers are the values that consist of uvarints.
func appendNumbers(v []byte, ns ...uint64) []byte {
	for _, n := range ns {
		v = binary.AppendUvarint(v, n)
	}
	return v
}

func cutNumbers(v []byte, ns ...*uint64) error {
	for _, n := range ns {
		var w int
		if *n, w = binary.Uvarint(v); w <= 0 {
			return fmt.Errorf("%w: malformed numbers in the index", ErrCorrupt)
		}
		v = v[w:]
	}
	if len(v) != 0 {
		return fmt.Errorf("%w: %d bytes too many in the index", ErrCorrupt, len(v))
	}
	return nil
}

func blockKey(k []byte, h string) []byte { return append(append(k[:0], kindBlock), h...) }

func (p place) encode(v []byte) []byte {
	if p.segment == 0 {
		return appendNumbers(v[:0], 0, uint64(p.file), uint64(p.offset), uint64(p.size))
	}
	return appendNumbers(v[:0], uint64(p.segment), uint64(p.offset), uint64(p.size))
}

func parsePlace(v []byte) (place, error) {
	var segment, file, offset, size uint64
	numbers := []*uint64{&segment, &offset, &size}
	if len(v) > 0 && v[0] == 0 {
		numbers = []*uint64{&segment, &file, &offset, &size}
	}
	err := cutNumbers(v, numbers...)
	if err == nil && ((segment == 0) != (file > 0) || max(segment, file) > 1<<32-1 || offset > 1<<62 || size > MaxBlockSize) {
		err = fmt.Errorf("%w: the index has a block of %d bytes at %d in segment %d, file %d", ErrCorrupt, size, offset, segment, file)
	}
	return place{uint32(segment), uint32(file), int64(offset), int64(size)}, err
}

func segmentKey(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kindSegment}, id) }

func segmentID(rest []byte) uint32 { return binary.BigEndian.Uint32(rest) }

func damageKey(h string) []byte { return append([]byte{kindDamage}, h...) }

func ownerPrefix(owner string) []byte { return appendSized([]byte{kindOwner}, owner) }

func ownerKey(owner string, root cid.Cid) []byte {
	return append(ownerPrefix(owner), root.KeyString()...)
}

func rootPrefix(root cid.Cid) []byte { return appendSized([]byte{kindRoot}, root.KeyString()) }

func rootKey(root cid.Cid, owner string) []byte { return append(rootPrefix(root), owner...) }

func numberKey(owner string) []byte { return append([]byte{kindNumber}, owner...) }

func countKey(k []byte, h string, number uint32) []byte {
	return binary.BigEndian.AppendUint32(append(append(k[:0], kindCount), h...), number)
}

func usageKey(number uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kindUsage}, number) }

func shieldPrefix(session string) []byte { return appendSized([]byte{kindShield}, session) }

func shieldKey(session string, n uint32) []byte {
	return binary.BigEndian.AppendUint32(shieldPrefix(session), n)
}

func timeKey(session string) []byte { return append([]byte{kindTime}, session...) }

func timeValue() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
}

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

func cursorAt(h string) Cursor { return Cursor(base64.RawURLEncoding.EncodeToString([]byte(h))) }

func (c Cursor) multihash() (string, error) {
	h, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil {
		return "", fmt.Errorf("%w: not a cursor of this store: %q", ErrRefused, string(c))
	}
	return string(h), nil
}

// scan calls f with what follows prefix in each key that begins with it, and the value.
func scan(r pebble.Reader, prefix []byte, f func(rest, value []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return indexError(err)
		}
		if err := f(it.Key()[len(prefix):], v); err != nil {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return indexError(err)
	}
	return nil
}
