package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/maypok86/otter/v2"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// Paths walks paths as Resolve does, and keeps the folders that it decodes on
// the way: what a CID names never changes, so nothing that is kept is ever out
// of date. It is safe for concurrent use.
type Paths struct {
	get  blockstore.Getter
	kept *otter.Cache[cid.Cid, keptFolder]
}

// keptFolder is a folder, or a shard of one, that is ready for many look-ups.
type keptFolder struct {
	*fsNode
	names map[string]int // of a plain folder: the link of each name; twice where it stands twice
	text  string         // its CID
}

// twice marks a name that a folder has more than once.
const twice = -1

// linkWeight is what a decoded link takes beside its name, in bytes: the link,
// its CID, and its place in the map of names.
const linkWeight = 240

// NewPaths reads from g and keeps about most bytes of decoded folders.
func NewPaths(g blockstore.Getter, most int64) *Paths {
	return &Paths{get: g, kept: otter.Must(&otter.Options[cid.Cid, keptFolder]{
		MaximumWeight: uint64(max(most, 1)),
		Weigher:       func(_ cid.Cid, f keptFolder) uint32 { return f.weight() },
		Executor:      func(work func()) { work() }, // no goroutine that nobody owns
	})}
}

// Kept is how many bytes of folders are kept, about.
func (p *Paths) Kept() uint64 { return p.kept.WeightedSize() }

// Forget drops all that is kept.
func (p *Paths) Forget() { p.kept.InvalidateAll() }

func (f keptFolder) weight() uint32 {
	n := linkWeight
	for _, l := range f.links {
		n += linkWeight + len(l.Name)
	}
	return uint32(n)
}

// Place is what a path leads to.
type Place struct {
	// CIDs are that of the root and of what each part of the path leads to, in
	// order. Nobody may change them.
	CIDs  []cid.Cid
	above string     // the CIDs of the folders on the way, each with a comma behind it
	node  keptFolder // of nothing until it was opened
}

// Walk walks path from root as Resolve does, with the same errors. What the
// path leads to is not read yet.
func (p *Paths) Walk(ctx context.Context, root cid.Cid, path string) (Place, error) {
	var above strings.Builder
	above.Grow(trailGrow * (1 + strings.Count(path, "/")))
	at := Place{CIDs: make([]cid.Cid, 1, 2+strings.Count(path, "/"))}
	at.CIDs[0] = root
	walked := ""
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		f, err := p.open(ctx, at.CID())
		if err != nil {
			return Place{}, &PathError{Path: walked, CID: at.CID(), Err: err}
		}
		above.WriteString(f.name())
		above.WriteByte(',')
		walked = join(walked, name)
		c, err := p.entry(ctx, f, name)
		if err != nil {
			return Place{}, &PathError{Path: walked, CID: at.CID(), Err: err}
		}
		at.CIDs = append(at.CIDs, c)
	}
	at.above = above.String()
	return at, nil
}

// trailGrow is about what one CID takes in a trail, in bytes.
const trailGrow = 64

// Open reads what the path led to, so that the place can be asked about it. Errors
// are the Getter's, ErrMalformed, and ErrUnsupported where it is no UnixFS.
func (p *Paths) Open(ctx context.Context, at Place) (Place, error) {
	f, err := p.open(ctx, at.CID())
	at.node = f
	return at, err
}

// open is a decoded node, kept where it is a folder.
func (p *Paths) open(ctx context.Context, c cid.Cid) (keptFolder, error) {
	if f, ok := p.kept.GetIfPresent(c); ok {
		return f, nil
	}
	n, err := getNode(ctx, p.get, c)
	if err != nil || !n.isFolder() {
		return keptFolder{fsNode: n}, err
	}
	f := keptFolder{fsNode: n, text: c.String()}
	if n.kind == kindFolder {
		f.names = make(map[string]int, len(n.links))
		for i, l := range n.links {
			if _, ok := f.names[l.Name]; ok {
				i = twice
			}
			f.names[l.Name] = i
		}
	}
	p.kept.Set(c, f)
	return f, nil
}

// shard is open for whoever looks a name up in a sharded folder.
func (p *Paths) shard(ctx context.Context, c cid.Cid) (*fsNode, error) {
	f, err := p.open(ctx, c)
	return f.fsNode, err
}

// entry is what name leads to in the folder f.
func (p *Paths) entry(ctx context.Context, f keptFolder, name string) (cid.Cid, error) {
	if f.names == nil {
		e, err := f.lookup(ctx, p.shard, name)
		return e.cid, err
	}
	switch i, ok := f.names[name]; {
	case !ok:
		return cid.Undef, ErrNoPath
	case i == twice:
		return cid.Undef, malformed(f.cid, fmt.Errorf("the name %q stands twice", name))
	default:
		return f.links[i].Cid, nil
	}
}

// name is the CID as text.
func (f keptFolder) name() string {
	if f.text == "" {
		return f.cid.String()
	}
	return f.text
}

// CID of the place.
func (p Place) CID() cid.Cid { return p.CIDs[len(p.CIDs)-1] }

// Trail is the CIDs of the root and of what each part of the path leads to, in
// order, as text with commas between. The place has to be open.
func (p Place) Trail() string { return p.above + p.node.name() }

// Block is the content of a file that is one block, which has been read with the place; nil of
// a larger file. Nobody may change the bytes.
func (p Place) Block() []byte {
	if !p.IsFile() || len(p.node.links) > 0 {
		return nil
	}
	return p.node.data
}

// IsFile tells whether there is a file. Of a place that was not opened nothing but the CIDs may be asked.
func (p Place) IsFile() bool { return p.node.kind == kindFile }

// IsFolder tells whether there is a folder, sharded or not.
func (p Place) IsFolder() bool { return p.node.isFolder() }

// Size is how many bytes a file says it has; 0 for anything else.
func (p Place) Size() int64 {
	if !p.IsFile() {
		return 0
	}
	return p.node.size
}

// ModTime is when the author last changed it; zero where the node doesn't say.
func (p Place) ModTime() time.Time { return p.node.mtime }

// Head is how a file begins: at most most bytes, and no more than is in its first
// leaf, the only one that is read. Errors are those of the reader of OpenFile.
func (p Place) Head(ctx context.Context, g blockstore.Getter, most int) ([]byte, error) {
	if p.Size() == 0 {
		return nil, nil
	}
	r := &fileReader{ctx: ctx, get: g, root: p.node.fsNode, end: 1}
	defer r.Close()
	data, err := r.leaf()
	return data[:min(len(data), most)], err
}

// WriteRange writes the bytes of a file from one offset up to another, each leaf
// with one Write, and returns how many were written. What is read ahead lies before to, and is
// dropped when WriteRange returns. Errors are those of the reader of OpenFile.
func (p Place) WriteRange(ctx context.Context, g blockstore.Getter, w io.Writer, from, to int64) (total int64, err error) {
	if !p.IsFile() {
		return 0, fmt.Errorf("%s: %w: not a file", p.CID(), ErrNoPath)
	}
	if from < 0 || to > p.Size() {
		return 0, errors.New("a range beyond the file")
	}
	r := &fileReader{ctx: ctx, get: g, root: p.node.fsNode, off: from, end: to}
	defer r.Close()
	if from == 0 {
		r.window = 2 // who seeks often leaves soon; either way it grows step by step, so that the first block shares the way with few
	}
	for r.off < to {
		data, err := r.leaf()
		if err != nil {
			return total, err
		}
		data = data[:min(int64(len(data)), to-r.off)]
		n, err := w.Write(data)
		total += int64(n)
		r.off += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
