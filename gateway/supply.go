package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/retrieval"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
)

// DefaultRetrievalBlocks and DefaultRetrievalBytes are what one request may have
// fetched from others.
const (
	DefaultRetrievalBlocks = 64 << 10
	DefaultRetrievalBytes  = 16 << 30
)

// moment is how long an answer that is known here takes at most. What takes
// longer waits for others.
const moment = 50 * time.Millisecond

// errBudget says that a request has had what one request may have fetched.
var errBudget = errors.New("this gateway fetches no more than that for one request; ask for a part of it")

// budget is what a request may still have fetched. The zero value is nothing.
type budget struct{ blocks, bytes atomic.Int64 }

// ask notes that a block is asked for, got what came. They are errBudget where
// that is more than may be.
func (b *budget) ask() error { return within(b.blocks.Add(-1)) }

func (b *budget) got(bytes int) error { return within(b.bytes.Add(-int64(bytes))) }

func within(left int64) error {
	if left < 0 {
		return errBudget
	}
	return nil
}

// supply is where content comes from: here, or else from others. Whoever needs
// others gives up its place among the requests that are worked on meanwhile.
type supply struct {
	denied *deny.Lists
	here   blockstore.Getter
	others blockstore.Getter // here, too, may be among them; nil: there are none
	log    *slog.Logger
}

// Get implements blockstore.Getter. Beyond its errors: *deny.Error, errBusy, errBudget.
func (s supply) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if err := checkBlock(ctx, s.denied, c); err != nil {
		return blockstore.Block{}, err
	}
	b, err := s.here.Get(ctx, c)
	if err == nil || s.others == nil || !elsewhere(err) {
		return b, s.outward(err)
	}
	seat := traceOf(ctx).seat
	if seat == nil {
		b, err = s.others.Get(ctx, c)
		return b, s.outward(err)
	}
	if err := seat.budget.ask(); err != nil {
		return blockstore.Block{}, err
	}
	if err := seat.wait(ctx); err != nil {
		return blockstore.Block{}, fmt.Errorf("block %s was not asked for: %w", c, err)
	}
	defer seat.back(ctx)
	if b, err = s.others.Get(underRoot(ctx), c); err != nil {
		return b, s.outward(err)
	}
	if err := seat.budget.got(len(b.RawData())); err != nil {
		return blockstore.Block{}, err
	}
	return b, nil
}

// elsewhere tells whether a block that can't be had here may be had from others.
func elsewhere(err error) bool {
	return errors.Is(err, blockstore.ErrNotFound) || errors.Is(err, blockstore.ErrCorrupt) || errors.Is(err, blockstore.ErrUnavailable)
}

// errStore says that what is kept here can't be read.
var errStore = errors.New("this gateway can't read what it keeps")

// outward is an error as readers may see it: why a block can't be had here names
// files of the operator's, and is for the log.
func (s supply) outward(err error) error {
	var block *blockstore.BlockError
	var asked asker
	if !errors.As(err, &block) || block.Err == nil || errors.Is(err, blockstore.ErrRefused) || errors.As(err, &asked) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if file := (*fs.PathError)(nil); errors.As(err, &file) && !errors.Is(err, blockstore.ErrNotFound) && !errors.Is(err, blockstore.ErrCorrupt) {
		s.log.Error("gateway: read a block", "err", err)
		return errStore
	}
	s.log.Debug("gateway: read a block", "err", err)
	return &blockstore.BlockError{CID: block.CID, Kind: block.Kind}
}

// underRoot tells those who look for a block which content it is of: hosts
// announce roots only.
func underRoot(ctx context.Context) context.Context {
	t := traceOf(ctx)
	t.mu.Lock()
	root := t.root
	t.mu.Unlock()
	if state := retrieval.StateFromContext(ctx); !root.Defined() || state != nil && state.GetRootCID().Defined() {
		return ctx
	}
	ctx, state := retrieval.ContextWithState(ctx)
	state.SetRootCID(root)
	return ctx
}

// inTurn has whatever may wait for others do so in turn.
func (cfg Config) inTurn() Config {
	if cfg.Local == nil {
		cfg.Local = cfg.Blocks
		cfg.Blocks = supply{denied: cfg.Denied, here: cfg.Local, log: cfg.Log}
	} else {
		cfg.Blocks = supply{denied: cfg.Denied, here: cfg.Local, others: cfg.Blocks, log: cfg.Log}
	}
	if c, ok := cfg.Names.(Changing); ok {
		cfg.Names = patientChanging{patientNames{cfg.Names}, c}
	} else if cfg.Names != nil {
		cfg.Names = patientNames{cfg.Names}
	}
	if cfg.DNSLinks != nil {
		cfg.DNSLinks = patientLinks{cfg.DNSLinks}
	}
	return cfg
}

// patiently calls f. While f takes longer than a moment, the request's place is
// another's. f's context ends early, with errBusy, where too many wait.
func patiently(ctx context.Context, f func(context.Context)) {
	seat := traceOf(ctx).seat
	if seat == nil {
		f(ctx)
		return
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	moved := make(chan bool, 1)
	timer := time.AfterFunc(moment, func() {
		err := seat.wait(within)
		moved <- err == nil
		if err != nil {
			cancel(err)
		}
	})
	f(within)
	if timer.Stop() {
		return
	}
	cancel(nil) // it may still be queueing
	if <-moved {
		seat.back(ctx)
	}
}

// patientNames and patientLinks wait for others as supply does.
type (
	patientNames struct{ Names }

	// patientChanging are Names that tell of changes.
	patientChanging struct {
		patientNames
		Changing
	}

	patientLinks struct{ DNSLinks }
)

// Follow implements Names.
func (p patientNames) Follow(ctx context.Context, n naming.Name) (chain []naming.Resolution, root cid.Cid, err error) {
	patiently(ctx, func(ctx context.Context) {
		chain, root, err = p.Names.Follow(ctx, n)
		err = busyOr(ctx, err)
	})
	return chain, root, err
}

// Resolve implements DNSLinks.
func (p patientLinks) Resolve(ctx context.Context, domain string) (path string, ttl time.Duration, err error) {
	patiently(ctx, func(ctx context.Context) {
		path, ttl, err = p.DNSLinks.Resolve(ctx, domain)
		err = busyOr(ctx, err)
	})
	return path, ttl, err
}

// busyOr is err, or errBusy where that is why it failed.
func busyOr(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errBusy) {
		return errBusy
	}
	return err
}
