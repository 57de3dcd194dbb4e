package merkle

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// OpenFile reads the UnixFS file c. The reader fetches with ctx, which must
// live as long as the reader is used, holds one leaf at a time, and never
// returns bytes that the file does not have, nor a clean end before the size
// that its root declares: where the parts disagree, a read fails with
// ErrMalformed. ErrNoPath where c is a folder or symlink. The reader also
// implements io.WriterTo; it is for one goroutine.
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
	path []filePart
}

// filePart is a node on the way to the current leaf. Its content begins at
// start; its link next begins at reached.
type filePart struct {
	*fsNode
	start   int64
	next    int
	reached int64
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
	if offset < r.off {
		r.path = nil
	}
	r.off = offset
	return offset, nil
}

// Close lets go of the blocks. It does not fail.
func (r *fileReader) Close() error {
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
	n, err := getNode(r.ctx, r.get, c)
	if err != nil {
		return err
	}
	if n.kind != kindFile {
		return malformed(c, errors.New("not a part of a file, in its place"))
	}
	if n.size != top.sizes[top.next] {
		return malformed(c, fmt.Errorf("a part of %d bytes where %d were declared", n.size, top.sizes[top.next]))
	}
	r.path = append(r.path, filePart{fsNode: n, start: top.reached, reached: top.reached})
	return nil
}
