package author

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// PublishRequest asks for a folder to become a site's newest release.
type PublishRequest struct {
	Dir string `json:"dir"` // absolute
	// Root is, in place of Dir, the CID of a folder that is here or at the site's holders already.
	Root  string `json:"root,omitempty"`
	Alias string `json:"site"` // the key's alias; the key is made if there is none
	// What is wanted of the copies. Each is remembered for the site: see Wants for what leaves it as it was, and what undoes it.
	//
	// Copies is how many hosts must prove that they hold everything before the
	// name moves. Nil, and never said: DefaultCopies, or as many as there are hosts.
	Copies       *int          `json:"copies,omitempty"`
	MaxCopies    int           `json:"max_copies,omitempty"`    // the most that the availability may ask for; 0: replicate.DefaultMost
	Availability *int          `json:"availability,omitempty"`  // target in millionths; nil: DefaultAvailability, 0: none
	Regions      []string      `json:"regions,omitempty"`       // that may hold it; nil: any
	BytesPerDay  int64         `json:"bytes_per_day,omitempty"` // that may move beyond what Copies needs; 0: any
	Keep         int           `json:"keep,omitempty"`          // releases kept by holders; 0: DefaultKeep
	Lifetime     time.Duration `json:"lifetime,omitempty"`      // 0: naming.DefaultLifetime
	// Default is what counts where nothing was asked, now or before: the configuration.
	Default Wants `json:"default,omitzero"`
	// Alone lets a publish without any host go on (up).
	Alone   bool   `json:"alone,omitempty"`
	Message string `json:"message,omitempty"`
	// IfRoot makes the publish conditional: the newest release known to anybody must
	// have this root. Empty: it must be our own.
	IfRoot string `json:"if_root,omitempty"`
	// Rebase publishes on top of whatever the newest release is, whoever made it: it becomes the predecessor.
	Rebase       bool `json:"rebase,omitempty"`
	ForceOffline bool `json:"force_offline,omitempty"`
	// OnlyChanged publishes nothing where the folder's root is that of our last
	// release: no release, no record, no host is asked.
	OnlyChanged bool `json:"only_changed,omitempty"`
	// Strict refuses to publish what the preflight has anything to say about: *PreflightError.
	Strict   bool               `json:"strict,omitempty"`
	NoCache  bool               `json:"no_cache,omitempty"` // read every file, also those that seem unchanged
	InPlace  bool               `json:"in_place,omitempty"` // leave content in the files instead of copying it
	Symlinks merkle.SymlinkMode `json:"symlinks,omitempty"`
	TTL      time.Duration      `json:"ttl,omitempty"` // 0: naming.DefaultTTL
	// Grace is how long the root before stays at holders, and at gateways for pages that are open; nil: DefaultGrace.
	Grace *time.Duration `json:"grace,omitempty"`
	// NoGrace takes back what was published before at once: holders keep this release only.
	NoGrace bool `json:"no_grace,omitempty"`
}

// Defaults of a PublishRequest.
const (
	DefaultCopies       = 3
	DefaultKeep         = 2
	DefaultAvailability = 999_900 // millionths
	DefaultGrace        = 24 * time.Hour
)

// Published is the outcome of a publish.
type Published struct {
	Alias      string      `json:"alias"`
	Name       string      `json:"name"`
	Root       string      `json:"root"`
	Release    string      `json:"release"`
	Number     uint64      `json:"number"`
	Sequence   uint64      `json:"sequence"`
	Files      int64       `json:"files"`
	Bytes      int64       `json:"bytes"`
	AddedBytes int64       `json:"added_bytes"`
	URLs       []string    `json:"urls"`
	Hosts      []HostState `json:"hosts"`
	Live       bool        `json:"live"`
	SafeUntil  *time.Time  `json:"safe_until"`
	Copies     int         `json:"copies"` // planned, of which all but the fewest wanted may still be on their way
	// Availability is an estimate, in billionths; 0: nobody but this machine holds it. Target is what was wanted, in millionths.
	Availability int64    `json:"availability"`
	Target       int      `json:"target"`
	Warnings     []string `json:"warnings,omitempty"`
	Notes        []string `json:"notes,omitempty"` // what is less than wanted, and harms nobody
	// Preflight is what would surprise the site's readers; nil where nothing was published.
	Preflight *preflight.Report `json:"preflight,omitempty"`
	// Of a publish with OnlyChanged:
	Unchanged bool  `json:"unchanged,omitempty"` // nothing was published; besides this only alias, name, root, files and bytes are set
	Changed   int64 `json:"changed,omitempty"`   // files that differ from the release before; 0: not known
}

// publication is one publish on its way: each step fills in what the next needs.
type publication struct {
	req     PublishRequest
	signer  naming.Signer
	name    naming.Name
	best    naming.Record // what the new record follows; zero for a first release
	session blockstore.Session

	built      merkle.Built
	release    merkle.Release
	relCID     cid.Cid
	wants      Wants // as they count
	remembered Wants // as they are written down
	copies     int   // the fewest holders that have to prove themselves
	placed     *placement
	policy     cid.Cid
	record     naming.Record
	told       map[peer.ID]bool // hosts that have taken the record

	restates bool   // the record says anew where the name leads, without a new release
	shows    uint64 // the number of the release that it is to show then; 0: the newest

	changed  int64 // files, 0: not known
	findings preflight.Report
	warnings []string
	notes    []string
	report   func(Event)
}

func (p *publication) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// owner is under which the block store keeps a site's roots for its author.
func owner(n naming.Name) string { return "site:" + n.String() }

// Publish makes the folder the site's newest release: build, one durable
// barrier, preflight, the best record of self and network, the release, the
// copies and their proofs, and only then the signature; then a look from
// outside.
//
// Errors: *PreflightError, *ConflictError, *ShortError, ErrUnreachable, ErrUsage, and those of merkle.Build.
func (a *Author) Publish(ctx context.Context, req PublishRequest, report func(Event)) (Published, error) {
	if report == nil {
		report = func(Event) {}
	}
	p := &publication{req: req, report: report}
	// All that can be refused at once is, before a key is made: a misspelt
	// folder must not leave one behind.
	if err := a.checkFolder(req); err != nil {
		return Published{}, err
	}
	if err := checkTerms(req); err != nil {
		return Published{}, err
	}
	if err := checkWants(req.asked()); err != nil {
		return Published{}, err
	}
	done, err := a.turns.take(ctx, req.Alias)
	if err != nil {
		return Published{}, err
	}
	defer done()
	if err := a.countCopies(ctx, p); err != nil {
		return Published{}, err
	}
	if err := a.open(ctx, p); err != nil {
		return Published{}, err
	}
	p.session, err = a.Store.Begin(ctx, "publish:"+p.name.String())
	if err != nil {
		return Published{}, err
	}
	defer p.session.Close()

	steps := []func(context.Context, *publication) error{
		a.build, a.compare, a.preflight, a.guard, a.makeRelease, a.place, a.sign, a.announce, a.follow, a.look, a.askAgain, a.pinElsewhere,
	}
	for _, step := range steps {
		err := step(ctx, p)
		if err == errUnchanged {
			return Published{
				Alias: req.Alias, Name: p.name.String(), Root: p.built.Root.String(),
				Files: p.built.Files, Bytes: p.built.Bytes, Unchanged: true,
			}, nil
		}
		if err != nil {
			a.abandon(ctx, p)
			return Published{}, err
		}
	}
	return a.published(p), nil
}

// checkFolder wants a folder that everybody may read, and an alias.
func (a *Author) checkFolder(req PublishRequest) error {
	switch {
	case (req.Dir == "") == (req.Root == "") || req.Alias == "":
		return usagef("a folder and a site's alias are needed")
	case req.Root != "":
		return nil
	}
	switch fi, err := os.Stat(req.Dir); {
	case err != nil:
		return err
	case !fi.IsDir():
		return usagef("%s is a file: a site is a folder; `holdfast build` makes the root of one file", req.Dir)
	}
	return a.apart(req.Dir)
}

// checkTerms refuses what no record and no policy can say.
func checkTerms(req PublishRequest) error {
	switch {
	case req.TTL < 0:
		return usagef("a lifetime and a TTL must be more than nothing")
	case req.Grace != nil && (*req.Grace < 0 || *req.Grace > replicate.MaxGrace || *req.Grace%time.Second != 0):
		return usagef("the grace must be whole seconds, at most a year")
	}
	return nil
}

// open finds the site's key, or makes it: the first publish needs no other command.
func (a *Author) open(ctx context.Context, p *publication) error {
	signer, err := a.Keys.Signer(p.req.Alias)
	if errors.Is(err, naming.ErrNoKey) {
		if err := a.neverPublished(ctx, p.req.Alias); err != nil {
			return err
		}
		if _, err = a.Keys.New(p.req.Alias); err == nil {
			signer, err = a.Keys.Signer(p.req.Alias)
		}
	}
	if err != nil {
		return err
	}
	p.signer, p.name = signer, signer.Name()
	return nil
}

// neverPublished refuses an alias whose site is without its key here: a new key would be another site.
func (a *Author) neverPublished(ctx context.Context, alias string) error {
	site, err := a.State.SiteByAlias(ctx, alias)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: that of %s, %s, was removed from this machine; bring it back with `holdfast key restore`, or publish under another alias", naming.ErrNoKey, alias, site.Name)
}

// build is step 1: the DAG.
func (a *Author) build(ctx context.Context, p *publication) error {
	if p.req.Root != "" {
		return a.adopt(ctx, p)
	}
	built, err := a.buildFolder(ctx, p.session, p.req.Dir, merkle.BuildOptions{
		Symlinks: p.req.Symlinks, Reread: p.req.NoCache, InPlace: p.req.InPlace,
		Progress: func(g merkle.Progress) { p.report(Event{Step: "build", Done: g.Bytes, Total: g.TotalBytes}) },
	})
	if err != nil {
		return err
	}
	p.built = built
	p.report(Event{Step: "built", Message: fmt.Sprintf("%s, root %s", files(built.Files), built.Root)})
	return nil
}

// readRelease reads a release from here or from the network, within 5 s.
func (a *Author) readRelease(ctx context.Context, c cid.Cid) (merkle.Release, error) {
	if !c.Defined() || a.Store == nil && a.Network == nil {
		return merkle.Release{}, naming.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return merkle.ReadRelease(ctx, a.blocks(), c)
}

// blocks is our store, and the network behind it where there is one.
func (a *Author) blocks() blockstore.Getter {
	if a.Network != nil {
		return a.Network.Blocks()
	}
	return a.Store
}

// makeRelease is step 5. Publishing what is published already makes no new
// release: the record is signed again and lives longer.
func (a *Author) makeRelease(ctx context.Context, p *publication) error {
	prev, err := a.readRelease(ctx, releaseOf(p.best))
	if err == nil && prev.Root.Equals(p.built.Root) && (p.req.Message == "" || p.req.Message == prev.Message) {
		p.release, p.relCID = prev, releaseOf(p.best)
		return a.keepBlock(ctx, p, p.relCID)
	}
	p.release = merkle.Release{
		Root: p.built.Root, Number: 1, Time: a.Now().UTC().Truncate(time.Second),
		Message: p.req.Message, Tool: a.Tool, Files: p.built.Files, Bytes: p.built.Bytes,
	}
	if releaseOf(p.best).Defined() {
		if err != nil {
			if prev.Number, err = a.numberOf(ctx, p, err); err != nil {
				return err
			}
		}
		p.release.Number, p.release.Previous = prev.Number+1, releaseOf(p.best)
	}
	block, err := merkle.EncodeRelease(p.release)
	if err != nil {
		return err
	}
	p.relCID = block.Cid()
	if _, err := p.session.Put(ctx, block); err != nil {
		return err
	}
	return a.keepBlock(ctx, p, p.relCID)
}

// numberOf is the number of the release that the new one follows, where that
// can't be read: the block of one of our own may be lost, and its number is
// written down beside the blocks. Of somebody else's release it would be a guess.
func (a *Author) numberOf(ctx context.Context, p *publication, unread error) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	rows, err := a.State.Releases(ctx, p.name)
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		if r.CID.Equals(releaseOf(p.best)) {
			p.warn("release %d can't be read any more: others see the history of %s from the next one on", r.Number, p.req.Alias)
			return r.Number, nil
		}
	}
	return 0, fmt.Errorf("%w: the previous release %s can't be read: %w", ErrUnreachable, releaseOf(p.best), unread)
}

// keepBlock keeps one block by itself: releases, and policies. As bytes, not as
// a node: under its own CID the store would call it a whole DAG, which a
// release without its root and its predecessors is not.
func (a *Author) keepBlock(ctx context.Context, p *publication, c cid.Cid) error {
	infos, err := p.session.Shield(ctx, []cid.Cid{c})
	if err != nil {
		return err
	}
	if !infos[0].Present {
		b, err := a.blocks().Get(ctx, c)
		if err != nil {
			return err
		}
		if _, err := p.session.Put(ctx, b); err != nil {
			return err
		}
	}
	return keepAll(ctx, p.session, owner(p.name), bytesOf(c), []cid.Cid{bytesOf(c)})
}
