package author

import (
	"context"
	"sync"
)

// turns lets one flow at a time work on a site, by its alias: the key that the
// alias stands for, and what is wanted of the site, are read in the turn too. It
// orders the flows of one process; two processes are kept apart by the home's
// lock, and two machines by the sequence rule.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{}
}

// take waits for the turn; done gives it back.
func (t *turns) take(ctx context.Context, key string) (done func(), err error) {
	for {
		t.mu.Lock()
		if t.taken == nil {
			t.taken = make(map[string]chan struct{})
		}
		busy, ok := t.taken[key]
		if !ok {
			mine := make(chan struct{})
			t.taken[key] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, key)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
