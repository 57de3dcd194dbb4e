package blockstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"
)

// Blocks lie in segments: files that are only ever appended to, each of them a
// CAR (version 1) of its own, so that the blocks can be had with any tool that
// reads CARs, and the index be made anew, should either be lost. What a segment
// holds beyond the blocks that the index names is garbage that waits for a
// collection.
//
//	segments/00000001.car:  header, then sections (uvarint length, CID, bytes)…
//
// The header is the usual {"roots": [bafkqaaa], "version": 1}: a CAR wants a root, and the
// empty identity CID says that there is none.

// segmentHeader begins every segment: DAG-CBOR, its length in front.
var segmentHeader = func() []byte {
	root, err := cid.Decode("bafkqaaa")
	if err != nil {
		panic(err)
	}
	link := append([]byte{0}, root.Bytes()...)
	h := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x81, 0xd8, 0x2a, 0x40 | byte(len(link))}
	h = append(h, link...)
	h = append(h, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x01)
	return append([]byte{byte(len(h))}, h...)
}()

// place is where a block's bytes are: in a segment, or in a file that is not
// ours (see inplace.go). The zero place is nowhere.
type place struct {
	segment uint32 // 0: in a file
	file    uint32
	offset  int64 // of the bytes, behind their CID
	size    int64
}

// String names the place for logs and errors.
func (p place) String() string {
	if p.segment == 0 {
		return fmt.Sprintf("file %d at %d", p.file, p.offset)
	}
	return fmt.Sprintf("%s at %d", segmentName(p.segment), p.offset)
}

// section is one block of a segment, as it is found there.
type section struct {
	cid   cid.Cid
	place place
	next  int64 // where the next section begins
	data  []byte
	err   error // why the bytes are not the block's; the section's bounds are right even so
}

// appendSectionHead appends what stands in front of a block's bytes.
func appendSectionHead(p []byte, b Block) []byte {
	p = binary.AppendUvarint(p, uint64(b.cid.ByteLen()+len(b.data)))
	return append(p, b.cid.Bytes()...)
}

// errFraming says that no section begins where one should: from there on
// nothing is known but by searching.
var errFraming = errors.New("no section begins here")

// maxSectionCID is the longest CID that is looked for in a section, in bytes: a digest
// of 128, its length, and the version, codec and hash function in up to nine each.
const maxSectionCID = 128 + 2 + 3*9

// sections reads a segment in order.
type sections struct {
	r       *bufio.Reader
	segment uint32
	at      int64 // where the next section begins
	end     int64
	buf     []byte
}

// readSections begins at the offset, where a section must begin, and goes on to
// end, where the last one must end.
func readSections(r io.ReaderAt, segment uint32, from, end int64) *sections {
	return &sections{r: bufio.NewReaderSize(io.NewSectionReader(r, from, max(0, end-from)), 256<<10), segment: segment, at: from, end: end}
}

// next is the next section, checked; its data are valid until the next call.
// io.EOF at the end, errFraming where there is no section, and other errors of reading.
func (s *sections) next() (section, error) {
	if s.at >= s.end {
		return section{}, io.EOF
	}
	head, err := s.r.Peek(int(min(binary.MaxVarintLen64, s.end-s.at)))
	if err != nil && !errors.Is(err, io.EOF) {
		return section{}, err
	}
	length, w, err := varint.FromUvarint(head)
	if err != nil || length == 0 || length > MaxBlockSize+maxSectionCID || s.at+int64(w)+int64(length) > s.end {
		return section{}, fmt.Errorf("%w (%d)", errFraming, s.at)
	}
	if _, err := s.r.Discard(w); err != nil {
		return section{}, err
	}
	if uint64(cap(s.buf)) < length {
		s.buf = make([]byte, max(length, 1<<20))
	}
	body := s.buf[:length]
	if _, err := io.ReadFull(s.r, body); err != nil {
		return section{}, err
	}
	n, c, err := cid.CidFromBytes(body)
	if err != nil || n > maxSectionCID {
		return section{}, fmt.Errorf("%w (%d)", errFraming, s.at)
	}
	sec := section{
		cid: c, data: body[n:], next: s.at + int64(w) + int64(length),
		place: place{segment: s.segment, offset: s.at + int64(w) + int64(n), size: int64(length) - int64(n)},
	}
	if _, ok := identity(c); ok {
		return section{}, fmt.Errorf("%w (%d): none of ours", errFraming, s.at)
	}
	_, sec.err = CheckBlock(c, sec.data)
	s.at = sec.next
	return sec, nil
}

// The blocks that we build have CIDs that begin so: version 1, codec raw or
// dag-pb, SHA2-256 of 32 bytes, or version 0. Sections are searched for by them.
var soughtCIDs = [][]byte{{1, cid.Raw, 0x12, 0x20}, {1, cid.DagProtobuf, 0x12, 0x20}, {0x12, 0x20}}

// resync is where the next section with good bytes begins behind offset from, or
// end. It is for what lies behind damage.
func resync(r io.ReaderAt, segment uint32, from, end int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, window)
	for at := from; at < end; {
		n, err := r.ReadAt(buf[:min(window, end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if n == 0 {
			return end, nil
		}
		for i := 0; ; i++ {
			j := soonest(buf[i:n], soughtCIDs)
			if j < 0 {
				break
			}
			i += j
			if begin := sectionAround(r, segment, at+int64(i), from, end); begin >= 0 {
				return begin, nil
			}
		}
		// A CID may lie across two windows.
		at += int64(max(1, n-len(soughtCIDs[0])+1))
		if n < len(soughtCIDs[0]) {
			return end, nil
		}
	}
	return end, nil
}

func soonest(p []byte, patterns [][]byte) int {
	best := -1
	for _, pattern := range patterns {
		if i := bytes.Index(p, pattern); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	return best
}

// sectionAround is where the good section begins whose CID is at the offset; -1
// where there is none. Its length takes up to four bytes in front.
func sectionAround(r io.ReaderAt, segment uint32, at, from, end int64) int64 {
	for w := int64(1); w <= 4 && at-w >= from; w++ {
		s := readSections(r, segment, at-w, end)
		sec, err := s.next()
		if err == nil && sec.err == nil && sec.place.offset == at+int64(sec.cid.ByteLen()) {
			return at - w
		}
	}
	return -1
}
