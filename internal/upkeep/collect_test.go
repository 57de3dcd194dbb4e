package upkeep_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/upkeep"
)

func TestWhatIsTakenBackIsGivenBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := blockstore.NewMemory()
		care := upkeep.New(upkeep.Config{Store: store})
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- care.Serve(ctx) }()
		little := rawBlock(t, "little")
		put(t, store, little)
		synctest.Wait()
		care.CollectSoon()
		care.CollectSoon() // asked for twice is asked for once
		synctest.Wait()
		if infos, err := store.Stat(t.Context(), []cid.Cid{little.Cid()}); err != nil || infos[0].Present {
			t.Errorf("it is still there (%v)", err)
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
