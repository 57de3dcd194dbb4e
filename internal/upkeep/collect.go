package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// CollectRequest asks for a collection.
type CollectRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// Collected is what a collection gave back, or in a dry run would.
type Collected struct {
	DryRun bool  `json:"dry_run"`
	Blocks int64 `json:"blocks"`
	Bytes  int64 `json:"bytes"` // of the blocks
	Disk   int64 `json:"disk"`  // bytes of disk; 0 in a dry run
}

// A collection says how far it is after so long, and each time as long again.
const tellCollection = 2 * time.Second

// Collect gives back what nobody keeps.
func (c *Caretaker) Collect(ctx context.Context, req CollectRequest, report func(Event)) (Collected, error) {
	tell := seldom(tellCollection, report)
	got, err := c.cfg.Store.Collect(ctx, blockstore.CollectOptions{
		DryRun:   req.DryRun,
		Progress: func(n int64) { tell(Event{Step: "gc", Message: fmt.Sprintf("%d blocks looked at", n)}) },
	})
	if errors.Is(err, blockstore.ErrCorrupt) {
		err = fmt.Errorf("what is kept can't be read, so nothing is given back; `holdfast verify` says what is damaged: %w", err)
	}
	return Collected{DryRun: req.DryRun, Blocks: got.Blocks, Bytes: got.Bytes, Disk: got.Disk}, err
}

// When Serve collects: where more than this lies around, and at every so manieth
// look whatever lies around.
const (
	enoughGarbage = 64 << 20 // bytes, and a twentieth of what is kept
	anyway        = 24
)

// collectNowAndThen looks on a timer whether there is something to collect: what
// was released, and what came and was never kept.
func (c *Caretaker) collectNowAndThen(ctx context.Context) {
	t := time.NewTicker(c.cfg.CollectEvery)
	defer t.Stop()
	for look := 1; ; look++ {
		select {
		case <-t.C:
		case <-c.soon:
			if !c.collectAtOnce(ctx) {
				return
			}
			continue
		case <-ctx.Done():
			return
		}
		worth, err := c.worthCollecting(ctx)
		if err == nil && (worth || look%anyway == 0) {
			err = c.collectNow(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error("collect what nobody keeps", "err", err)
		}
	}
}

// CollectSoon has Serve collect at once: something was released that nobody is to have any more. Whoever asks often
// makes it wait, so that a collection never takes more than a twentieth of the time.
func (c *Caretaker) CollectSoon() {
	select {
	case c.soon <- struct{}{}:
	default:
	}
}

// pauseFactor is how many times as long as a collection took the next one waits, if only somebody asks for it.
const pauseFactor = 20

// collectAtOnce collects, and then pauses. It tells whether Serve goes on.
func (c *Caretaker) collectAtOnce(ctx context.Context) bool {
	began := time.Now()
	if err := c.collectNow(ctx); err != nil && ctx.Err() == nil {
		c.log.Error("collect what nobody keeps", "err", err)
	}
	took := time.Since(began)
	if took <= 0 {
		return ctx.Err() == nil
	}
	pause := time.NewTimer(pauseFactor * took)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// worthCollecting compares what the store takes with what is kept.
func (c *Caretaker) worthCollecting(ctx context.Context) (bool, error) {
	size, err := c.cfg.Store.Size(ctx)
	if err != nil {
		return false, err
	}
	kept, err := c.cfg.Store.Usage(ctx, "")
	return size-kept.Bytes > enoughGarbage+kept.Bytes/20, err
}

func (c *Caretaker) collectNow(ctx context.Context) error {
	got, err := c.Collect(ctx, CollectRequest{}, func(Event) {})
	if err == nil && got.Blocks > 0 {
		c.log.Info("collected what nobody keeps", "blocks", got.Blocks, "bytes", got.Bytes, "disk", got.Disk)
	}
	return err
}
