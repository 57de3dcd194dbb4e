package merkle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Limits of a release, in bytes or numbers; see docs/formats.md.
const (
	MaxReleaseSize  = 64 << 10
	maxMessage      = 4096
	maxTool         = 128
	maxReleaseParts = 64
	maxReleaseCrit  = 64
	maxReleaseName  = 128
	releaseVersion  = 1
	maxReleaseTime  = 253402300799 // the last second of the year 9999
)

// Release is one published version of a site, as docs/formats.md describes it.
type Release struct {
	Root     cid.Cid
	Number   uint64    // 1 for the first; at most 2^63-1
	Previous cid.Cid   // undefined for the first
	Time     time.Time // whole seconds, UTC
	Message  string    // at most 4096 bytes
	Tool     string    // what wrote it, "holdfast/0.1.0"; at most 128 bytes
	Files    int64
	Bytes    int64              // of file content
	Parts    map[string]cid.Cid // what belongs to the release beside Root; nil where there is nothing
	Crit     []string           // names that a reader must understand or refuse; nil where there are none
}

// releaseFields are the names that this version understands: the ones that crit may hold.
var releaseFields = []string{"version", "root", "number", "previous", "time", "message", "tool", "files", "bytes", "parts", "crit"}

var releasePrefix = cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: mh.SHA2_256, MhLength: -1}

// EncodeRelease makes the release's block. ErrMalformed where a field breaks
// its limit. Time is cut to whole seconds.
func EncodeRelease(r Release) (blockstore.Block, error) {
	if err := r.check(); err != nil {
		return blockstore.Block{}, fmt.Errorf("release: %w: %w", ErrMalformed, err)
	}
	n, err := qp.BuildMap(basicnode.Prototype.Map, 11, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "version", qp.Int(releaseVersion))
		qp.MapEntry(m, "root", qp.Link(cidlink.Link{Cid: r.Root}))
		qp.MapEntry(m, "number", qp.Int(int64(r.Number)))
		if r.Previous.Defined() {
			qp.MapEntry(m, "previous", qp.Link(cidlink.Link{Cid: r.Previous}))
		} else {
			qp.MapEntry(m, "previous", qp.Null())
		}
		qp.MapEntry(m, "time", qp.Int(r.Time.Unix()))
		qp.MapEntry(m, "message", qp.String(r.Message))
		qp.MapEntry(m, "tool", qp.String(r.Tool))
		qp.MapEntry(m, "files", qp.Int(r.Files))
		qp.MapEntry(m, "bytes", qp.Int(r.Bytes))
		qp.MapEntry(m, "parts", qp.Map(int64(len(r.Parts)), func(p datamodel.MapAssembler) {
			for _, name := range slices.Sorted(maps.Keys(r.Parts)) {
				qp.MapEntry(p, name, qp.Link(cidlink.Link{Cid: r.Parts[name]}))
			}
		}))
		qp.MapEntry(m, "crit", qp.List(int64(len(r.Crit)), func(l datamodel.ListAssembler) {
			for _, name := range r.Crit {
				qp.ListEntry(l, qp.String(name))
			}
		}))
	})
	if err != nil {
		return blockstore.Block{}, err
	}
	var buf bytes.Buffer
	if err := dagcbor.Encode(n, &buf); err != nil {
		return blockstore.Block{}, err
	}
	if buf.Len() > MaxReleaseSize {
		return blockstore.Block{}, fmt.Errorf("release: %w: %d bytes are more than %d", ErrMalformed, buf.Len(), MaxReleaseSize)
	}
	return blockstore.NewBlock(releasePrefix, buf.Bytes())
}

// check holds what both sides hold: the writer before it encodes, the reader
// after it has decoded.
func (r Release) check() error {
	if err := blockstore.CheckCID(r.Root); err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if r.Previous.Defined() {
		if err := blockstore.CheckCID(r.Previous); err != nil {
			return fmt.Errorf("previous: %w", err)
		}
	}
	switch t := r.Time.Unix(); {
	case r.Number < 1 || r.Number > 1<<63-1:
		return fmt.Errorf("number %d", r.Number)
	case r.Number == 1 && r.Previous.Defined():
		return errors.New("the first release, with a previous one")
	case t < 0 || t > maxReleaseTime:
		return fmt.Errorf("time %d", t)
	case r.Files < 0 || r.Bytes < 0:
		return errors.New("negative sizes")
	case len(r.Parts) > maxReleaseParts:
		return fmt.Errorf("%d parts", len(r.Parts))
	case len(r.Crit) > maxReleaseCrit:
		return fmt.Errorf("%d critical names", len(r.Crit))
	}
	if err := checkText("message", r.Message, maxMessage); err != nil {
		return err
	}
	if err := checkText("tool", r.Tool, maxTool); err != nil {
		return err
	}
	for name, c := range r.Parts {
		if err := checkText("part", name, maxReleaseName); err != nil {
			return err
		}
		if err := blockstore.CheckCID(c); err != nil {
			return fmt.Errorf("part %q: %w", name, err)
		}
	}
	for _, name := range r.Crit {
		if err := checkText("crit", name, maxReleaseName); err != nil {
			return err
		}
	}
	return nil
}

func checkText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s of %d bytes, over %d", what, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", what)
	}
	return nil
}

// DecodeRelease parses a release's block. Unknown fields are ignored.
// ErrUnsupported for another version, or where crit names what is not known
// here; ErrMalformed where a field is missing, of the wrong type or over its
// limit, or where the bytes are not strict DAG-CBOR.
func DecodeRelease(b blockstore.Block) (Release, error) {
	r, err := decodeRelease(b)
	if err != nil {
		return Release{}, fmt.Errorf("release %s: %w", b.Cid(), err)
	}
	return r, nil
}

func decodeRelease(b blockstore.Block) (Release, error) {
	bad := func(err error) (Release, error) { return Release{}, fmt.Errorf("%w: %w", ErrMalformed, notEOF(err)) }
	if p := b.Cid().Prefix(); p.Version != 1 || p.Codec != cid.DagCBOR || p.MhType != mh.SHA2_256 {
		return bad(errors.New("not a DAG-CBOR block under CIDv1 and SHA2-256"))
	}
	if b.Size() > MaxReleaseSize {
		return bad(fmt.Errorf("%d bytes are more than %d", b.Size(), MaxReleaseSize))
	}
	nb := basicnode.Prototype.Any.NewBuilder()
	opts := dagcbor.DecodeOptions{AllowLinks: true, MaxDepth: 32, AllocationBudget: 16 * MaxReleaseSize}
	if err := opts.Decode(nb, bytes.NewReader(b.RawData())); err != nil {
		return bad(err)
	}
	n := nb.Build()
	var again bytes.Buffer
	if err := dagcbor.Encode(n, &again); err != nil {
		return bad(err)
	}
	if !bytes.Equal(again.Bytes(), b.RawData()) {
		return bad(errors.New("not in the one DAG-CBOR encoding of its data"))
	}
	f := fields{node: n}
	if v := f.int("version"); f.err == nil && v != releaseVersion {
		return Release{}, fmt.Errorf("%w: version %d", ErrUnsupported, v)
	}
	r := Release{
		Root:     f.link("root", false),
		Number:   uint64(f.int("number")),
		Previous: f.link("previous", true),
		Time:     time.Unix(f.int("time"), 0).UTC(),
		Message:  f.string("message"),
		Tool:     f.string("tool"),
		Files:    f.int("files"),
		Bytes:    f.int("bytes"),
		Parts:    f.links("parts"),
		Crit:     f.strings("crit"),
	}
	if f.err == nil {
		f.err = r.check()
	}
	if f.err != nil {
		return bad(f.err)
	}
	for _, name := range r.Crit {
		if !slices.Contains(releaseFields, name) {
			return Release{}, fmt.Errorf("%w: it needs a reader that understands %q", ErrUnsupported, name)
		}
	}
	return r, nil
}

// ReadRelease gets and parses a release. Errors are the Getter's and DecodeRelease's.
func ReadRelease(ctx context.Context, g blockstore.Getter, c cid.Cid) (Release, error) {
	b, err := g.Get(ctx, c)
	if err != nil {
		return Release{}, err
	}
	return DecodeRelease(b)
}

// fields reads a map's fields and remembers the first that is missing or ill-typed.
type fields struct {
	node datamodel.Node
	err  error
}

func (f *fields) get(name string) datamodel.Node {
	if f.err != nil {
		return nil
	}
	n, err := f.node.LookupByString(name)
	if err != nil {
		f.err = fmt.Errorf("no field %q", name)
		return nil
	}
	return n
}

func (f *fields) fail(name string, err error) {
	if f.err == nil && err != nil {
		f.err = fmt.Errorf("field %q: %w", name, err)
	}
}

func (f *fields) int(name string) (v int64) {
	if n := f.get(name); n != nil {
		var err error
		v, err = n.AsInt()
		f.fail(name, err)
	}
	return v
}

func (f *fields) string(name string) (v string) {
	if n := f.get(name); n != nil {
		var err error
		v, err = n.AsString()
		f.fail(name, err)
	}
	return v
}

func (f *fields) link(name string, nullable bool) cid.Cid {
	n := f.get(name)
	if n == nil || nullable && n.IsNull() {
		return cid.Undef
	}
	c, err := asCID(n)
	f.fail(name, err)
	return c
}

func (f *fields) links(name string) map[string]cid.Cid {
	n := f.get(name)
	if n == nil {
		return nil
	}
	it := n.MapIterator()
	if it == nil {
		f.fail(name, errors.New("not a map"))
		return nil
	}
	var out map[string]cid.Cid
	for !it.Done() {
		k, v, err := it.Next()
		if err != nil {
			f.fail(name, err)
			return nil
		}
		key, _ := k.AsString()
		c, err := asCID(v)
		f.fail(name, err)
		if out == nil {
			out = make(map[string]cid.Cid)
		}
		out[key] = c
	}
	return out
}

func (f *fields) strings(name string) (out []string) {
	n := f.get(name)
	if n == nil {
		return nil
	}
	it := n.ListIterator()
	if it == nil {
		f.fail(name, errors.New("not a list"))
		return nil
	}
	for !it.Done() {
		_, v, err := it.Next()
		if err != nil {
			f.fail(name, err)
			return nil
		}
		s, err := v.AsString()
		f.fail(name, err)
		out = append(out, s)
	}
	return out
}

func asCID(n datamodel.Node) (cid.Cid, error) {
	l, err := n.AsLink()
	if err != nil {
		return cid.Undef, err
	}
	return l.(cidlink.Link).Cid, nil
}
