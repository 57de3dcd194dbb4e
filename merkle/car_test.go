package merkle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

func carOf(t testing.TB, s *testStore, root cid.Cid) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := WriteCAR(context.Background(), s, &buf, root, WalkOptions{}); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func readCAR(data []byte) (*testStore, Imported, error) {
	s := newTestStore()
	got, err := ReadCAR(context.Background(), s, bytes.NewReader(data), Limits{})
	return s, got, err
}

func TestACARCarriesAWholeSite(t *testing.T) {
	s := newTestStore()
	built := build(t, s, variedSite(t), BuildOptions{})
	data := carOf(t, s, built.Root)
	into, got, err := readCAR(data)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Roots, []cid.Cid{built.Root}) || got.Count != built.DAG || got.Added.Blocks != built.DAG.Blocks {
		t.Errorf("imported %+v, built %+v", got, built.DAG)
	}
	if r, err := Verify(context.Background(), into, built.Root, WalkOptions{}); err != nil || !r.Whole() || r.Count != built.DAG {
		t.Errorf("verify: %+v, %v", r.Count, err)
	}
	if !bytes.Equal(data, carOf(t, into, built.Root)) {
		t.Error("exported again, it differs")
	}
	if into.puts > 2+int(got.Blocks)/100 {
		t.Errorf("%d puts for %d blocks", into.puts, got.Blocks)
	}
}

func TestAnotherImplementationReadsOurCARAndWeItsCARv2(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", s.raw(t, "a"), 1}, link{"b", s.raw(t, "b"), 1})
	v1 := carOf(t, s, root)
	r, err := carv2.NewBlockReader(bytes.NewReader(v1))
	if err != nil || !slices.Equal(r.Roots, []cid.Cid{root}) {
		t.Fatalf("%v, %v", r, err)
	}
	n := 0
	for {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("it read %d blocks", n)
	}
	path, wrapped := t.TempDir()+"/v1", t.TempDir()+"/v2"
	writeFile(t, path, string(v1))
	if err := carv2.WrapV1File(path, wrapped); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string][]byte{"with its index": data, "padded": wrapV2(v1, 51+1000, uint64(len(v1)), make([]byte, 1000), v1), "and bytes behind": append(slices.Clone(data), "garbage"...)} {
		if _, got, err := readCAR(d); err != nil || got.Blocks != 3 || !slices.Equal(got.Roots, []cid.Cid{root}) {
			t.Errorf("CARv2 %s: %+v, %v", name, got, err)
		}
	}
}

var pragma = []byte("\x0a\xa1\x67version\x02")

// wrapV2 makes a CARv2 with these offsets, true or not.
func wrapV2(_ []byte, offset, size uint64, rest ...[]byte) []byte {
	out := append(slices.Clone(pragma), make([]byte, 16)...)
	out = binary.LittleEndian.AppendUint64(out, offset)
	out = binary.LittleEndian.AppendUint64(out, size)
	out = binary.LittleEndian.AppendUint64(out, 0)
	return append(out, bytes.Join(rest, nil)...)
}

func carHeader(t testing.TB, version int64, roots ...cid.Cid) []byte {
	t.Helper()
	n, err := qp.BuildMap(basicnode.Prototype.Map, 2, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "roots", qp.List(0, func(l datamodel.ListAssembler) {
			for _, r := range roots {
				qp.ListEntry(l, qp.Link(cidlink.Link{Cid: r}))
			}
		}))
		qp.MapEntry(m, "version", qp.Int(version))
	})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := dagcbor.Encode(n, &buf); err != nil {
		t.Fatal(err)
	}
	return section(buf.Bytes())
}

func section(parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

func uvarint(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func TestCARFaultsAreRejectedWithTheirPlaceNamed(t *testing.T) {
	a, b := []byte("aaaa"), []byte("bbbb")
	ca, cb := mustCID(t, rawV1, "aaaa"), mustCID(t, rawV1, "bbbb")
	h := slices.Clip(carHeader(t, 1, ca))
	blockA := section(ca.Bytes(), a)
	weak := mustCID(t, cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.MD5, MhLength: -1}, "aaaa")
	short := mustCID(t, cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: 10}, "aaaa")
	identity := cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.IDENTITY, MhLength: -1}
	large := func(n int) []byte {
		data := bytes.Repeat([]byte("x"), n)
		return section(mustCID(t, rawV1, string(data)).Bytes(), data)
	}
	id := func(n int) []byte {
		return section(mustCID(t, identity, strings.Repeat("i", n)).Bytes(), bytes.Repeat([]byte("i"), n))
	}
	v1 := slices.Clip(append(slices.Clone(h), blockA...))
	manyRoots := slices.Repeat([]cid.Cid{ca}, MaxCARRoots+1)
	none := error(nil)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":                        {nil, ErrMalformed},
		"text":                         {[]byte("<!DOCTYPE html><html>not found</html>"), ErrMalformed},
		"header only":                  {h, ErrMalformed},
		"header only, without roots":   {carHeader(t, 1), none},
		"header only, root in its CID": {carHeader(t, 1, mustCID(t, identity, "i")), none},
		"cut in the header":            {h[:len(h)-1], ErrMalformed},
		"header of 0 bytes":            {append([]byte{0}, blockA...), ErrMalformed},
		"header over its bound":        {append(uvarint(MaxCARHeader+1), make([]byte, MaxCARHeader+1)...), ErrMalformed},
		"header of 32 MiB and a byte":  {append(uvarint(32<<20+1), h...), ErrMalformed},
		"header at its bound":          {append(uvarint(MaxCARHeader), make([]byte, MaxCARHeader)...), ErrMalformed},
		"header: varint of 11 bytes":   {append(append(bytes.Repeat([]byte{0x80}, 10), 1), h...), ErrMalformed},
		"header: varint not minimal":   {append([]byte{h[0] | 0x80, 0}, h[1:]...), ErrMalformed},
		"header claims a huge map":     {section([]byte("\xbb\x00\x00\x01\x00\x00\x00\x00\x00")), ErrMalformed},
		"header claims a huge text":    {section([]byte("\xa1\x7b\x00\x00\x01\x00\x00\x00\x00\x00")), ErrMalformed},
		"header claims 2^62":           {append(uvarint(1<<62), h...), ErrMalformed},
		"header not CBOR":              {section([]byte("hello")), ErrMalformed},
		"header a list":                {section([]byte{0x80}), ErrMalformed},
		"header an empty map":          {section([]byte{0xa0}), ErrMalformed},
		"header nested deep":           {section(append([]byte("\xa2\x65roots"), bytes.Repeat([]byte{0x81}, 100000)...)), ErrMalformed},
		"header claims a huge list":    {section([]byte("\xa2\x65roots\x9b\x00\x00\x01\x00\x00\x00\x00\x00")), ErrMalformed},
		"roots null":                   {section([]byte("\xa2\x65roots\xf6\x67version\x01")), ErrMalformed},
		"roots not links":              {section([]byte("\xa2\x65roots\x81\x01\x67version\x01")), ErrMalformed},
		"roots missing":                {section([]byte("\xa1\x67version\x01")), ErrMalformed},
		"version missing":              {section([]byte("\xa1\x65roots\x80")), ErrMalformed},
		"version text":                 {section([]byte("\xa2\x65roots\x80\x67version\x611")), ErrMalformed},
		"version 0":                    {append(carHeader(t, 0, ca), blockA...), ErrMalformed},
		"version 2 with roots":         {append(carHeader(t, 2, ca), blockA...), ErrMalformed},
		"version -1":                   {append(carHeader(t, -1, ca), blockA...), ErrMalformed},
		"version 3":                    {append(carHeader(t, 3, ca), blockA...), ErrMalformed},
		"no roots":                     {append(carHeader(t, 1), blockA...), none},
		"a root that is absent":        {append(carHeader(t, 1, cb), blockA...), none},
		"as many roots as allowed":     {append(carHeader(t, 1, manyRoots[1:]...), blockA...), none},
		"one root more":                {append(carHeader(t, 1, manyRoots...), blockA...), ErrLimit},
		"10 000 roots":                 {append(carHeader(t, 1, slices.Repeat([]cid.Cid{ca}, 10_000)...), blockA...), ErrLimit},
		"a root of 128 in its CID":     {append(carHeader(t, 1, mustCID(t, identity, strings.Repeat("i", 128))), blockA...), none},
		"a root of 129 in its CID":     {append(carHeader(t, 1, mustCID(t, identity, strings.Repeat("i", 129))), blockA...), blockstore.ErrRefused},
		"a root with a weak hash":      {append(carHeader(t, 1, weak), blockA...), blockstore.ErrRefused},
		"other bytes than the CID's":   {append(v1, section(ca.Bytes(), b)...), blockstore.ErrCorrupt},
		"weak hash":                    {append(v1, section(weak.Bytes(), a)...), blockstore.ErrRefused},
		"short hash":                   {append(v1, section(short.Bytes(), a)...), blockstore.ErrRefused},
		"unknown hash":                 {append(v1, section([]byte("\x01\x55\xb9\xf0\x7a\x04aaaa"), a)...), blockstore.ErrRefused},
		"block of 2 MiB":               {append(v1, large(blockstore.MaxBlockSize)...), none},
		"block of 2 MiB and a byte":    {append(v1, large(blockstore.MaxBlockSize+1)...), blockstore.ErrRefused},
		"block of 2 MiB less a byte":   {append(v1, large(blockstore.MaxBlockSize-1)...), none},
		"section at its bound":         {append(v1, large(blockstore.MaxBlockSize+maxCIDSize-len(ca.Bytes()))...), blockstore.ErrRefused},
		"section over its bound":       {append(v1, large(blockstore.MaxBlockSize+maxCIDSize-len(ca.Bytes())+1)...), ErrMalformed},
		"identity of 127":              {append(v1, id(127)...), none},
		"block of 3 MiB":               {append(v1, large(3<<20)...), ErrMalformed},
		"identity of 128":              {append(v1, id(128)...), none},
		"identity of 129":              {append(v1, id(129)...), blockstore.ErrRefused},
		"identity with other content":  {append(v1, section(mustCID(t, identity, "ii").Bytes(), []byte("ij"))...), blockstore.ErrCorrupt},
		"cut in a block":               {v1[:len(v1)-1], ErrMalformed},
		"cut after a CID":              {v1[:len(v1)-4], ErrMalformed},
		"cut after a section's length": {append(slices.Clone(h), uvarint(40)...), ErrMalformed},
		"cut in a section's length":    {append(slices.Clone(h), 0x80), ErrMalformed},
		"section claims 2^62":          {append(slices.Clone(h), uvarint(1<<62)...), ErrMalformed},
		"section claims 2^64-1":        {append(slices.Clone(h), uvarint(math.MaxUint64)...), ErrMalformed},
		"section claims 4 GiB":         {append(append(slices.Clone(h), uvarint(4<<30)...), a...), ErrMalformed},
		"section of 0":                 {append(v1, 0), ErrMalformed},
		"section shorter than its CID": {append(v1, section(ca.Bytes()[:20])...), ErrMalformed},
		"section without a CID":        {append(v1, section([]byte("zzzz"))...), ErrMalformed},
		"varint of 11 bytes":           {append(v1, append(bytes.Repeat([]byte{0x80}, 10), 1)...), ErrMalformed},
		"varint not minimal":           {append(append(slices.Clone(h), blockA[0]|0x80, 0), blockA[1:]...), ErrMalformed},
		"v2: cut in its header":        {wrapV2(v1, 51, uint64(len(v1)))[:40], ErrMalformed},
		"v2: offset inside the header": {wrapV2(v1, 50, uint64(len(v1)), v1), ErrMalformed},
		"v2: offset 0":                 {wrapV2(v1, 0, uint64(len(v1)), v1), ErrMalformed},
		"v2: offset past the end":      {wrapV2(v1, 5000, uint64(len(v1)), v1), ErrMalformed},
		"v2: offset 2^64-1":            {wrapV2(v1, math.MaxUint64, uint64(len(v1)), v1), ErrMalformed},
		"v2: offset 2^40":              {wrapV2(v1, 1<<40, uint64(len(v1)), v1), ErrMalformed},
		"v2: size past the end":        {wrapV2(v1, 51, uint64(len(v1))+1, v1), ErrMalformed},
		"v2: size one short":           {wrapV2(v1, 51, uint64(len(v1))-1, v1), ErrMalformed},
		"v2: size 2^64-1":              {wrapV2(v1, 51, math.MaxUint64, v1), ErrMalformed},
		"v2: offset and size overflow": {wrapV2(v1, 51, math.MaxInt64-10, v1), ErrMalformed},
		"v2: size 0":                   {wrapV2(v1, 51, 0, v1), ErrMalformed},
		"v2: size within the header":   {wrapV2(v1, 51, 5, v1), ErrMalformed},
		"v2: a CARv2 inside":           {wrapV2(v1, 51, uint64(51+len(v1)), wrapV2(v1, 51, uint64(len(v1)), v1)), ErrMalformed},
		"v2: nothing inside":           {wrapV2(v1, 51, 100), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s, got, err := readCAR(c.data)
			if !errors.Is(err, c.want) {
				t.Fatalf("%+v, %v", got, err)
			}
			if err != nil && !strings.Contains(err.Error(), "at byte ") {
				t.Errorf("the place is not named: %v", err)
			}
			if _, err := s.Get(context.Background(), cb); !errors.Is(err, blockstore.ErrNotFound) {
				t.Error("a block is there that the CAR did not hold")
			}
		})
	}
}

func TestCARFaultsOfTheDAGLeaveWhatIsThereAndNameWhatIsMissing(t *testing.T) {
	s := newTestStore()
	here, gone := s.raw(t, "here"), mustCID(t, rawV1, "gone")
	root := s.folder(t, link{"gone", gone, 4}, link{"here", here, 4})
	data := carHeader(t, 1, root)
	for _, c := range []cid.Cid{root, here} {
		b, _ := s.Get(context.Background(), c)
		data = append(data, section(c.Bytes(), b.RawData())...)
	}
	into, got, err := readCAR(data)
	if err != nil || got.Blocks != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	r, err := Verify(context.Background(), into, root, WalkOptions{})
	if err != nil || r.Blocks != 2 || !slices.Equal(r.Missing, []cid.Cid{gone}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestCARFaultsAHundredTimesCutAtHalfGiveTheSpaceBack(t *testing.T) {
	ctx, store := context.Background(), blockstore.NewMemory()
	defer store.Close()
	s := newTestStore()
	data := carOf(t, s, build(t, s, numbered(t, 20), BuildOptions{}).Root)
	for range 100 {
		session, err := store.Begin(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCAR(ctx, session, bytes.NewReader(data[:len(data)/2]), Limits{}); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		session.Close()
	}
	if _, err := store.Collect(ctx, blockstore.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	left, err := collect(store.Enumerate(ctx, ""))
	kept, keptErr := store.Kept(ctx, "")
	if len(left) > 0 || len(kept) > 0 || err != nil || keptErr != nil {
		t.Errorf("%d blocks left, %d roots, %v, %v", len(left), len(kept), err, keptErr)
	}
}

func TestCARFaultsAllocateNothing(t *testing.T) {
	h := carHeader(t, 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		readCAR(append(slices.Clone(h), uvarint(4<<30)...))
		readCAR(uvarint(1 << 60))
	}
	runtime.ReadMemStats(&after)
	// A reader's own buffers are 256 KiB each.
	if per := (after.TotalAlloc - before.TotalAlloc) / 2000; per > 1<<20 {
		t.Errorf("%d bytes for each", per)
	}
}

func TestWhatCameBeforeAnErrorIsInTheSession(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", s.raw(t, "a"), 1})
	data := carOf(t, s, root)
	into, _, err := readCAR(data[:len(data)-1])
	if err == nil {
		t.Fatal("accepted")
	}
	if _, err := into.Get(context.Background(), root); err != nil {
		t.Errorf("the first block: %v", err)
	}
}

func TestACARIsReadWhateverPiecesItComesIn(t *testing.T) {
	s := newTestStore()
	built := build(t, s, tree(t, map[string]string{"a": "a", "b": strings.Repeat("b", 3<<20)}), BuildOptions{})
	data := carOf(t, s, built.Root)
	got, err := ReadCAR(context.Background(), newTestStore(), iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(data))), Limits{})
	if err != nil || got.Count != built.DAG {
		t.Errorf("%+v, %v", got, err)
	}
	broken := errors.New("the line went dead")
	_, err = ReadCAR(context.Background(), newTestStore(), io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)), Limits{})
	if !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
		t.Errorf("a failing reader: %v", err)
	}
}

func TestReadCARStopsAtItsLimits(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", s.raw(t, "a"), 1}, link{"b", s.raw(t, "b"), 1})
	data := carOf(t, s, root)
	for _, c := range []struct {
		limits Limits
		want   error
	}{{Limits{MaxBlocks: 3}, nil}, {Limits{MaxBlocks: 2}, ErrLimit}, {Limits{MaxBytes: 1000}, nil}, {Limits{MaxBytes: 100}, ErrLimit}} {
		if _, err := ReadCAR(context.Background(), newTestStore(), bytes.NewReader(data), c.limits); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.limits, err)
		}
	}
}

func TestReadCARPassesOnWhatTheStoreSays(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", s.raw(t, "a"), 1})
	into := newTestStore()
	into.putErr = blockstore.ErrUnavailable
	if _, err := ReadCAR(context.Background(), into, bytes.NewReader(carOf(t, s, root)), Limits{}); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestACARWithAHoleIsNotWrittenToACleanEnd(t *testing.T) {
	s := newTestStore()
	root := s.folder(t, link{"a", mustCID(t, rawV1, "gone"), 1})
	if _, err := WriteCAR(context.Background(), s, io.Discard, root, WalkOptions{}); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAnExportOfFewBlocksThatStandForManyPathsIsSmall(t *testing.T) {
	s := newTestStore()
	for _, root := range []cid.Cid{doubling(t, s, 31, s.raw(t, "leaf")), tebibyte(t, s)} {
		if data := carOf(t, s, root); len(data) > 10000 {
			t.Errorf("%d bytes", len(data))
		}
	}
}

func FuzzReadCAR(f *testing.F) {
	s := newTestStore()
	root := s.folder(f, link{"a", s.raw(f, "a"), 1})
	v1 := carOf(f, s, root)
	f.Add(v1)
	f.Add(wrapV2(v1, 51, uint64(len(v1)), v1))
	f.Add(carHeader(f, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, got, err := readCAR(data)
		if err == nil && got.Blocks < int64(len(s.order)) {
			t.Errorf("%d blocks stored, %d counted", len(s.order), got.Blocks)
		}
		for _, c := range s.order {
			b, _ := s.Get(context.Background(), c)
			if _, err := blockstore.CheckBlock(c, b.RawData()); err != nil {
				t.Errorf("stored unchecked: %v", err)
			}
		}
		if err != nil && errors.Is(err, io.EOF) {
			t.Errorf("looks like a clean end: %v", fmt.Sprint(err))
		}
	})
}
