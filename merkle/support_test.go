package merkle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	pb "github.com/ipfs/boxo/ipld/unixfs/pb"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/crypto/chacha20"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-sites/holdfast/blockstore"
)

var (
	rawV1 = cid.Prefix{Version: 1, Codec: cid.Raw, MhType: mh.SHA2_256, MhLength: -1}
	pbV1  = cid.Prefix{Version: 1, Codec: cid.DagProtobuf, MhType: mh.SHA2_256, MhLength: -1}
)

// testStore is a Getter and Session that tests can look into and break.
type testStore struct {
	blockstore.Session // nil: methods that merkle doesn't use

	mu     sync.Mutex
	blocks map[cid.Cid]blockstore.Block
	order  []cid.Cid
	puts   int
	gets   int
	errs   map[cid.Cid]error
	putErr error
	forget bool // keep no bytes
}

func newTestStore() *testStore {
	return &testStore{blocks: make(map[cid.Cid]blockstore.Block), errs: make(map[cid.Cid]error)}
}

func (s *testStore) Put(ctx context.Context, blks ...blockstore.Block) (added blockstore.Added, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putErr != nil {
		return added, s.putErr
	}
	s.puts++
	for _, b := range blks {
		if _, ok := s.blocks[b.Cid()]; ok {
			continue
		}
		added.Blocks++
		added.Bytes += int64(b.Size())
		s.order = append(s.order, b.Cid())
		if s.forget {
			s.blocks[b.Cid()] = blockstore.Block{}
			continue
		}
		s.blocks[b.Cid()] = clone(b)
	}
	return added, ctx.Err()
}

// clone keeps a block beyond the Put that brought it.
func clone(b blockstore.Block) blockstore.Block {
	c, err := blockstore.CheckBlock(b.Cid(), bytes.Clone(b.RawData()))
	if err != nil {
		panic(err)
	}
	return c
}

func (s *testStore) Shield(ctx context.Context, cids []cid.Cid) ([]blockstore.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := make([]blockstore.Info, len(cids))
	for i, c := range cids {
		infos[i].CID = c
		if b, ok := s.blocks[c]; ok {
			infos[i].Present, infos[i].Size = true, int64(b.Size())
		}
	}
	return infos, ctx.Err()
}

func (s *testStore) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if c.Prefix().MhType == mh.IDENTITY {
		d, err := mh.Decode(c.Hash())
		if err != nil {
			return blockstore.Block{}, err
		}
		return blockstore.CheckBlock(c, d.Digest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if err := s.errs[c]; err != nil {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: err}
	}
	b, ok := s.blocks[c]
	if !ok {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrNotFound}
	}
	return b, ctx.Err()
}

func (s *testStore) add(t testing.TB, p cid.Prefix, data []byte) cid.Cid {
	t.Helper()
	b, err := blockstore.NewBlock(p, data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(context.Background(), b); err != nil {
		t.Fatal(err)
	}
	return b.Cid()
}

func (s *testStore) raw(t testing.TB, text string) cid.Cid { return s.add(t, rawV1, []byte(text)) }

// link is a link of a crafted node.
type link struct {
	name string
	to   cid.Cid
	size uint64
}

// pb adds a dag-pb node of these parts, sensible or not.
func (s *testStore) pb(t testing.TB, data []byte, links ...link) cid.Cid {
	t.Helper()
	n := merkledag.NodeWithData(data)
	n.SetCidBuilder(pbV1)
	for _, l := range links {
		if err := n.AddRawLink(l.name, &ipld.Link{Name: l.name, Cid: l.to, Size: l.size}); err != nil {
			t.Fatal(err)
		}
	}
	return s.add(t, pbV1, n.RawData())
}

func (s *testStore) folder(t testing.TB, links ...link) cid.Cid {
	return s.pb(t, unixfs.FolderPBData(), links...)
}

// file adds an inner node of a file: sizes[i] bytes are under links[i].
func (s *testStore) file(t testing.TB, total uint64, sizes []uint64, links ...cid.Cid) cid.Cid {
	t.Helper()
	var ls []link
	for _, c := range links {
		ls = append(ls, link{to: c})
	}
	return s.pb(t, marshal(t, &pb.Data{Type: pb.Data_File.Enum(), Filesize: &total, Blocksizes: sizes}), ls...)
}

func (s *testStore) symlink(t testing.TB, target string) cid.Cid {
	data, err := unixfs.SymlinkData(target)
	if err != nil {
		t.Fatal(err)
	}
	return s.pb(t, data)
}

func marshal(t testing.TB, d *pb.Data) []byte {
	t.Helper()
	data, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func build(t testing.TB, into blockstore.Session, path string, opts BuildOptions) Built {
	t.Helper()
	b, err := Build(context.Background(), into, path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tree makes a folder of files, given as path and text; a path that ends in "/"
// is an empty folder, a text that begins with "->" makes a symbolic link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for path, text := range files {
		full := filepath.Join(top, path)
		mkdir(t, filepath.Dir(full))
		switch {
		case strings.HasSuffix(path, "/"):
			mkdir(t, full)
		case strings.HasPrefix(text, "->"):
			if err := os.Symlink(strings.TrimPrefix(text, "->"), full); err != nil {
				t.Fatal(err)
			}
		default:
			writeFile(t, full, text)
		}
	}
	return top
}

func mkdir(t testing.TB, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sorted(in []string) []string {
	slices.Sort(in)
	return in
}

func collect[T any](seq iter.Seq2[T, error]) (out []T, err error) {
	for v, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// keystream is ChaCha20 under the SHA-256 of the seed, as IPIP-499's vectors use it.
func keystream(seed string) *keystreamReader {
	return &keystreamReader{key: sha256.Sum256([]byte(seed))}
}

type keystreamReader struct {
	key [sha256.Size]byte
	off int64 // of Read
}

func (r *keystreamReader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.off)
	r.off += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *keystreamReader) ReadAt(p []byte, off int64) (int, error) {
	c, err := chacha20.NewUnauthenticatedCipher(r.key[:], make([]byte, chacha20.NonceSize))
	if err != nil {
		return 0, err
	}
	const block = 64
	c.SetCounter(uint32(off / block))
	var skipped [block]byte
	c.XORKeyStream(skipped[:off%block], skipped[:off%block])
	clear(p)
	c.XORKeyStream(p, p)
	return len(p), nil
}
