package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-unixfsnode/data"
	"github.com/ipfs/go-unixfsnode/data/builder"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// handful is a few blocks; others are not there.
type handful map[string][]byte

func (h handful) Get(_ context.Context, c cid.Cid) (blockstore.Block, error) {
	data, ok := h[string(c.Hash())]
	if !ok {
		return blockstore.Block{}, &blockstore.BlockError{CID: c, Kind: blockstore.ErrNotFound}
	}
	return blockstore.CheckBlock(c, data)
}

func (h handful) put(codec uint64, data []byte) (cid.Cid, error) {
	c, err := cid.Prefix{Version: 1, Codec: codec, MhType: multihash.SHA2_256, MhLength: 32}.Sum(data)
	h[string(c.Hash())] = data
	return c, err
}

// shardBlock is a block of a folder in shards, as wrong as the arguments make it.
func shardBlock(t testing.TB, kind int64, fanout, hash uint64, bits []byte, links ...dagpb.PBLink) []byte {
	t.Helper()
	folder, err := builder.BuildUnixFS(func(b *builder.Builder) {
		builder.DataType(b, kind)
		builder.Data(b, bits)
		if fanout > 0 {
			builder.Fanout(b, fanout)
		}
		if hash > 0 {
			builder.HashType(b, hash)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return pbBlock(t, data.EncodeUnixFSData(folder), links...)
}

// fileBlock is a block of a file in pieces, which need not be as long as it says.
func fileBlock(t testing.TB, size uint64, pieces []uint64, links ...dagpb.PBLink) []byte {
	t.Helper()
	file, err := builder.BuildUnixFS(func(b *builder.Builder) {
		builder.DataType(b, data.Data_File)
		builder.FileSize(b, size)
		builder.BlockSizes(b, pieces)
	})
	if err != nil {
		t.Fatal(err)
	}
	return pbBlock(t, data.EncodeUnixFSData(file), links...)
}

func pbBlock(t testing.TB, inside []byte, links ...dagpb.PBLink) []byte {
	t.Helper()
	n, err := qp.BuildMap(dagpb.Type.PBNode, 2, func(m ipld.MapAssembler) {
		qp.MapEntry(m, "Links", qp.List(int64(len(links)), func(l ipld.ListAssembler) {
			for _, link := range links {
				qp.ListEntry(l, qp.Node(link))
			}
		}))
		qp.MapEntry(m, "Data", qp.Bytes(inside))
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := ipld.Encode(n, dagpb.Encode)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func shardLink(t testing.TB, name string, to cid.Cid) dagpb.PBLink {
	t.Helper()
	n, err := qp.BuildMap(dagpb.Type.PBLink, 3, func(m ipld.MapAssembler) {
		qp.MapEntry(m, "Hash", qp.Link(cidlink.Link{Cid: to}))
		if name != "-" {
			qp.MapEntry(m, "Name", qp.String(name))
		}
		qp.MapEntry(m, "Tsize", qp.Int(5))
	})
	if err != nil {
		t.Fatal(err)
	}
	return n.(dagpb.PBLink)
}

// badBlocks are blocks of folders and files that no honest program makes, by what is wrong with them.
func badBlocks(t testing.TB, file, shard cid.Cid) map[string][]byte {
	const murmur = multihash.MURMUR3X64_64
	full := make([]byte, 32)
	for i := range full {
		full[i] = 0xff
	}
	one := append(make([]byte, 31), 1)
	entry, sub := shardLink(t, "00index.html", file), shardLink(t, "00", shard)
	return map[string][]byte{
		"sound":                 shardBlock(t, data.Data_HAMTShard, 256, murmur, one, entry),
		"no fanout":             shardBlock(t, data.Data_HAMTShard, 0, murmur, one, entry),
		"fanout of one":         shardBlock(t, data.Data_HAMTShard, 1, murmur, one, entry),
		"fanout of seven":       shardBlock(t, data.Data_HAMTShard, 7, murmur, one, entry),
		"fanout of eight":       shardBlock(t, data.Data_HAMTShard, 8, murmur, []byte{1}, entry),
		"fanout of 2^40":        shardBlock(t, data.Data_HAMTShard, 1<<40, murmur, one, entry),
		"fanout of 2^63":        shardBlock(t, data.Data_HAMTShard, 1<<63, murmur, one, entry),
		"no hash":               shardBlock(t, data.Data_HAMTShard, 256, 0, one, entry),
		"another hash":          shardBlock(t, data.Data_HAMTShard, 256, multihash.SHA2_256, one, entry),
		"no bits":               shardBlock(t, data.Data_HAMTShard, 256, murmur, nil, entry),
		"all bits, one link":    shardBlock(t, data.Data_HAMTShard, 256, murmur, full, entry),
		"all bits, no link":     shardBlock(t, data.Data_HAMTShard, 256, murmur, full),
		"too many bits":         shardBlock(t, data.Data_HAMTShard, 256, murmur, make([]byte, 4096), entry),
		"one bit, two links":    shardBlock(t, data.Data_HAMTShard, 256, murmur, one, entry, sub),
		"a link without name":   shardBlock(t, data.Data_HAMTShard, 256, murmur, full, shardLink(t, "-", file)),
		"a link of empty name":  shardBlock(t, data.Data_HAMTShard, 256, murmur, full, shardLink(t, "", file)),
		"a link of short name":  shardBlock(t, data.Data_HAMTShard, 256, murmur, full, shardLink(t, "0", file)),
		"a file as a shard":     shardBlock(t, data.Data_HAMTShard, 256, murmur, one, shardLink(t, "00", file)),
		"itself below":          shardBlock(t, data.Data_HAMTShard, 256, murmur, one, sub),
		"a shard that is plain": shardBlock(t, data.Data_Directory, 256, murmur, one, entry, sub),
		"a file with a fanout":  shardBlock(t, data.Data_File, 256, murmur, one, entry, sub),
		"a file of no pieces":   fileBlock(t, 10, nil, shardLink(t, "", file), shardLink(t, "", file)),
		"a file of one piece":   fileBlock(t, 10, []uint64{5}, shardLink(t, "", file), shardLink(t, "", file)),
		"a file of three":       fileBlock(t, 10, []uint64{5, 5, 5}, shardLink(t, "", file), shardLink(t, "", file)),
		"a file of huge pieces": fileBlock(t, 1<<63, []uint64{1 << 63, 1 << 63}, shardLink(t, "", file), shardLink(t, "", file)),
		"a file too short":      fileBlock(t, 3, []uint64{5, 5}, shardLink(t, "", file), shardLink(t, "", file)),
		"a file too long":       fileBlock(t, 1<<40, []uint64{1 << 39, 1 << 39}, shardLink(t, "", file), shardLink(t, "", file)),
		"a file of a folder":    fileBlock(t, 10, []uint64{5, 5}, shardLink(t, "", shard), shardLink(t, "", shard)),
		"a symlink with links":  shardBlock(t, data.Data_Symlink, 256, murmur, one, entry, sub),
	}
}

// askMalformed asks for a block in every way, as a root and below a sound shard, and
// fails where anything is worse than an error.
func askMalformed(t *testing.T, block []byte, more handful) {
	t.Helper()
	blocks := handful{}
	for k, v := range more {
		blocks[k] = v
	}
	root, err := blocks.put(cid.DagProtobuf, block)
	if err != nil {
		t.Fatal(err)
	}
	roots := []cid.Cid{root}
	one := append(make([]byte, 31), 1)
	for _, name := range []string{"00", "00index.html"} {
		above, err := blocks.put(cid.DagProtobuf, shardBlock(t, data.Data_HAMTShard, 256, multihash.MURMUR3X64_64, one, shardLink(t, name, root)))
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, above)
	}
	h, err := New(Config{Blocks: blocks, RetrievalTimeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		askEveryWay(t, h, root)
	}
}

func askEveryWay(t *testing.T, h http.Handler, root cid.Cid) {
	t.Helper()
	for _, path := range []string{"/", "/index.html", "/other", "/a/b", "/?format=tar", "?format=car&dag-scope=entity", "/index.html?format=car&dag-scope=entity", "?format=car&dag-scope=entity&entity-bytes=0:9", "?format=raw"} {
		r := httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1/ipfs/%s%s", root, path), nil)
		for _, rg := range []string{"", "bytes=3-7", "bytes=-3", "bytes=0-1,7-8", "bytes=9223372036854775800-"} {
			r.Header.Set("Range", rg)
			w := httptest.NewRecorder()
			aborted := serveAborting(h, w, r)
			if w.Code == http.StatusInternalServerError || w.Code == 0 && !aborted {
				t.Errorf("%s %s: %d %.300s", path, rg, w.Code, w.Body)
			}
		}
	}
}

// serveAborting tells whether the answer was cut off on purpose.
func serveAborting(h http.Handler, w http.ResponseWriter, r *http.Request) (aborted bool) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler {
			aborted = true
		} else if p != nil {
			panic(p)
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

func malformedParts(t testing.TB) (more handful, file, shard cid.Cid) {
	more = handful{}
	file, err := more.put(cid.Raw, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	shard, err = more.put(cid.DagProtobuf, shardBlock(t, data.Data_HAMTShard, 256, multihash.MURMUR3X64_64, append(make([]byte, 31), 1), shardLink(t, "00index.html", file)))
	if err != nil {
		t.Fatal(err)
	}
	return more, file, shard
}

func TestMalformedFoldersAreNeverAPanicNorOurFault(t *testing.T) {
	more, file, shard := malformedParts(t)
	for name, block := range badBlocks(t, file, shard) {
		t.Run(name, func(t *testing.T) { askMalformed(t, block, more) })
	}
}

func FuzzMalformedFolder(f *testing.F) {
	more, file, shard := malformedParts(f)
	for _, block := range badBlocks(f, file, shard) {
		f.Add(block)
	}
	f.Fuzz(func(t *testing.T, block []byte) { askMalformed(t, block, more) })
}

func TestADecoderThatPanicsBlamesTheContent(t *testing.T) {
	tr := &trace{}
	ctx := withTrace(t.Context(), tr)
	read := func() (err error) {
		defer blameContent(ctx, StepBlock, &err)
		var none []int
		_ = none[len(none)]
		return nil
	}
	if err := read(); err == nil {
		t.Fatal("no error")
	}
	if f := failureOf(ctx, http.StatusInternalServerError, ""); f.Status != http.StatusUnprocessableEntity || f.Kind != KindMalformed {
		t.Errorf("%+v", f)
	}
}
