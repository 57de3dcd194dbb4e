package blockstore

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/ipld/go-car/v2"
)

// segmentOf is a segment with the blocks in it.
func segmentOf(blks []Block) []byte {
	data := bytes.Clone(segmentHeader)
	for _, b := range blks {
		data = append(appendSectionHead(data, b), b.RawData()...)
	}
	return data
}

func TestSegmentIsACARThatOthersRead(t *testing.T) {
	blks := rawBlocks(t, 5)
	r, err := car.NewBlockReader(bytes.NewReader(segmentOf(blks)))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range blks {
		got, err := r.Next()
		if err != nil || got.Cid() != want.Cid() || !bytes.Equal(got.RawData(), want.RawData()) {
			t.Errorf("%v, %v", got, err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// sectionsIn is what a search finds from the beginning, with damage passed over.
func sectionsIn(tb testing.TB, data []byte) (good []section) {
	tb.Helper()
	end := int64(len(data))
	r := bytes.NewReader(data)
	for at := min(int64(len(segmentHeader)), end); at < end; {
		s := readSections(r, 1, at, end)
		sec, err := s.next()
		switch {
		case err == nil && sec.err == nil:
			sec.data = bytes.Clone(sec.data)
			good = append(good, sec)
			at = sec.next
		case err == nil:
			at = sec.next
		case errors.Is(err, errFraming):
			next, err := resync(r, 1, at+1, end)
			if err != nil || next <= at {
				tb.Fatalf("resync from %d: %d, %v", at, next, err)
			}
			at = next
		default:
			tb.Fatal(err)
		}
	}
	return good
}

func TestBlocksBehindDamageAreFoundAgain(t *testing.T) {
	blks := rawBlocks(t, 20)
	whole := segmentOf(blks)
	if n := len(sectionsIn(t, whole)); n != len(blks) {
		t.Fatalf("%d of %d undamaged blocks", n, len(blks))
	}
	second := len(segmentHeader) + len(segmentOf(blks[:1])) - len(segmentHeader)
	for what, damage := range map[string]func([]byte) []byte{
		"zeroed from the second section's head on": func(b []byte) []byte { clear(b[second : second+20]); return b },
		"a bit of a length":                        func(b []byte) []byte { b[second] ^= 0x10; return b },
		"a byte too many":                          func(b []byte) []byte { return append(b[:second:second], append([]byte{7}, b[second:]...)...) },
		"a byte gone":                              func(b []byte) []byte { return append(b[:second:second], b[second+1:]...) },
		"a bit of a block":                         func(b []byte) []byte { b[second+60] ^= 1; return b },
	} {
		if n := len(sectionsIn(t, damage(bytes.Clone(whole)))); n < len(blks)-2 {
			t.Errorf("%s: %d of %d blocks are found", what, n, len(blks))
		}
	}
}

func FuzzIndexRecovery(f *testing.F) {
	blks := rawBlocks(f, 3)
	f.Add(segmentOf(blks))
	f.Add(append(segmentOf(blks[:1]), segmentOf(blks)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range sectionsIn(t, data) {
			if _, err := CheckBlock(s.cid, s.data); err != nil {
				t.Errorf("%v", err)
			}
			if p := s.place; p.offset+p.size > int64(len(data)) || !bytes.Equal(data[p.offset:p.offset+p.size], s.data) {
				t.Errorf("%s is not at %+v", s.cid, p)
			}
		}
	})
}
