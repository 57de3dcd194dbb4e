package state

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/replicate"
)

// SetTokenPeer notes which host gives us room in return for what the token of that hash is good for.
// replicate.ErrNoToken.
func (db *DB) SetTokenPeer(ctx context.Context, hash [sha256.Size]byte, id peer.ID) error {
	res, err := db.sql.ExecContext(ctx, `UPDATE tokens SET peer = ? WHERE hash = ?`, peerText(id), hash[:])
	if err != nil {
		return db.fail("token", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("token: %w", replicate.ErrNoToken)
	}
	return nil
}
