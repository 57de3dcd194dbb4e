package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"

	"github.com/holdfast-sites/holdfast/blockstore"
)

func sampleRelease(t testing.TB) Release {
	return Release{
		Root:     mustCID(t, pbV1, "root"),
		Number:   7,
		Previous: mustCID(t, releasePrefix, "previous"),
		Time:     time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
		Message:  "Zweite Fassung 🪸",
		Tool:     "holdfast/0.1.0",
		Files:    1065,
		Bytes:    67_000_000,
		Parts:    map[string]cid.Cid{"search": mustCID(t, rawV1, "search"), "a": mustCID(t, rawV1, "a")},
		Crit:     []string{"root"},
	}
}

// The bytes of version 1: docs/formats.md. A change that breaks this is a new version.
func TestReleaseFormatIsTheGoldenOne(t *testing.T) {
	const golden = "testdata/release-v1.cbor"
	const goldenCID = "bafyreibir6dfrzlbbpeowcu23gfebc5daux3pcd4ar45d633ecb5tofaiq"
	b, err := EncodeRelease(sampleRelease(t))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, b.RawData(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.RawData(), want) || b.Cid().String() != goldenCID {
		t.Errorf("%s: %x", b.Cid(), b.RawData())
	}
	blk, err := blockstore.NewBlock(releasePrefix, want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRelease(blk)
	if err != nil || !reflect.DeepEqual(got, sampleRelease(t)) {
		t.Errorf("decoded %+v, %v", got, err)
	}
}

func TestTheFirstReleaseComesBackAsItWas(t *testing.T) {
	s := newTestStore()
	want := Release{Root: mustCID(t, pbV1, "root"), Number: 1, Time: time.Unix(0, 0).UTC()}
	b, err := EncodeRelease(want)
	if err != nil {
		t.Fatal(err)
	}
	s.Put(context.Background(), b)
	got, err := ReadRelease(context.Background(), s, b.Cid())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ReadRelease(context.Background(), s, mustCID(t, releasePrefix, "absent")); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("an absent one: %v", err)
	}
}

func TestAReleaseHoldsItsLimitsOnBothSides(t *testing.T) {
	parts := func(n int) map[string]cid.Cid {
		out := make(map[string]cid.Cid)
		for i := range n {
			out[fmt.Sprint("part", i)] = mustCID(t, rawV1, "x")
		}
		return out
	}
	for name, c := range map[string]struct {
		change func(*Release)
		ok     bool
	}{
		"message at its limit":    {func(r *Release) { r.Message = strings.Repeat("x", 4096) }, true},
		"message above":           {func(r *Release) { r.Message = strings.Repeat("x", 4097) }, false},
		"message not UTF-8":       {func(r *Release) { r.Message = "\xff" }, false},
		"tool at its limit":       {func(r *Release) { r.Tool = strings.Repeat("x", 128) }, true},
		"tool above":              {func(r *Release) { r.Tool = strings.Repeat("x", 129) }, false},
		"64 parts":                {func(r *Release) { r.Parts = parts(64) }, true},
		"65 parts":                {func(r *Release) { r.Parts = parts(65) }, false},
		"part name above":         {func(r *Release) { r.Parts = map[string]cid.Cid{strings.Repeat("x", 129): r.Root} }, false},
		"part undefined":          {func(r *Release) { r.Parts = map[string]cid.Cid{"a": {}} }, false},
		"65 critical names":       {func(r *Release) { r.Crit = strings.Split(strings.Repeat("root,", 64)+"root", ",") }, false},
		"no root":                 {func(r *Release) { r.Root = cid.Undef }, false},
		"number 0":                {func(r *Release) { r.Number = 0 }, false},
		"number 2^63-1":           {func(r *Release) { r.Number = 1<<63 - 1 }, true},
		"number 2^63":             {func(r *Release) { r.Number = 1 << 63 }, false},
		"first with a previous":   {func(r *Release) { r.Number = 1 }, false},
		"before 1970":             {func(r *Release) { r.Time = time.Unix(-1, 0) }, false},
		"no time":                 {func(r *Release) { r.Time = time.Time{} }, false},
		"year 9999":               {func(r *Release) { r.Time = time.Unix(253402300799, 0) }, true},
		"year 10000":              {func(r *Release) { r.Time = time.Unix(253402300800, 0) }, false},
		"negative number of file": {func(r *Release) { r.Files = -1 }, false},
		"negative bytes":          {func(r *Release) { r.Bytes = -1 }, false},
	} {
		r := sampleRelease(t)
		c.change(&r)
		b, err := EncodeRelease(r)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got, err := DecodeRelease(b); err != nil || got.Number != r.Number {
			t.Errorf("%s: decoding: %v", name, err)
		}
	}
}

// remade is the sample release's block with fields changed (nil: taken out).
func remade(t testing.TB, change map[string]any) blockstore.Block {
	t.Helper()
	b, err := EncodeRelease(sampleRelease(t))
	if err != nil {
		t.Fatal(err)
	}
	nb := basicnode.Prototype.Map.NewBuilder()
	if err := dagcbor.Decode(nb, bytes.NewReader(b.RawData())); err != nil {
		t.Fatal(err)
	}
	out := basicnode.Prototype.Map.NewBuilder()
	ma, _ := out.BeginMap(0)
	put := func(key string, n datamodel.Node) {
		ma.AssembleKey().AssignString(key)
		ma.AssembleValue().AssignNode(n)
	}
	for it := nb.Build().MapIterator(); !it.Done(); {
		k, v, _ := it.Next()
		key, _ := k.AsString()
		if _, changed := change[key]; !changed {
			put(key, v)
		}
	}
	for key, v := range change {
		switch v := v.(type) {
		case int:
			put(key, basicnode.NewInt(int64(v)))
		case uint64:
			put(key, basicnode.NewUint(v))
		case string:
			put(key, basicnode.NewString(v))
		case float64:
			put(key, basicnode.NewFloat(v))
		case cid.Cid:
			put(key, basicnode.NewLink(cidlink.Link{Cid: v}))
		case []string:
			lb := basicnode.Prototype.List.NewBuilder()
			la, _ := lb.BeginList(0)
			for _, s := range v {
				la.AssembleValue().AssignString(s)
			}
			la.Finish()
			put(key, lb.Build())
		}
	}
	ma.Finish()
	var buf bytes.Buffer
	if err := dagcbor.Encode(out.Build(), &buf); err != nil {
		t.Fatal(err)
	}
	blk, err := blockstore.NewBlock(releasePrefix, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return blk
}

func TestDecodeReleaseAcceptsWhatItMayAndRefusesTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		change map[string]any
		want   error
	}{
		"an unknown field":              {map[string]any{"later": "x"}, nil},
		"an unknown field of bytes":     {map[string]any{"zzz": 1.5}, nil},
		"an unknown critical field":     {map[string]any{"later": "x", "crit": []string{"later"}}, ErrUnsupported},
		"an unknown critical part":      {map[string]any{"crit": []string{"search"}}, ErrUnsupported},
		"a known critical field":        {map[string]any{"crit": []string{"root", "parts"}}, nil},
		"version 2":                     {map[string]any{"version": 2}, ErrUnsupported},
		"version 2 with other fields":   {map[string]any{"version": 2, "root": nil}, ErrUnsupported},
		"version 0":                     {map[string]any{"version": 0}, ErrUnsupported},
		"no version":                    {map[string]any{"version": nil}, ErrMalformed},
		"version text":                  {map[string]any{"version": "1"}, ErrMalformed},
		"no root":                       {map[string]any{"root": nil}, ErrMalformed},
		"root text":                     {map[string]any{"root": "bafkqaaa"}, ErrMalformed},
		"no previous":                   {map[string]any{"previous": nil}, ErrMalformed},
		"previous text":                 {map[string]any{"previous": ""}, ErrMalformed},
		"number float":                  {map[string]any{"number": 7.0}, ErrMalformed},
		"number 2^63":                   {map[string]any{"number": uint64(1 << 63)}, ErrMalformed},
		"number negative":               {map[string]any{"number": -1}, ErrMalformed},
		"no message":                    {map[string]any{"message": nil}, ErrMalformed},
		"message too long":              {map[string]any{"message": strings.Repeat("x", 4097)}, ErrMalformed},
		"message not UTF-8":             {map[string]any{"message": "\xff"}, ErrMalformed},
		"files text":                    {map[string]any{"files": "7"}, ErrMalformed},
		"parts a list":                  {map[string]any{"parts": []string{"a"}}, ErrMalformed},
		"crit text":                     {map[string]any{"crit": "root"}, ErrMalformed},
		"no crit":                       {map[string]any{"crit": nil}, ErrMalformed},
		"time negative":                 {map[string]any{"time": -1}, ErrMalformed},
		"over 64 KiB by unknown fields": {map[string]any{"later": strings.Repeat("x", 64<<10)}, ErrMalformed},
	} {
		if _, err := DecodeRelease(remade(t, c.change)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, err := EncodeRelease(sampleRelease(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":                 {},
		"null":                  {0xf6},
		"a list":                {0x80},
		"bytes behind it":       append(bytes.Clone(good.RawData()), 0),
		"cut":                   good.RawData()[:good.Size()-1],
		"a longer length":       append([]byte{0xb8, good.RawData()[0] & 0x1f}, good.RawData()[1:]...),
		"indefinite length":     append(append([]byte{0xbf}, good.RawData()[1:]...), 0xff),
		"a million deep":        bytes.Repeat([]byte{0x81}, 60000),
		"keys in another order": swapFirstKeys(good.RawData()),
	} {
		blk, err := blockstore.NewBlock(releasePrefix, b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRelease(blk); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	raw, err := blockstore.NewBlock(rawV1, bytes.Clone(good.RawData()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeRelease(raw); !errors.Is(err, ErrMalformed) {
		t.Errorf("under another codec: %v", err)
	}
}

// swapFirstKeys exchanges the first two entries, "crit" and "root" or "time"…: keys of four letters.
func swapFirstKeys(data []byte) []byte {
	first := bytes.Index(data, []byte("\x64crit"))
	second := bytes.Index(data, []byte("\x64root"))
	third := bytes.Index(data, []byte("\x64time"))
	var out []byte
	out = append(out, data[:first]...)
	out = append(out, data[second:third]...)
	out = append(out, data[first:second]...)
	return append(out, data[third:]...)
}

func FuzzDecodeRelease(f *testing.F) {
	f.Add(remade(f, nil).RawData())
	f.Add(remade(f, map[string]any{"later": "x", "parts": nil}).RawData())
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := blockstore.NewBlock(releasePrefix, data)
		if err != nil {
			return
		}
		r, err := DecodeRelease(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("no kind: %v", err)
			}
			return
		}
		again, err := EncodeRelease(r)
		if err != nil {
			t.Fatalf("accepted, but can't be written: %v", err)
		}
		if len(again.RawData()) > len(data) {
			t.Error("written again, it grew")
		}
	})
}
