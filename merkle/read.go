package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// fileAhead is how many parts of a file are asked for before their turn.
const fileAhead = 8

// OpenFile reads the UnixFS file c. The reader fetches with ctx, which must
// live as long as the reader is used. It never returns bytes that the file does
// not have, nor a clean end before the size that its root declares: where the
// parts disagree, a read fails with ErrMalformed. ErrNoPath where c is a folder or symlink.
//
// The reader also implements io.WriterTo; it is for one goroutine. What is read
// in sequence is fetched ahead, at once by WriteTo and step by step by Read, so
// that it holds at most nine leaves (of 2 MiB at most). The caller closes it.
func OpenFile(ctx context.Context, g blockstore.Getter, c cid.Cid) (io.ReadSeekCloser, error) {
	n, err := getNode(ctx, g, c)
	if err != nil {
		return nil, err
	}
	if n.kind != kindFile {
		return nil, fmt.Errorf("%s: %w: not a file", c, ErrNoPath)
	}
	return &fileReader{ctx: ctx, get: g, root: n}, nil
}

// fileReader keeps the nodes from the root to the current leaf.
type fileReader struct {
	ctx  context.Context // io.Reader leaves no other way
	get  blockstore.Getter
	root *fsNode
	off  int64
	end  int64 // nothing from here on is asked for ahead; 0: all may be
	path []filePart

	ahead  *readAhead // nil until something is asked for
	window int        // parts to ask for ahead; grows as the reading goes on
	asked  int        // and not taken, in all of path
}

// filePart is a node on the way to the current leaf. Its content begins at
// start; its link next begins at reached.
type filePart struct {
	*fsNode
	start   int64
	next    int
	reached int64
	ahead   []aheadLink // of links behind next, in order
	asked   int         // the link to ask for next
	askedAt int64       // where its content begins
}

type aheadLink struct {
	link int
	*fetch
}

var errClosed = errors.New("file reader is closed")

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	data, err := r.leaf()
	if err != nil {
		return 0, err
	}
	n := copy(p, data)
	r.off += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo without a buffer in between.
func (r *fileReader) WriteTo(w io.Writer) (total int64, err error) {
	r.window = fileAhead
	for {
		data, err := r.leaf()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(data)
		total += int64(n)
		r.off += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// Seek implements io.Seeker.
func (r *fileReader) Seek(offset int64, whence int) (int64, error) {
	if r.root == nil {
		return 0, errClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.off
	case io.SeekEnd:
		offset += r.root.size
	default:
		return 0, fmt.Errorf("seek: unknown whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("seek: before the beginning")
	}
	if offset != r.off {
		r.dropAll()
	}
	if offset < r.off {
		r.path = nil
	}
	r.off = offset
	return offset, nil
}

// Close lets go of the blocks and ends what is being fetched. It does not fail.
func (r *fileReader) Close() error {
	if r.ahead != nil {
		r.ahead.close()
	}
	r.root, r.path = nil, nil
	return nil
}

// leaf returns what the current leaf holds from the offset on; io.EOF at the end.
func (r *fileReader) leaf() ([]byte, error) {
	if r.root == nil {
		return nil, errClosed
	}
	if r.off >= r.root.size {
		return nil, io.EOF
	}
	for len(r.path) > 0 && r.off >= r.path[len(r.path)-1].start+r.path[len(r.path)-1].size {
		r.path[len(r.path)-1] = filePart{} // its bytes are done with
		r.path = r.path[:len(r.path)-1]
	}
	if len(r.path) == 0 {
		r.path = append(r.path, filePart{fsNode: r.root})
	}
	for {
		top := &r.path[len(r.path)-1]
		if len(top.links) == 0 {
			return top.data[r.off-top.start:], nil
		}
		if len(r.path) > DefaultMaxDepth {
			return nil, fmt.Errorf("%s: %w: a file more than %d links deep", r.root.cid, ErrLimit, DefaultMaxDepth)
		}
		if err := r.descend(top); err != nil {
			return nil, err
		}
	}
}

// descend opens the link of top that holds the offset. Links without content
// are passed over unread: any number of them would bring no byte.
func (r *fileReader) descend(top *filePart) error {
	for r.off >= top.reached+top.sizes[top.next] {
		top.reached += top.sizes[top.next]
		top.next++
	}
	c := top.links[top.next].Cid
	b, err := r.take(top)
	if err != nil {
		return err
	}
	n, err := decodeNode(b)
	if err != nil {
		return err
	}
	if n.kind != kindFile {
		return malformed(c, errors.New("not a part of a file, in its place"))
	}
	if n.size != top.sizes[top.next] {
		return malformed(c, fmt.Errorf("a part of %d bytes where %d were declared", n.size, top.sizes[top.next]))
	}
	if len(n.links) == 0 {
		r.window = min(max(1, 2*r.window), fileAhead)
	}
	r.path = append(r.path, filePart{fsNode: n, start: top.reached, reached: top.reached})
	return nil
}

// take is the block of top's next link, and asks for those behind it.
func (r *fileReader) take(top *filePart) (blockstore.Block, error) {
	f := r.askedFor(top)
	r.askAhead()
	if f == nil {
		return r.get.Get(r.ctx, top.links[top.next].Cid)
	}
	return r.ahead.take(f)
}

// askedFor takes the fetch of top's next link out of what was asked for; nil
// where it was not.
func (r *fileReader) askedFor(top *filePart) *fetch {
	if len(top.ahead) == 0 || top.ahead[0].link != top.next {
		return nil
	}
	f := top.ahead[0].fetch
	top.ahead = top.ahead[1:]
	r.asked--
	return f
}

// askAhead asks for the links behind those that are open: those of the last
// node, and when it has no more, the next one of the node above.
func (r *fileReader) askAhead() {
	for i := len(r.path) - 1; i >= 0; i-- {
		p, most := &r.path[i], fileAhead
		if i < len(r.path)-1 {
			most = 1
		}
		if p.asked <= p.next && len(p.links) > 0 {
			p.asked, p.askedAt = p.next+1, p.reached+p.sizes[p.next]
		}
		for ; p.asked < len(p.links) && r.asked < r.window && len(p.ahead) < most; p.asked++ {
			if r.end > 0 && p.askedAt >= r.end {
				return
			}
			p.askedAt += p.sizes[p.asked]
			if p.sizes[p.asked] == 0 {
				continue // never read
			}
			if r.ahead == nil {
				r.ahead = newReadAhead(r.ctx, r.get, fileAhead)
			}
			p.ahead = append(p.ahead, aheadLink{p.asked, r.ahead.ask(p.links[p.asked].Cid)})
			r.asked++
		}
		if p.asked < len(p.links) {
			break
		}
	}
}

// dropAll forgets what was asked for: the reading goes on somewhere else.
func (r *fileReader) dropAll() {
	for i := range r.path {
		p := &r.path[i]
		for _, a := range p.ahead {
			r.ahead.drop(a.fetch)
		}
		p.ahead, p.asked = nil, 0
	}
	r.asked, r.window = 0, 0
}
