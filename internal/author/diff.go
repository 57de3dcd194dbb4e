package author

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/merkle"
)

// DiffRequest asks what differs between two folders.
type DiffRequest struct {
	// Site is what release numbers are of: an alias, name or domain; or an address
	// to compare with.
	Site string `json:"site"`
	// From and To are release numbers of the site (below 0 they count back from the
	// newest), CIDs or addresses. Both empty: the release before and the current
	// one. With To empty, a number in From is compared with the current release,
	// and an address in it is what Site is compared with.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Limit is how many files are listed; all are counted. 0: 10000, the most.
	Limit int `json:"limit,omitempty"`
}

const maxDiff = 10_000

// Side is one of the two that a Diff compares.
type Side struct {
	Root   string `json:"root"`
	Number uint64 `json:"number,omitempty"` // of the release, where it is one
}

// Diff is what differs.
type Diff struct {
	From  Side       `json:"from"`
	To    Side       `json:"to"`
	Files []DiffFile `json:"files"`
	// Of all, also those that are not listed:
	Added    int64 `json:"added"`
	Removed  int64 `json:"removed"`
	Changed  int64 `json:"changed"`
	Renamed  int64 `json:"renamed"`            // of those listed: added and removed under another path; neither counted above
	Unlisted int64 `json:"unlisted,omitempty"` // how many more there are than Files
	// Growth is by how much the listed files are larger, in bytes of content.
	Growth int64 `json:"growth_bytes"`
}

// DiffFile is one file that differs. A folder without entries counts as one, with a path that ends in a slash.
type DiffFile struct {
	Path   string     `json:"path"`
	Change string     `json:"change"`        // added, removed, modified or renamed
	Was    string     `json:"was,omitempty"` // of one renamed: its path before
	Before *int64     `json:"before_bytes"`  // null where there was none
	After  *int64     `json:"after_bytes"`   // likewise
	cids   [2]cid.Cid // before, after
}

const renamed = "renamed"

// Diff tells which files differ between two releases, or between any two
// folders. It reads what differs and nothing else, here or from the network.
func (a *Author) Diff(ctx context.Context, req DiffRequest, report func(Event)) (Diff, error) {
	from, to, err := a.sides(ctx, req)
	if err != nil {
		return Diff{}, err
	}
	limit := min(req.Limit, maxDiff)
	if limit <= 0 {
		limit = maxDiff
	}
	out := Diff{From: from.side(), To: to.side(), Files: []DiffFile{}}
	next := time.Now().Add(time.Second)
	for c, err := range merkle.Diff(ctx, a.blocks(), from.root, to.root) {
		if err != nil {
			return Diff{}, err
		}
		out.count(c.Kind, 1)
		if len(out.Files) == limit {
			out.Unlisted++
			continue
		}
		f, err := a.diffFile(ctx, c)
		if err != nil {
			return Diff{}, err
		}
		out.Files = append(out.Files, f)
		if now := time.Now(); now.After(next) {
			report(Event{Step: "compare", Message: strconv.Itoa(len(out.Files)) + " files differ so far"})
			next = now.Add(2 * time.Second)
		}
	}
	out.findRenamed()
	for _, f := range out.Files {
		out.Growth += valueOf(f.After) - valueOf(f.Before)
	}
	return out, nil
}

func (d *Diff) count(k merkle.ChangeKind, n int64) {
	switch k {
	case merkle.Added:
		d.Added += n
	case merkle.Removed:
		d.Removed += n
	default:
		d.Changed += n
	}
}

func valueOf(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// diffFile adds the sizes.
func (a *Author) diffFile(ctx context.Context, c merkle.Change) (f DiffFile, err error) {
	f = DiffFile{Path: c.Path, Change: string(c.Kind), cids: [2]cid.Cid{c.Before, c.After}}
	if c.Before.Defined() {
		if f.Before, err = a.fileSize(ctx, c.Before); err != nil {
			return f, err
		}
	}
	if c.After.Defined() {
		f.After, err = a.fileSize(ctx, c.After)
	}
	return f, err
}

// fileSize reads the top of a file only. What is no file has none.
func (a *Author) fileSize(ctx context.Context, c cid.Cid) (*int64, error) {
	file, err := merkle.OpenFile(ctx, a.blocks(), c)
	if errors.Is(err, merkle.ErrNoPath) {
		return new(int64), nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	n, err := file.Seek(0, io.SeekEnd)
	return &n, err
}

// findRenamed makes one of a file that was removed and one with the very same
// content that was added. Empty files are all alike, and stay what they are.
func (d *Diff) findRenamed() {
	gone := make(map[cid.Cid][]int)
	for i, f := range d.Files {
		if f.Change == string(merkle.Removed) && valueOf(f.Before) > 0 {
			gone[f.cids[0]] = append(gone[f.cids[0]], i)
		}
	}
	moved := make(map[int]bool)
	for i := range d.Files {
		f := &d.Files[i]
		from := gone[f.cids[1]]
		if f.Change != string(merkle.Added) || len(from) == 0 {
			continue
		}
		was := d.Files[from[0]]
		gone[f.cids[1]], moved[from[0]] = from[1:], true
		f.Change, f.Was, f.Before = renamed, was.Path, was.Before
		d.count(merkle.Added, -1)
		d.count(merkle.Removed, -1)
		d.Renamed++
	}
	kept := d.Files[:0]
	for i, f := range d.Files {
		if !moved[i] {
			kept = append(kept, f)
		}
	}
	d.Files = kept
}

// diffSide is a folder to compare.
type diffSide struct {
	root   cid.Cid
	number uint64
}

func (s diffSide) side() Side { return Side{Root: s.root.String(), Number: s.number} }

// sides finds what the request compares.
func (a *Author) sides(ctx context.Context, req DiffRequest) (from, to diffSide, err error) {
	_, numbered := releaseNumber(req.From)
	if req.From != "" && req.To == "" && !numbered { // two addresses
		if from, err = a.addressed(ctx, req.Site); err == nil {
			to, err = a.addressed(ctx, req.From)
		}
		return from, to, err
	}
	h, err := a.siteHead(ctx, req.Site)
	if err != nil {
		return from, to, err
	}
	if req.From == "" {
		req.From = "-1"
	}
	if from, err = a.sideOf(ctx, h, req.From); err != nil {
		return from, to, err
	}
	if req.To != "" {
		to, err = a.sideOf(ctx, h, req.To)
		return from, to, err
	}
	to.root = h.root
	if rel, err := a.readRelease(ctx, h.release); err == nil && rel.Root.Equals(h.root) {
		to.number = rel.Number
	}
	return from, to, nil
}

// releaseNumber reads a number such as 3 or -1.
func releaseNumber(s string) (n int64, ok bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n != 0
}

func (a *Author) sideOf(ctx context.Context, h head, s string) (diffSide, error) {
	n, ok := releaseNumber(s)
	if !ok {
		return a.addressed(ctx, s)
	}
	r, err := a.numbered(ctx, h, n)
	return diffSide{r.Root, r.Number}, err
}

func (a *Author) addressed(ctx context.Context, s string) (diffSide, error) {
	root, _, err := a.find(ctx, s)
	return diffSide{root: root}, err
}
