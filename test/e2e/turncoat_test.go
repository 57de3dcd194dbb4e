package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// What becomes of a turncoat: the content of the file "turned" in its folder. Without the file it is honest.
const (
	turnDrop  = "drop"   // it has lost all pages, and says so when it is asked for a proof
	turnForge = "forge"  // it has lost them, and makes them up where nobody can tell but by the proof
	turnProxy = "proxy " // and a gateway's URL: it has lost them, and answers with what it gets there
)

// turncoat is honest until it turns.
func turncoat(home string) lies {
	return lies{
		show:  func(s blockstore.Store) blockstore.Store { return turnable{s, home} },
		prove: func(s blockstore.Store) blockstore.Getter { return forging{s.(turnable)} },
	}
}

// turnable is the store of a host that may turn.
type turnable struct {
	blockstore.Store
	home string
}

func (t turnable) turned() string {
	b, err := os.ReadFile(filepath.Join(t.home, "turned"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return string(b)
}

// Get implements blockstore.Getter.
func (t turnable) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	how := t.turned()
	switch {
	case how == "" || c.Type() != cid.Raw:
		return t.Store.Get(ctx, c)
	case strings.HasPrefix(how, turnProxy):
		return getFrom(ctx, strings.TrimPrefix(how, turnProxy), c)
	}
	return blockstore.Block{}, fmt.Errorf("%w: %s", blockstore.ErrNotFound, c)
}

// getFrom gets a block from a gateway.
func getFrom(ctx context.Context, gateway string, c cid.Cid) (b blockstore.Block, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		return b, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return b, fmt.Errorf("%w: %w", blockstore.ErrNotFound, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return b, fmt.Errorf("%w: %s, %v", blockstore.ErrNotFound, resp.Status, err)
	}
	return blockstore.CheckBlock(c, data)
}

// forging is what a turncoat computes its proofs from.
type forging struct{ turnable }

// Get implements blockstore.Getter.
func (f forging) Get(ctx context.Context, c cid.Cid) (blockstore.Block, error) {
	if f.turned() != turnForge {
		return f.turnable.Get(ctx, c)
	}
	return inventor{f.turnable}.Get(ctx, c)
}

// turn has a turncoat do so.
func (w *world) turn(host, how string) {
	w.t.Helper()
	w.writeFiles(host, map[string][]byte{"turned": []byte(how)})
}
