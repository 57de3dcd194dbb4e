package naming

import (
	"context"
	"sync"
)

// NewMemoryRecords is a Records that forgets everything, its floors too, when the process ends: for tests and for
// readers without a home. It is safe for concurrent use and grows with the number of names.
func NewMemoryRecords() Records { return &memoryRecords{best: map[Name]Record{}} }

type memoryRecords struct {
	mu   sync.Mutex
	best map[Name]Record
}

func (m *memoryRecords) Best(ctx context.Context, n Name) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.best[n]
	if !ok {
		return Record{}, ErrNotFound
	}
	return r, nil
}

func (m *memoryRecords) Accept(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	best := m.best[r.Name()]
	if r.Compare(best) < 0 {
		return &OlderError{Name: r.Name(), Offered: r.Sequence(), Floor: best.Sequence()}
	}
	if err := r.MayFollow(best); err != nil {
		return err
	}
	m.best[r.Name()] = r
	return nil
}
