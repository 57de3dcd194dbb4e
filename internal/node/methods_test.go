package node_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

func TestEveryErrorHasItsKind(t *testing.T) {
	for kind, errs := range map[control.Kind][]error{
		control.Usage: {author.ErrUsage, naming.ErrInvalidName, naming.ErrInvalidAlias, naming.ErrKeyExists, replicate.ErrInvalid,
			state.ErrConflict, p2p.ErrConfig, p2p.ErrAddress, os.ErrExist},
		control.NotFound: {author.ErrNoSite, naming.ErrNotFound, naming.ErrNoKey, blockstore.ErrNotFound, merkle.ErrNoPath,
			state.ErrNotFound, replicate.ErrNotFound, replicate.ErrNoToken, fs.ErrNotExist, &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}},
		control.Conflict: {&author.ConflictError{}, naming.ErrOlder},
		control.Unavailable: {&author.ShortError{}, &author.ShortError{Err: replicate.ErrInvalid}, node.ErrHeld, &node.HeldError{},
			author.ErrUnreachable, naming.ErrUnavailable, blockstore.ErrUnavailable, blockstore.ErrLocked, replicate.ErrUnavailable,
			replicate.ErrTooFewHosts, p2p.ErrOffline, context.DeadlineExceeded, &net.OpError{Op: "dial", Err: errors.New("refused")}},
		control.Corrupt: {blockstore.ErrCorrupt, blockstore.ErrRefused, merkle.ErrMalformed, naming.ErrInvalidRecord, naming.ErrInvalidKey,
			naming.ErrExpired, naming.ErrSignature, naming.ErrTooLarge, state.ErrCorrupt, p2p.ErrIdentity},
		control.Failed: {errors.New("anything"), fs.ErrPermission, replicate.ErrUnauthorized, replicate.ErrQuota, merkle.ErrUnsupported, merkle.ErrLimit},
	} {
		for _, err := range errs {
			if got := node.KindOf(fmt.Errorf("doing this: %w", err)); got != kind {
				t.Errorf("%v: %s, want %s", err, got, kind)
			}
		}
	}
}
