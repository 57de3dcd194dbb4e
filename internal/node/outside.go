package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
)

// outside looks at a site as a stranger who knows the holders only.
type outside struct {
	cfg Config
	log *slog.Logger
}

// Look implements author.Outside. The identity is made for this look and
// thrown away: nothing that the holders know of us can help.
func (o outside) Look(ctx context.Context, name naming.Name, root cid.Cid, holders []peer.AddrInfo, samples []cid.Cid) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	psk, err := readPSK(o.cfg.P2P.PSKFile)
	if err != nil {
		return err
	}
	stranger, err := p2p.Open(ctx, p2p.Config{
		Identity: key, Network: p2p.Private, PSK: psk, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Store: blockstore.NewMemory(), CacheBytes: -1, Dial: o.cfg.Dial, ConnectTimeout: time.Duration(o.cfg.Timeouts.Connect), Log: o.log,
	})
	if err != nil {
		return err
	}
	defer stranger.Close()
	stranger.Trust(holders...)
	g, gctx := errgroup.WithContext(ctx)
	for _, h := range holders {
		hc := stranger.HTTPClient(h)
		g.Go(func() error {
			if err := readFrom(gctx, hc, h.ID, name, root, samples); err != nil {
				return fmt.Errorf("from %s: %w", h.ID, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// readFrom asks one holder for the name's record and for the samples.
func readFrom(ctx context.Context, hc *http.Client, id peer.ID, name naming.Name, root cid.Cid, samples []cid.Cid) error {
	base := "http://" + id.String()
	raw, err := naming.NewRoutingClient(id.String(), base, hc).Fetch(ctx, name)
	if err != nil {
		return err
	}
	rec, err := naming.OpenRecord(name, raw, time.Now())
	if err != nil {
		return err
	}
	if got, ok := rec.Root(); !ok || !got.Equals(root) {
		return fmt.Errorf("the name still leads to %s", rec.Value())
	}
	for _, c := range samples {
		if err := readBlock(ctx, hc, base, c); err != nil {
			return err
		}
	}
	return nil
}

func readBlock(ctx context.Context, hc *http.Client, base string, c cid.Cid) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/ipfs/"+c.String()+"?format=raw", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/vnd.ipld.raw")
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("block %s: %s", c, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, blockstore.MaxBlockSize+1))
	if err != nil {
		return err
	}
	_, err = blockstore.CheckBlock(c, b)
	return err
}

func ignoreNotFound(err error) error {
	if errors.Is(err, blockstore.ErrNotFound) {
		return nil
	}
	return err
}
