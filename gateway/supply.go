package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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
}

// Get implements blockstore.Getter. Beyond its errors: *deny.Error, errBusy, errBudget.
func (s supply) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if err := checkBlock(ctx, s.denied, c); err != nil {
		return blockstore.Block{}, err
	}
	b, err := s.here.Get(ctx, c)
	if err == nil || s.others == nil || !errors.Is(err, blockstore.ErrNotFound) && !errors.Is(err, blockstore.ErrCorrupt) {
		return b, err
	}
	seat := traceOf(ctx).seat
	if seat == nil {
		return s.others.Get(ctx, c)
	}
	if err := seat.budget.ask(); err != nil {
		return blockstore.Block{}, err
	}
	if err := seat.wait(ctx); err != nil {
		return blockstore.Block{}, fmt.Errorf("block %s was not asked for: %w", c, err)
	}
	defer seat.back(ctx)
	if b, err = s.others.Get(ctx, c); err != nil {
		return b, err
	}
	if err := seat.budget.got(len(b.RawData())); err != nil {
		return blockstore.Block{}, err
	}
	return b, nil
}

// inTurn has whatever may wait for others do so in turn.
func (cfg Config) inTurn() Config {
	if cfg.Local == nil {
		cfg.Local = cfg.Blocks
		cfg.Blocks = supply{denied: cfg.Denied, here: cfg.Local}
	} else {
		cfg.Blocks = supply{denied: cfg.Denied, here: cfg.Local, others: cfg.Blocks}
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
