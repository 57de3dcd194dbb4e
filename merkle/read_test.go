package merkle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// randomFile is a file whose nodes have all shapes: deep, wide, with parts
// without content, with the same part many times.
func randomFile(t testing.TB, s *testStore, r *rand.Rand, depth int) (cid.Cid, []byte) {
	if depth == 0 || r.IntN(8) == 0 {
		text := make([]byte, r.IntN(20))
		for i := range text {
			text[i] = byte('a' + r.IntN(3))
		}
		return s.raw(t, string(text)), text
	}
	var parts []cid.Cid
	var sizes []uint64
	var all []byte
	for range 1 + r.IntN(12) {
		c, text := randomFile(t, s, r, depth-1)
		for range 1 + r.IntN(2) {
			parts, sizes, all = append(parts, c), append(sizes, uint64(len(text))), append(all, text...)
		}
	}
	return s.file(t, uint64(len(all)), sizes, parts...), all
}

func TestAFileReadsTheSameWhereverAndHoweverItIsRead(t *testing.T) {
	for seed := range uint64(20) {
		r, s := rand.New(rand.NewPCG(seed, 1)), newTestStore()
		c, want := randomFile(t, s, r, 1+int(seed%4))
		f, err := OpenFile(context.Background(), s, c)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for range 100 {
			switch r.IntN(4) {
			case 0:
				at = r.IntN(len(want) + 1)
				if _, err := f.Seek(int64(at), io.SeekStart); err != nil {
					t.Fatal(err)
				}
			case 1:
				var rest bytes.Buffer
				if _, err := io.Copy(&rest, f); err != nil || !bytes.Equal(rest.Bytes(), want[at:]) {
					t.Fatalf("seed %d: from %d to the end: %d bytes, %v", seed, at, rest.Len(), err)
				}
				at = len(want)
			default:
				p := make([]byte, min(r.IntN(60), len(want)-at))
				if _, err := io.ReadFull(f, p); err != nil || !bytes.Equal(p, want[at:at+len(p)]) {
					t.Fatalf("seed %d: %d bytes at %d: %q, %v", seed, len(p), at, p, err)
				}
				at += len(p)
			}
		}
		f.Close()
	}
}

// leaves is a file of n leaves of one byte.
func leaves(t testing.TB, s *testStore, n int) (file cid.Cid, parts []cid.Cid) {
	sizes := make([]uint64, n)
	for i := range n {
		parts, sizes[i] = append(parts, s.raw(t, string(rune('a'+i)))), 1
	}
	return s.file(t, uint64(n), sizes, parts...), parts
}

func TestAFileIsFetchedAheadAsFarAsItsWindow(t *testing.T) {
	s := newTestStore()
	file, _ := leaves(t, s, 26)
	g := &gate{Getter: s, wait: make(chan struct{}), wanted: 4} // hangs until four are asked for at once
	f, err := OpenFile(t.Context(), g, file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got bytes.Buffer
	if _, err := io.Copy(&got, f); err != nil || got.String() != "abcdefghijklmnopqrstuvwxyz" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if g.most > fileAhead+1 {
		t.Errorf("%d fetches at once", g.most)
	}
}

func TestAShortReadInTheMiddleFetchesOnlyWhatItNeeds(t *testing.T) {
	s := newTestStore()
	file, _ := leaves(t, s, 26)
	f, err := OpenFile(t.Context(), s, file)
	if err != nil {
		t.Fatal(err)
	}
	before := s.gets
	f.Seek(12, io.SeekStart)
	if _, err := f.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := s.gets - before; got != 1 {
		t.Errorf("%d blocks read", got)
	}
}

// only answers for one leaf; for the others it waits until nobody wants them any more.
type only struct {
	*gate
	leaf cid.Cid
}

func (o only) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if c == o.leaf {
		return o.Getter.Get(ctx, c)
	}
	return o.gate.Get(ctx, c)
}

type errWriter struct{ err error }

func (w errWriter) Write([]byte) (int, error) { return 0, w.err }

func TestClosingAFileEndsWhatIsFetchedAhead(t *testing.T) {
	s := newTestStore()
	file, parts := leaves(t, s, 26)
	g := &gate{Getter: s, wait: make(chan struct{}), wanted: -1} // answers for no leaf
	f, err := OpenFile(context.Background(), only{g, parts[0]}, file)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	if _, err := io.Copy(errWriter{full}, f); !errors.Is(err, full) {
		t.Fatal(err)
	}
	f.Close() // returns only when every fetch has ended
	if g.now != 0 {
		t.Errorf("%d fetches still run", g.now)
	}
}

func TestACancelledReadEnds(t *testing.T) {
	s := newTestStore()
	file, parts := leaves(t, s, 26)
	g := &gate{Getter: s, wait: make(chan struct{}), wanted: -1}
	ctx, cancel := context.WithCancel(context.Background())
	f, err := OpenFile(ctx, only{g, parts[0]}, file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancelling := writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	for _, want := range []int64{1, 0, 0} { // and ends when it is tried again
		if n, err := io.Copy(cancelling, f); n != want || !errors.Is(err, context.Canceled) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
