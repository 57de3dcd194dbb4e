package preflight

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-sites/holdfast/merkle"
)

// maxWindow is the largest window, in bytes, that browsers take of zstd
// (https://www.rfc-editor.org/rfc/rfc9659).
const maxWindow = 8 << 20

// codings are the extensions of files that gateways send in place of those
// beside them, to whoever takes the coding.
var codings = map[string]func(io.Reader) (io.Reader, error){
	".br": func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
	".gz": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	".zst": func(r io.Reader) (io.Reader, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	},
}

// coding tells where a file that stands for the one beside it, in a coding, is not that
// file any more: browsers would show the old one, and curl the new.
func (c *checker) coding(f file) error {
	ext := path.Ext(f.path)
	decode, beside := codings[ext], strings.TrimSuffix(f.path, ext)
	if decode == nil {
		return nil
	}
	plain := c.tree.entry(beside)
	if plain == nil {
		return nil
	}
	want, err := merkle.OpenFile(c.ctx, c.tree.get, plain.cid)
	if errors.Is(err, merkle.ErrNoPath) {
		return nil
	}
	if err != nil {
		return err
	}
	defer want.Close()
	coded, err := merkle.OpenFile(c.ctx, c.tree.get, f.cid)
	if errors.Is(err, merkle.ErrNoPath) {
		return nil
	}
	if err != nil {
		return err
	}
	defer coded.Close()
	got, err := decode(coded)
	if err == nil {
		err = sameContent(want, got)
		if closer, ok := got.(io.Closer); ok {
			closer.Close()
		}
	}
	if err != nil {
		c.found(Finding{Kind: StaleCoding, Page: f.path, Target: beside})
	}
	return c.ctx.Err()
}

var errOther = errors.New("not the same content")

// sameContent compares as far as both go together, so that what is coded may claim any length.
func sameContent(want, got io.Reader) error {
	var left, right [32 << 10]byte
	for {
		n, err := io.ReadFull(want, left[:])
		m, _ := io.ReadFull(got, right[:n])
		if !bytes.Equal(left[:n], right[:m]) {
			return errOther
		}
		switch err {
		case nil:
			continue
		case io.EOF, io.ErrUnexpectedEOF:
		default:
			return err
		}
		// A decoder that was cut off says so now, and ReadFull would have hidden it.
		if m, err := got.Read(right[:1]); m > 0 || err != io.EOF {
			return errOther
		}
		return nil
	}
}
