package author

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// importOwner keeps what was imported or built by hand until it is released.
const importOwner = "import"

// find resolves an address to the CID that it names, and tells who is likely
// to have what is under it.
func (a *Author) find(ctx context.Context, s string) (target cid.Cid, from []peer.AddrInfo, err error) {
	addr, err := a.ParseAddress(ctx, s)
	if err != nil {
		return cid.Undef, nil, err
	}
	root := addr.CID
	if !root.Defined() {
		chain, r, err := a.Resolver.Follow(ctx, addr.Name)
		if err != nil {
			return cid.Undef, nil, err
		}
		root, from = r, a.roster(ctx, naming.Governing(chain).Policy())
	}
	from = append(from, a.Peers()...)
	if addr.Path == "" {
		return root, from, nil
	}
	target, err = merkle.Resolve(ctx, a.blocks(), root, addr.Path)
	return target, from, err
}

// roster is the holders that a policy names; none where it can't be had in a
// few seconds.
func (a *Author) roster(ctx context.Context, policy cid.Cid) (out []peer.AddrInfo) {
	if !policy.Defined() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pol, err := replicate.ReadPolicy(ctx, a.blocks(), policy)
	if err != nil {
		return nil
	}
	for _, m := range pol.Roster {
		if ai, err := m.AddrInfo(); err == nil {
			out = append(out, ai)
		}
	}
	return out
}

// bringHome makes everything under target present here, in bulk: reading block
// by block over a network is many times slower. done ends the shield over it.
func (a *Author) bringHome(ctx context.Context, target cid.Cid, from []peer.AddrInfo, report func(Event)) (done func(), err error) {
	if a.Network == nil {
		return func() {}, nil
	}
	s, err := a.Store.Begin(ctx, "get:"+target.String())
	if errors.Is(err, blockstore.ErrSessionOpen) { // another get of the same
		s, err = a.Store.Begin(ctx, "")
	}
	if err != nil {
		return nil, err
	}
	_, err = a.Network.Fetch(ctx, s, []cid.Cid{target}, from, merkle.Limits{}, func(c merkle.Count) {
		report(Event{Step: "fetch", Done: c.Bytes})
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	return func() { s.Close() }, nil
}

// GetRequest asks for content to be written to a folder or file.
type GetRequest struct {
	Address string `json:"address"`
	Out     string `json:"out"` // absolute; must not exist, or be an empty folder
}

// Got is what Get and Export wrote.
type Got struct {
	Root  string `json:"root"`
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
}

// Get writes a site, folder or file to disk, every block verified.
func (a *Author) Get(ctx context.Context, req GetRequest, report func(Event)) (Got, error) {
	if err := mayWrite(req.Out); err != nil {
		return Got{}, err
	}
	target, from, err := a.find(ctx, req.Address)
	if err != nil {
		return Got{}, err
	}
	done, err := a.bringHome(ctx, target, from, report)
	if err != nil {
		return Got{}, err
	}
	defer done()
	ex, err := merkle.Extract(ctx, a.Store, target, req.Out, func(e merkle.Extracted) {
		report(Event{Step: "get", Done: e.Bytes, Message: files(e.Files)})
	})
	if err != nil {
		return Got{}, err
	}
	return Got{Root: target.String(), Files: ex.Files, Bytes: ex.Bytes}, nil
}

// mayWrite says before anything is fetched what Extract would say after.
func mayWrite(out string) error {
	fi, err := os.Stat(out)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return usagef("%s exists already: -o must be new, or an empty folder", out)
	}
	entries, err := os.ReadDir(out)
	if err == nil && len(entries) > 0 {
		return usagef("%s is not empty: -o must be new, or an empty folder", out)
	}
	return err
}

// Cat writes one file to w.
func (a *Author) Cat(ctx context.Context, address string, w io.Writer) error {
	target, _, err := a.find(ctx, address)
	if err != nil {
		return err
	}
	f, err := merkle.OpenFile(ctx, a.blocks(), target)
	if errors.Is(err, merkle.ErrNoPath) { // the path was found, but leads to no file
		return usagef("%s is not a file; `holdfast get` writes folders", address)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// BuildRequest asks for a root without a signature.
type BuildRequest struct {
	Path     string             `json:"path"` // absolute; a folder or one file
	Profile  merkle.Profile     `json:"profile,omitempty"`
	Symlinks merkle.SymlinkMode `json:"symlinks,omitempty"`
	NoCache  bool               `json:"no_cache,omitempty"` // read every file, also those that seem unchanged
	InPlace  bool               `json:"in_place,omitempty"` // leave content in the files instead of copying it
	DryRun   bool               `json:"dry_run,omitempty"`  // only lists what would be taken and left out
	Check    bool               `json:"check,omitempty"`    // look for what would surprise readers, too
	Strict   bool               `json:"strict,omitempty"`   // the same, and keep nothing where there is anything: *PreflightError
}

// BuildResult is what a build made.
type BuildResult struct {
	Root        string   `json:"root"`
	Files       int64    `json:"files"`
	Bytes       int64    `json:"bytes"`
	Blocks      int64    `json:"blocks"`
	AddedBlocks int64    `json:"added_blocks"`
	Ignored     []string `json:"ignored"`
	// Preflight is what a check has found; nil where none was asked for.
	Preflight *preflight.Report `json:"preflight,omitempty"`
}

// Build makes a root of a folder or file and keeps its blocks. Errors:
// *PreflightError, ErrUsage, and those of merkle.Build.
func (a *Author) Build(ctx context.Context, req BuildRequest, report func(Event)) (BuildResult, error) {
	if err := a.apart(req.Path); err != nil {
		return BuildResult{}, err
	}
	opts := merkle.BuildOptions{
		Profile: req.Profile, Symlinks: req.Symlinks, Reread: req.NoCache, InPlace: req.InPlace,
		Progress: func(g merkle.Progress) { report(Event{Step: "build", Done: g.Bytes, Total: g.TotalBytes}) },
	}
	if req.DryRun {
		scan, err := merkle.ScanFolder(ctx, req.Path, opts)
		return BuildResult{Files: scan.Files, Bytes: scan.Bytes, Ignored: emptyNotNil(scan.Ignored)}, err
	}
	s, err := a.Store.Begin(ctx, "")
	if err != nil {
		return BuildResult{}, err
	}
	defer s.Close()
	b, err := a.buildFolder(ctx, s, req.Path, opts)
	if err != nil {
		return BuildResult{}, err
	}
	var found *preflight.Report
	if req.Check || req.Strict {
		r, err := a.check(ctx, b.Root, "", req.Strict, report)
		if err != nil {
			return BuildResult{}, err
		}
		found = &r
	}
	if err := keepAll(ctx, s, importOwner, b.Root, b.CIDs); err != nil {
		return BuildResult{}, err
	}
	return BuildResult{
		Root: b.Root.String(), Files: b.Files, Bytes: b.Bytes, Blocks: b.DAG.Blocks,
		AddedBlocks: b.Added.Blocks, Ignored: emptyNotNil(b.Ignored),
		Preflight: found,
	}, nil
}

// bytesOf names a block without its links. What is kept under it says nothing
// of the DAG below.
func bytesOf(c cid.Cid) cid.Cid { return cid.NewCidV1(cid.Raw, c.Hash()) }

func emptyNotNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func keepAll(ctx context.Context, s blockstore.Session, owner string, root cid.Cid, cids []cid.Cid) error {
	return s.Keep(ctx, owner, root, slices.Values(cids))
}

// ImportResult is what a CAR held.
type ImportResult struct {
	Roots    []string `json:"roots"`
	Blocks   int64    `json:"blocks"`
	Bytes    int64    `json:"bytes"`
	Missing  []string `json:"missing,omitempty"` // under the roots, and not in the CAR nor here
	Warnings []string `json:"warnings,omitempty"`
}

// Import takes the blocks of a CAR file, each verified. Roots that are whole
// are kept; of others the blocks stay until they are collected, and what is
// missing is named.
func (a *Author) Import(ctx context.Context, path string) (ImportResult, error) {
	f, err := os.Open(path)
	if err != nil {
		return ImportResult{}, err
	}
	defer f.Close()
	s, err := a.Store.Begin(ctx, "")
	if err != nil {
		return ImportResult{}, err
	}
	defer s.Close()
	in, err := merkle.ReadCAR(ctx, s, f, merkle.Limits{})
	if err != nil {
		return ImportResult{}, err
	}
	if err := s.Sync(ctx); err != nil {
		return ImportResult{}, err
	}
	out := ImportResult{Roots: []string{}, Blocks: in.Blocks, Bytes: in.Bytes}
	for _, root := range in.Roots {
		out.Roots = append(out.Roots, root.String())
		rep, err := a.takeStock(ctx, root, in)
		if errors.Is(err, merkle.ErrUnsupported) {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s is not kept: %v", root, err))
			continue
		}
		if err != nil {
			return out, err
		}
		for _, c := range append(rep.Missing, rep.Corrupt...) {
			out.Missing = append(out.Missing, c.String())
		}
		// A DAG that lacks blocks is kept as far as it is there, so that it
		// can be completed, but not under its own CID: that would tell every
		// other owner that it is whole.
		as := root
		if len(rep.Missing)+len(rep.Corrupt) > 0 {
			at := slices.Index(rep.CIDs, root)
			if at < 0 {
				continue // the root itself is missing
			}
			as = bytesOf(root)
			rep.CIDs[at] = as
		}
		if err := keepAll(ctx, s, importOwner, as, rep.CIDs); err != nil {
			return out, err
		}
	}
	return out, nil
}

// takeStock finds what is under a root of a CAR that has just been read. Where
// that is just what the CAR has brought, it was checked a moment ago and is not read
// again; what was here before may have suffered since.
func (a *Author) takeStock(ctx context.Context, root cid.Cid, in merkle.Imported) (merkle.Report, error) {
	if in.Added.Blocks == in.Blocks {
		rep, err := merkle.Inventory(ctx, a.Store, root, merkle.WalkOptions{})
		if err != nil || rep.Blocks == in.Blocks {
			return rep, err
		}
	}
	return merkle.Verify(ctx, a.Store, root, merkle.WalkOptions{})
}

// Export writes everything under an address as a CAR file, durably, and next to
// its final name first, so that a file of that name is always whole.
func (a *Author) Export(ctx context.Context, req GetRequest, report func(Event)) (Got, error) {
	target, from, err := a.find(ctx, req.Address)
	if err != nil {
		return Got{}, err
	}
	done, err := a.bringHome(ctx, target, from, report)
	if err != nil {
		return Got{}, err
	}
	defer done()
	tmp, err := os.CreateTemp(filepath.Dir(req.Out), ".holdfast-*.car")
	if err != nil {
		return Got{}, err
	}
	defer os.Remove(tmp.Name())
	file := &durableFile{f: tmp}
	defer file.close()
	w := &progressWriter{w: file, report: report}
	if _, err := merkle.WriteCAR(ctx, a.Store, w, target, merkle.WalkOptions{}); err != nil {
		return Got{}, err
	}
	if err := tmp.Chmod(0o644); err != nil { // it holds nothing secret, and is made to be passed on
		return Got{}, err
	}
	if err := file.finish(); err != nil {
		return Got{}, err
	}
	if err := file.close(); err != nil {
		return Got{}, err
	}
	if err := os.Rename(tmp.Name(), req.Out); err != nil {
		return Got{}, err
	}
	if err := syncDir(filepath.Dir(req.Out)); err != nil {
		return Got{}, err
	}
	out := Got{Root: target.String(), Bytes: w.n}
	if m, err := merkle.Measure(ctx, a.Store, target); err == nil { // else it is no tree of files
		out.Files = m.Files
	}
	return out, nil
}

// ExportTo streams the CAR.
func (a *Author) ExportTo(ctx context.Context, address string, w io.Writer) error {
	target, _, err := a.find(ctx, address)
	if err != nil {
		return err
	}
	_, err = merkle.WriteCAR(ctx, a.blocks(), w, target, merkle.WalkOptions{})
	return err
}

type progressWriter struct {
	w      io.Writer
	n      int64
	report func(Event)
}

func (p *progressWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.report(Event{Step: "export", Done: p.n})
	return n, err
}
