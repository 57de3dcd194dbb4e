package deny

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	gopath "path"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	yaml "go.yaml.in/yaml/v3"

	"github.com/holdfast-sites/holdfast/naming"
)

// Bounds of the format, in bytes.
const (
	maxHeader = 1 << 20
	maxLine   = 2 << 20
	maxReason = 256
)

// header is what is read of a list's header; the rest is ignored.
type header struct {
	Version int               `yaml:"version"`
	Hints   map[string]string `yaml:"hints"`
}

// table holds the rules of all lists, by what they are about.
type table struct {
	files  []string
	blocks map[string]*rule // by multihash
	names  map[string]*rule // by a key's multihash, or by domain
	// By double hash, and what the hashes were made with.
	double map[string]*rule
	hashes map[uint64]bool
	legacy bool // some are hex: of the CID's text instead of the multihash's
	rules  int
}

func newTable() *table {
	return &table{blocks: map[string]*rule{}, names: map[string]*rule{}, double: map[string]*rule{}, hashes: map[uint64]bool{}}
}

// add reads one list. The error names the line.
func (t *table) add(name string, r io.Reader) error {
	in := bufio.NewReaderSize(r, maxHeader)
	line, hints, err := readHeader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.files = append(t.files, name)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line++
		if err := t.parse(strings.Fields(lines.Text()), hints, line); err != nil {
			return fmt.Errorf("%s: line %d: %w", name, line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: line %d: %w", name, line+1, err)
	}
	return nil
}

// readHeader reads up to the line "---" where there is one in the first MiB, and
// tells how many lines that were.
func readHeader(in *bufio.Reader) (lines int, hints rule, err error) {
	hints.status = DefaultStatus
	start, err := in.Peek(maxHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, hints, err
	}
	end := -1
	for at := 0; at < len(start); lines++ {
		rest := start[at:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			n = len(rest)
		}
		if string(bytes.TrimRight(rest[:n], "\r")) == "---" {
			end = at
			lines++
			at += n
			start, rest = start[:min(at+1, len(start))], nil
			break
		}
		at += n + 1
	}
	if end < 0 {
		return 0, hints, nil
	}
	var h header
	if err := yaml.Unmarshal(start[:end], &h); err != nil {
		return 0, hints, fmt.Errorf("the header: %w", err)
	}
	if h.Version > 1 {
		return 0, hints, fmt.Errorf("version %d of the format is not known here", h.Version)
	}
	for k, v := range h.Hints {
		if err := hints.hint(k, v); err != nil {
			return 0, hints, fmt.Errorf("the header: %w", err)
		}
	}
	_, err = in.Discard(len(start))
	return lines, hints, err
}

// hint takes what is understood of a hint.
func (r *rule) hint(key, value string) error {
	switch key {
	case "gateway_status", "status":
		n, err := strconv.Atoi(value)
		if err != nil || n != http.StatusGone && n != http.StatusUnavailableForLegalReasons {
			return fmt.Errorf("%s is %.20q: want 410 or 451", key, value)
		}
		r.status = uint16(n)
	case "reason":
		r.reason = value[:min(len(value), maxReason)]
	}
	return nil
}

// parse takes one line, cut into its fields.
func (t *table) parse(fields []string, hints rule, line int) error {
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	r := hints
	r.file, r.line = int32(len(t.files)-1), int32(line)
	for _, h := range fields[1:] {
		if strings.HasPrefix(h, "#") {
			break
		}
		if i := strings.IndexAny(h, ":="); i > 0 {
			if err := r.hint(h[:i], h[i+1:]); err != nil {
				return err
			}
		}
	}
	item := fields[0]
	item, r.allow = strings.CutPrefix(item, "!")
	if hash, ok := strings.CutPrefix(item, "//"); ok {
		return t.addDouble(hash, r)
	}
	return t.addPath(item, r)
}

func (t *table) put(m map[string]*rule, key string, r rule) {
	r.older = m[key]
	m[key] = &r
	t.rules++
}

// addDouble takes "//hash": a multihash in base58, or the hex of a SHA-256.
func (t *table) addDouble(text string, r rule) error {
	if h, err := multihash.FromB58String(text); err == nil {
		d, err := multihash.Decode(h)
		if err != nil {
			return err
		}
		if _, err := multihash.Sum(nil, d.Code, d.Length); err != nil {
			return fmt.Errorf("hash function %s is not known here", d.Name)
		}
		t.hashes[d.Code] = true
		t.put(t.double, string(h), r)
		// Some hex digits are base58, too; then both are meant.
		if len(text) != 64 {
			return nil
		}
	}
	digest, err := hex.DecodeString(text)
	if err != nil || len(digest) != 32 {
		return fmt.Errorf("%.100q is neither a multihash in base58 nor a SHA-256 in hex", text)
	}
	h, err := multihash.Encode(digest, multihash.SHA2_256)
	if err != nil {
		return err
	}
	t.legacy = true
	t.put(t.double, string(h), r)
	return nil
}

// addPath takes "/ipfs/CID", "/ipns/NAME" with a path or without, or a bare CID or name.
func (t *table) addPath(item string, r rule) error {
	ns, rest := "", item
	for _, n := range []string{"/ipfs/", "/ipns/", "/ipld/"} {
		if after, ok := strings.CutPrefix(item, n); ok {
			ns, rest = n, after
		}
	}
	id, path, _ := strings.Cut(rest, "/")
	path, r.prefix = strings.CutSuffix(path, "*")
	path, err := url.PathUnescape(path)
	if err != nil {
		return err
	}
	r.tree = r.prefix && strings.HasSuffix(path, "/")
	r.path = strings.Trim(gopath.Clean("/"+path), "/")
	if c, err := cid.Decode(id); err == nil && ns != "/ipns/" && (ns != "" || c.Type() != cid.Libp2pKey) {
		t.put(t.blocks, string(c.Hash()), r)
		return nil
	}
	if ns == "/ipfs/" || ns == "/ipld/" {
		return fmt.Errorf("%.100q is no CID", id)
	}
	if key, ok := nameKey(id); ok && (ns != "" || !strings.Contains(id, ".")) {
		t.put(t.names, key, r)
		return nil
	}
	return fmt.Errorf("%.100q is neither a CID nor a name", item)
}

// nameKey is what a name or domain is found by.
func nameKey(id string) (string, bool) {
	if n, err := naming.ParseName(id); err == nil {
		return string(n.Peer()), true
	}
	if c, err := cid.Decode(id); err == nil {
		return string(c.Hash()), true
	}
	d, err := naming.ParseDomain(id)
	return d, err == nil
}
