package blockstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// The manifest of a kept root is the list of its CIDs with their sizes, in
// chunks. It belongs to the root, not to an owner. Should two owners tell
// different lists for one root, both are kept, told apart by a digest, so that what anybody
// needs stays. A list goes when the last owner who told it lets go of the root.
//
//	m root digest 0   -> version 1 (1 byte), uvarint chunks, uvarint CIDs, uvarint bytes
//	m root digest n   -> (uvarint length, CID, uvarint size)…
const (
	manifestVersion = 1
	manifestChunk   = 8 << 10 // bytes
)

func manifestPrefix(root cid.Cid) []byte { return appendSized([]byte{kindManifest}, root.KeyString()) }

func manifestKey(root cid.Cid, digest list, chunk uint32) []byte {
	k := append(manifestPrefix(root), digest[:]...)
	return binary.BigEndian.AppendUint32(k, chunk)
}

// manifest gathers a list to be written.
type manifest struct {
	digest        list
	chunks        [][]byte
	count, bytes  uint64
	sumHi, sumLow uint64
	entry         []byte
}

// list is a digest that a manifest is known by.
type list [16]byte

func (m *manifest) add(c cid.Cid, size int64) {
	m.entry = appendSized(m.entry[:0], c.KeyString())
	m.entry = binary.AppendUvarint(m.entry, uint64(size))
	if n := len(m.chunks); n == 0 || len(m.chunks[n-1])+len(m.entry) > manifestChunk {
		m.chunks = append(m.chunks, make([]byte, 0, manifestChunk))
	}
	last := &m.chunks[len(m.chunks)-1]
	*last = append(*last, m.entry...)
	m.count++
	m.bytes += uint64(size)
	// A sum doesn't depend on the order, in which two walks of a DAG may differ.
	h := sha256.Sum256(c.Bytes())
	m.sumHi += binary.BigEndian.Uint64(h[:8])
	m.sumLow += binary.BigEndian.Uint64(h[8:16])
}

// finish computes the digest.
func (m *manifest) finish() {
	binary.BigEndian.PutUint64(m.digest[:8], m.sumHi)
	binary.BigEndian.PutUint64(m.digest[8:], m.sumLow)
}

// write puts the manifest into b, unless the very same list is stored already.
func (m *manifest) write(d *disk, b *pebble.Batch, root cid.Cid) error {
	head := []byte{manifestVersion}
	head = binary.AppendUvarint(head, uint64(len(m.chunks)))
	head = binary.AppendUvarint(head, m.count)
	head = binary.AppendUvarint(head, m.bytes)
	_, closer, err := d.db.Get(manifestKey(root, m.digest, 0))
	if err == nil {
		return closer.Close()
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return indexError(err)
	}
	if err := b.Set(manifestKey(root, m.digest, 0), head, nil); err != nil {
		return err
	}
	for i, c := range m.chunks {
		if err := b.Set(manifestKey(root, m.digest, uint32(i+1)), c, nil); err != nil {
			return err
		}
	}
	return nil
}

type kept struct {
	cid  cid.Cid
	size int64
}

// readManifests yields what is kept under root, of all its manifests, one
// chunk of the database at a time. It ends with an error, and tells so,
// wherever something is missing or can't be understood.
func readManifests(r pebble.Reader, root cid.Cid) iter.Seq2[kept, error] {
	return readLists(r, root, manifestPrefix(root))
}

// readManifest yields one of them.
func readManifest(r pebble.Reader, root cid.Cid, digest list) iter.Seq2[kept, error] {
	return readLists(r, root, append(manifestPrefix(root), digest[:]...))
}

func readLists(r pebble.Reader, root cid.Cid, prefix []byte) iter.Seq2[kept, error] {
	return func(yield func(kept, error) bool) {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
		if err != nil {
			yield(kept{}, err)
			return
		}
		defer it.Close()
		bad := func(format string, args ...any) {
			yield(kept{}, &BlockError{CID: root, Kind: ErrCorrupt, Err: fmt.Errorf("the list of what is kept under it: "+format, args...)})
		}
		var chunks, count, bytes uint64 // what the head of this list promised and is to come yet
		var next uint32
		lists := 0
		for ok := it.First(); ok; ok = it.Next() {
			k := it.Key()[len(manifestPrefix(root)):]
			v, err := it.ValueAndErr()
			if err != nil {
				bad("%w", err)
				return
			}
			if len(k) != 20 {
				bad("a key of %d bytes", len(k))
				return
			}
			n := binary.BigEndian.Uint32(k[16:])
			if n == 0 {
				if chunks+count+bytes != 0 {
					break
				}
				if chunks, count, bytes, err = parseManifestHead(v); err != nil {
					bad("%w", err)
					return
				}
				next, lists = 1, lists+1
				continue
			}
			if n != next || chunks == 0 {
				bad("chunk %d where %d was expected", n, next)
				return
			}
			next, chunks = next+1, chunks-1
			for len(v) > 0 {
				var e kept
				if e, v, err = parseKept(v); err != nil {
					bad("chunk %d: %w", n, err)
					return
				}
				count, bytes = count-1, bytes-uint64(e.size)
				if !yield(e, nil) {
					return
				}
			}
		}
		if err := it.Error(); err != nil {
			bad("%w", err)
			return
		}
		if lists == 0 || chunks != 0 || count != 0 || bytes != 0 {
			bad("%d lists, incomplete by %d chunks, %d CIDs, %d bytes", lists, int64(chunks), int64(count), int64(bytes))
		}
	}
}

func parseManifestHead(v []byte) (chunks, count, bytes uint64, err error) {
	if len(v) == 0 || v[0] != manifestVersion {
		return 0, 0, 0, fmt.Errorf("unknown version")
	}
	v = v[1:]
	for _, n := range []*uint64{&chunks, &count, &bytes} {
		var w int
		if *n, w = binary.Uvarint(v); w <= 0 {
			return 0, 0, 0, fmt.Errorf("malformed head")
		}
		v = v[w:]
	}
	if len(v) != 0 {
		return 0, 0, 0, fmt.Errorf("malformed head")
	}
	return chunks, count, bytes, nil
}

func parseKept(v []byte) (kept, []byte, error) {
	s, v, ok := cutSized(v)
	if !ok {
		return kept{}, nil, fmt.Errorf("malformed CID")
	}
	c, err := cid.Cast([]byte(s))
	if err != nil {
		return kept{}, nil, err
	}
	size, w := binary.Uvarint(v)
	if w <= 0 || size > MaxBlockSize {
		return kept{}, nil, fmt.Errorf("malformed size of %s", c)
	}
	return kept{c, int64(size)}, v[w:], nil
}
