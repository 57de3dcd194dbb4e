package replicate

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"

	"github.com/holdfast-sites/holdfast/merkle"
)

// maxMessage is the largest policy, audit message or host description, in bytes.
const maxMessage = 64 << 10

// formatVersion is the version of every format of this package.
const formatVersion = 1

// maxCrit bounds a crit list, maxName one entry of it.
const (
	maxCrit = 64
	maxName = 128
)

// encodeMap writes a map in strict DAG-CBOR.
func encodeMap(fill func(datamodel.MapAssembler)) ([]byte, error) {
	n, err := qp.BuildMap(basicnode.Prototype.Map, -1, fill)
	if err != nil {
		return nil, err
	}
	return encodeNode(n)
}

func encodeNode(n datamodel.Node) ([]byte, error) {
	var buf bytes.Buffer
	if err := dagcbor.Encode(n, &buf); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// decodeMap reads a map of at most limit bytes in strict DAG-CBOR. That the
// encoding is the only one is known by encoding it again, which also refuses
// unsorted and repeated keys. ErrMalformed.
func decodeMap(raw []byte, limit int) (datamodel.Node, error) {
	if len(raw) > limit {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", merkle.ErrMalformed, len(raw), limit)
	}
	nb := basicnode.Prototype.Map.NewBuilder()
	opts := dagcbor.DecodeOptions{AllowLinks: true, AllocationBudget: 1 << 20, MaxDepth: 32}
	if err := opts.Decode(nb, bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	n := nb.Build()
	again, err := encodeNode(n)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if !bytes.Equal(raw, again) {
		return nil, fmt.Errorf("%w: not in canonical DAG-CBOR", merkle.ErrMalformed)
	}
	return n, nil
}

// mapReader takes typed fields out of a map. The first error sticks and later
// reads give zero values, so that a decoder reads like its schema.
type mapReader struct {
	node datamodel.Node
	err  error
}

// readObject checks what all of our formats share: the version, and that
// every name in crit (which may be absent) is among the known fields.
func readObject(n datamodel.Node, known []string) *mapReader {
	r := &mapReader{node: n}
	version, err := r.field("version").AsInt()
	if err != nil {
		r.fail("version", err)
		return r
	}
	if version != formatVersion {
		r.err = unknownVersion(version)
		return r
	}
	if _, err := n.LookupByString("crit"); err != nil {
		return r
	}
	crit := r.texts("crit", maxCrit, maxName)
	if r.err == nil {
		r.err = checkCrit(crit, known)
	}
	return r
}

func unknownVersion(v int64) error {
	return fmt.Errorf("%w: version %d; this program knows version %d", merkle.ErrUnsupported, v, formatVersion)
}

// checkCrit refuses names that this program does not understand.
func checkCrit(crit, known []string) error {
	for _, name := range crit {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%w: the critical field %q is not known here", merkle.ErrUnsupported, name)
		}
	}
	return nil
}

func (r *mapReader) fail(field string, why any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: field %q: %v", merkle.ErrMalformed, field, why)
	}
}

// field is never nil: a missing one is the null node, which is of no kind
// that a caller accepts unless it asks for null.
func (r *mapReader) field(name string) datamodel.Node {
	n, err := r.node.LookupByString(name)
	if err != nil {
		r.fail(name, "absent")
		return datamodel.Null
	}
	return n
}

// has tells whether an optional field is there.
func (r *mapReader) has(name string) bool {
	_, err := r.node.LookupByString(name)
	return err == nil
}

func (r *mapReader) integer(name string, low, high int64) int64 {
	v, err := r.field(name).AsInt()
	if err != nil {
		r.fail(name, err)
		return 0
	}
	if v < low || v > high {
		r.fail(name, fmt.Sprintf("%d is not within %d..%d", v, low, high))
		return 0
	}
	return v
}

func (r *mapReader) text(name string, limit int) string {
	return r.asText(name, r.field(name), limit)
}

func (r *mapReader) asText(name string, n datamodel.Node, limit int) string {
	s, err := n.AsString()
	switch {
	case err != nil:
		r.fail(name, err)
	case len(s) > limit:
		r.fail(name, fmt.Sprintf("%d bytes, more than %d", len(s), limit))
	case !utf8.ValidString(s):
		r.fail(name, "not UTF-8")
	default:
		return s
	}
	return ""
}

func (r *mapReader) texts(name string, count int64, limit int) []string {
	var all []string
	for _, n := range r.list(name, 0, count) {
		all = append(all, r.asText(name, n, limit))
	}
	return all
}

func (r *mapReader) list(name string, low, high int64) []datamodel.Node {
	n := r.field(name)
	if n.Kind() != datamodel.Kind_List {
		r.fail(name, "not a list")
		return nil
	}
	if n.Length() < low || n.Length() > high {
		r.fail(name, fmt.Sprintf("%d entries, not %d..%d", n.Length(), low, high))
		return nil
	}
	var all []datamodel.Node
	for it := n.ListIterator(); !it.Done(); {
		_, v, err := it.Next()
		if err != nil {
			r.fail(name, err)
			return nil
		}
		all = append(all, v)
	}
	return all
}

func (r *mapReader) textMap(name string, count int64, limit int) map[string]string {
	n := r.field(name)
	if n.Kind() != datamodel.Kind_Map {
		r.fail(name, "not a map")
		return nil
	}
	if n.Length() > count {
		r.fail(name, fmt.Sprintf("%d entries, more than %d", n.Length(), count))
		return nil
	}
	if n.Length() == 0 {
		return nil
	}
	all := make(map[string]string, n.Length())
	for it := n.MapIterator(); !it.Done(); {
		k, v, err := it.Next()
		if err != nil {
			r.fail(name, err)
			return nil
		}
		all[r.asText(name, k, limit)] = r.asText(name, v, limit)
	}
	return all
}

// bytes accepts exactly one of the given lengths.
func (r *mapReader) bytes(name string, lengths ...int) []byte {
	b, err := r.field(name).AsBytes()
	if err != nil {
		r.fail(name, err)
		return nil
	}
	if !slices.Contains(lengths, len(b)) {
		r.fail(name, fmt.Sprintf("%d bytes", len(b)))
		return nil
	}
	return b
}

// bytesUpTo accepts any length up to limit.
func (r *mapReader) bytesUpTo(name string, limit int) []byte {
	b, err := r.field(name).AsBytes()
	if err != nil {
		r.fail(name, err)
		return nil
	}
	if len(b) > limit {
		r.fail(name, fmt.Sprintf("%d bytes, more than %d", len(b), limit))
		return nil
	}
	return b
}

func (r *mapReader) asLink(name string, n datamodel.Node) cid.Cid {
	l, err := n.AsLink()
	if err != nil {
		r.fail(name, err)
		return cid.Undef
	}
	cl, ok := l.(cidlink.Link)
	if !ok || !cl.Cid.Defined() {
		r.fail(name, "not a CID")
		return cid.Undef
	}
	return cl.Cid
}

// putTexts adds a list of strings to a map under construction.
func putTexts(ma datamodel.MapAssembler, name string, all []string) {
	qp.MapEntry(ma, name, qp.List(int64(len(all)), func(la datamodel.ListAssembler) {
		for _, s := range all {
			qp.ListEntry(la, qp.String(s))
		}
	}))
}
