package preflight

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
)

// magic begins a file that keeps a Result. Its last byte is the version, of
// the format and of what a check finds: a result of older judgement isn't one to start from.
const magic = "hfcheck\x03"

// maxMemory bounds such a file, in bytes.
const maxMemory = 64 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Load reads what Save wrote. nil where there is nothing that can be used:
// then the next check is a full one, which is all that is lost.
func Load(path string) *Result {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxMemory {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMemory))
	if err != nil {
		return nil
	}
	r, err := decode(data)
	if err != nil {
		return nil
	}
	return r
}

// Save keeps the result in a file, in place of what was there. The file is not
// synced: a torn one is noticed when it is read. A result too large to keep isn't.
func (r *Result) Save(path string) error {
	data := r.encode()
	if len(data) > maxMemory {
		return os.Remove(path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".check-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), path)
}

func (r *Result) encode() []byte {
	b := make([]byte, 0, 64+8*len(r.linked)+160*len(r.findings))
	b = append(b, magic...)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(r.root.KeyString())
	for _, n := range r.more {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(r.findings)))
	for _, f := range r.findings {
		b = append(b, kindByte(f.Kind))
		b = binary.AppendUvarint(b, uint64(f.Line))
		b = binary.AppendUvarint(b, uint64(f.Bytes))
		for _, s := range []string{f.Page, f.Link, f.Target, f.Suggestion} {
			text(s)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(r.linked)))
	for _, d := range r.linked {
		b = binary.LittleEndian.AppendUint64(b, d)
	}
	return sealed(b)
}

func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func kindByte(k Kind) byte {
	for i, have := range kinds {
		if have == k {
			return byte(i)
		}
	}
	return byte(len(kinds))
}

var errMemory = errors.New("not a kept result")

func decode(data []byte) (*Result, error) {
	body := len(data) - 4
	if body < len(magic) || !bytes.HasPrefix(data, []byte(magic)) ||
		crc32.Checksum(data[:body], castagnoli) != binary.LittleEndian.Uint32(data[body:]) {
		return nil, errMemory
	}
	d := decoder{left: data[len(magic):body]}
	root, err := cid.Cast([]byte(d.text()))
	if err != nil {
		return nil, errMemory
	}
	r := &Result{root: root}
	for i := range r.more {
		r.more[i] = int(d.number(1 << 40))
	}
	for range d.number(maxKept) {
		f := Finding{Kind: d.kind(), Line: int(d.number(1 << 30)), Bytes: int64(d.number(1 << 62))}
		f.Page, f.Link, f.Target, f.Suggestion = d.text(), d.text(), d.text(), d.text()
		if d.bad {
			return nil, errMemory
		}
		r.findings = append(r.findings, f)
	}
	n := d.number(maxMemory / 8)
	if d.bad || uint64(len(d.left)) != 8*n {
		return nil, errMemory
	}
	r.linked = make([]uint64, n)
	for i := range r.linked {
		r.linked[i] = binary.LittleEndian.Uint64(d.left[8*i:])
		if i > 0 && r.linked[i] <= r.linked[i-1] {
			return nil, errMemory
		}
	}
	return r, nil
}

// decoder reads on as if nothing was wrong and remembers that something was.
type decoder struct {
	left []byte
	bad  bool
}

func (d *decoder) number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.left)
	if n <= 0 || v > limit {
		d.left, d.bad = nil, true
		return 0
	}
	d.left = d.left[n:]
	return v
}

func (d *decoder) text() string {
	n := d.number(uint64(len(d.left)))
	if n > uint64(len(d.left)) {
		d.left, d.bad = nil, true
		return ""
	}
	s := string(d.left[:n])
	d.left = d.left[n:]
	return s
}

func (d *decoder) kind() Kind {
	if len(d.left) == 0 || int(d.left[0]) >= len(kinds) {
		d.left, d.bad = nil, true
		return ""
	}
	k := kinds[d.left[0]]
	d.left = d.left[1:]
	return k
}
