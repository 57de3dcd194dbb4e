package gateway

import (
	"bytes"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/semaphore"
)

// Limits of what is compressed here. Larger files, and those that deserve more
// effort, come compressed by the site: as name.br, name.zst or name.gz beside the plain one.
const (
	minCompress  = 1 << 10  // bytes: less fits into a packet either way
	maxCompress  = 4 << 20  // bytes, since it is done in memory
	maxPacking   = 32 << 20 // bytes of all bodies that are being collected at once
	maxPacked    = 32 << 20 // bytes of results that are kept
	brotliEffort = 5        // of 11: what servers do on the fly
)

// coding is a set of content codings, or one.
type coding uint8

const (
	codingGzip coding = 1 << iota
	codingBrotli
	codingZstd
)

// codings are all of them, the best first: for the site's own files by size, which
// were made with patience, and for ours by speed.
var (
	siblingCodings = []coding{codingBrotli, codingZstd, codingGzip}
	ownCodings     = []coding{codingZstd, codingBrotli, codingGzip}
)

func (c coding) String() string {
	switch c {
	case codingGzip:
		return "gzip"
	case codingBrotli:
		return "br"
	case codingZstd:
		return "zstd"
	}
	return "identity"
}

// extension is that of a file in the coding, beside the plain one.
func (c coding) extension() string {
	switch c {
	case codingGzip:
		return ".gz"
	case codingZstd:
		return ".zst"
	}
	return ".br"
}

// acceptedCodings are those that the client takes. Among them it is ours to choose.
func acceptedCodings(h http.Header) coding {
	var accepted, refused coding
	for _, v := range h.Values("Accept-Encoding") {
		for item := range strings.SplitSeq(v, ",") {
			name, params, _ := strings.Cut(item, ";")
			var c coding
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "gzip", "x-gzip":
				c = codingGzip
			case "br":
				c = codingBrotli
			case "zstd":
				c = codingZstd
			}
			if refuses(params) {
				refused |= c
			} else {
				accepted |= c
			}
		}
	}
	return accepted &^ refused
}

// refuses tells whether an item of Accept-Encoding says q=0, or a weight that is none.
func refuses(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(p)), "q="); ok {
			weight, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return err != nil || !(weight > 0)
		}
	}
	return false
}

// packer compresses bodies, a few at a time, and keeps the results.
type packer struct {
	done    *otter.Cache[packedKey, []byte] // empty: not worth it
	space   *semaphore.Weighted             // bytes of bodies
	asked   tally
	workers chan struct{}
	zstd    *zstd.Encoder
}

// packedKey is the entity tag of the plain content, which names the bytes, and the coding.
type packedKey struct {
	etag string
	coding
}

func newPacker() *packer {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // only wrong options are an error
	}
	return &packer{
		done:    newKept(maxPacked, func(_ packedKey, b []byte) int64 { return int64(len(b)) }),
		space:   semaphore.NewWeighted(maxPacking),
		workers: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		zstd:    enc,
	}
}

// pack compresses a body. Not ok where it gets hardly smaller, or where all
// workers are busy: then the plain body is the better answer.
func (p *packer) pack(key packedKey, plain []byte) (packed []byte, ok bool) {
	select {
	case p.workers <- struct{}{}:
		defer func() { <-p.workers }()
	default:
		return nil, false
	}
	packed = p.encode(key.coding, plain)
	if len(packed) > len(plain)/20*19 {
		packed = nil
	}
	p.done.Set(key, packed)
	return packed, packed != nil
}

func (p *packer) encode(c coding, plain []byte) []byte {
	if c == codingZstd {
		return p.zstd.EncodeAll(plain, nil)
	}
	var b bytes.Buffer
	switch c { // writes to a Buffer never fail
	case codingBrotli:
		w := brotli.NewWriterLevel(&b, brotliEffort)
		_, _ = w.Write(plain)
		_ = w.Close()
	default:
		w := gzip.NewWriter(&b)
		_, _ = w.Write(plain)
		_ = w.Close()
	}
	return b.Bytes()
}

// codedTag is the entity tag of content in a coding: "cid" → "cid-br".
func codedTag(etag string, c coding) string {
	return strings.TrimSuffix(etag, `"`) + "-" + c.String() + `"`
}

// plainTags turns the entity tags of what we compressed into those of the plain
// content, which is what they are compared with, in a request's header. Those of codings that the client
// doesn't take any more stay what they are: they match nothing.
func plainTags(h http.Header, accepts coding) {
	asked := h.Values("If-None-Match")
	for i, v := range asked {
		for _, c := range ownCodings {
			if accepts&c != 0 {
				v = strings.ReplaceAll(v, "-"+c.String()+`"`, `"`)
			}
		}
		asked[i] = v
	}
	for _, c := range ownCodings { // parts are of the plain content: of another one the client wants the whole
		if strings.HasSuffix(h.Get("If-Range"), "-"+c.String()+`"`) {
			h.Del("Range")
		}
	}
}

// packing is an answer that is collected so that it can be sent in another coding.
type packing struct {
	packer *packer
	key    packedKey
	status int
	body   bytes.Buffer
	space  int64 // taken from packer
}

// encode decides, when the header of an answer is complete, in which coding it
// goes out. It reports false where the answer goes out as it is; otherwise the
// attempt collects it, or has sent all of it already.
func (a *attempt) encode(p *packer, status int) bool {
	h := a.header
	etag := a.etag
	if status == http.StatusNotModified {
		if a.confirm(etag) || compressible(a.kind) {
			addVary(h, "Accept-Encoding")
		}
		return false
	}
	length := h.Get("Content-Length")
	if status == http.StatusPartialContent {
		_, length, _ = strings.Cut(h.Get("Content-Range"), "/")
	}
	size, err := strconv.ParseInt(length, 10, 64)
	if err != nil || size < minCompress || !compressible(a.kind) || isListing(h) ||
		h.Get("Content-Encoding") != "" || strings.Contains(h.Get("Cache-Control"), "no-transform") || !strings.HasPrefix(etag, `"`) {
		return false
	}
	addVary(h, "Accept-Encoding")
	if status == http.StatusPartialContent {
		return false
	}
	key := packedKey{etag: etag}
	for _, c := range ownCodings {
		if a.accepts&c != 0 {
			key.coding = c
			break
		}
	}
	if key.coding == 0 || size > maxCompress || a.ranged {
		return false
	}
	packed, ok := p.done.GetIfPresent(key)
	p.asked.count(ok)
	if ok {
		if packed == nil {
			return false
		}
		a.sendPacked(key, status, packed)
		return true
	}
	if a.head {
		a.coded(key)
		h.Del("Content-Length") // nobody knows it yet
		return false
	}
	if !p.space.TryAcquire(size) {
		a.out.keep.forbid() // the next one may have it packed
		return false
	}
	a.packing = &packing{packer: p, key: key, status: status, space: size}
	return true
}

// confirm gives a 304 the entity tag of what the client has, if that is one of ours in a coding.
func (a *attempt) confirm(etag string) bool {
	for _, c := range ownCodings {
		if tag := codedTag(etag, c); a.accepts&c != 0 && strings.Contains(a.asked, tag) {
			a.header.Set("Etag", tag)
			return true
		}
	}
	return false
}

// finish sends what was collected. It must be called once all is written, and may
// yet hold the answer back.
func (a *attempt) finish() {
	p := a.packing
	if p == nil {
		return
	}
	a.packing = nil
	defer p.packer.space.Release(p.space)
	plain := p.body.Bytes()
	if int64(len(plain)) != p.space {
		a.held, a.status = true, http.StatusBadGateway // the rest can't be had, and there is still time to say so
		return
	}
	if packed, ok := p.packer.pack(p.key, plain); ok {
		a.sendPacked(p.key, p.status, packed)
		return
	}
	if _, known := p.packer.done.GetIfPresent(p.key); !known { // nobody had time to try
		a.out.keep.forbid()
	}
	a.commit(p.status)
	_, _ = a.out.Write(plain)
}

func (a *attempt) sendPacked(key packedKey, status int, packed []byte) {
	a.coded(key)
	a.header.Set("Content-Length", strconv.Itoa(len(packed)))
	a.commit(status)
	if !a.head {
		_, _ = a.out.Write(packed)
	}
	a.sent = true
}

func (a *attempt) coded(key packedKey) {
	a.header.Set("Content-Encoding", key.coding.String())
	a.header.Del("Accept-Ranges") // those of the plain content
	if a.header.Get("Etag") != "" {
		a.header.Set("Etag", codedTag(key.etag, key.coding))
	}
}

func addVary(h http.Header, field string) {
	if was := h["Vary"]; !hasVary(h["Vary"], field) {
		h.Set("Vary", strings.Join(append(slices.Clip(was), field), ", "))
	}
}

func hasVary(vary []string, field string) bool {
	for _, v := range vary {
		for f := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(f), field) {
				return true
			}
		}
	}
	return false
}
