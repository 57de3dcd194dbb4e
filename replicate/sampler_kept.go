package replicate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// KeptHeader is a request's header that names a root: the block is wanted only from who keeps all that is
// below it. Whoever has let go of a site still has its blocks until they are collected, and is no holder.
const KeptHeader = "Holdfast-If-Kept"

// IfKept answers requests with KeptHeader by 412 where that root isn't kept here, before h sees them.
func IfKept(blocks blockstore.Store, h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.Header.Get(KeptHeader)
		if asked == "" {
			h.ServeHTTP(w, r)
			return
		}
		root, err := cid.Decode(asked)
		if err == nil {
			err = blockstore.CheckCID(root)
		}
		if err != nil {
			http.Error(w, KeptHeader+" names no root", http.StatusBadRequest)
			return
		}
		switch kept, err := keeps(r.Context(), blocks, root); {
		case err != nil:
			log.Error("whether a root is kept", "root", root, "err", err)
			http.Error(w, "this host can't tell now", http.StatusInternalServerError)
		case !kept:
			http.Error(w, root.String()+" is not kept here", http.StatusPreconditionFailed)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// keeps tells whether a root is kept whole, by anybody.
func keeps(ctx context.Context, blocks blockstore.Store, root cid.Cid) (bool, error) {
	for _, err := range blocks.KeptCIDs(ctx, root) {
		if errors.Is(err, blockstore.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	return false, nil
}
