package author

import (
	"context"
	"fmt"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// Owner is somebody on whose behalf the flows keep roots in the block store.
type Owner struct {
	ID     string // as the store knows it
	Label  string // for people
	Advice string // what to do about blocks that nobody has any more
	// Sources is who else is likely to have what is kept.
	Sources func(ctx context.Context) []peer.AddrInfo
	// Restore puts into the session what is at hand of it elsewhere on this machine. It may be nil.
	Restore func(ctx context.Context, into blockstore.Session) error
	// Partial says that a root of codec raw may stand for a DAG that is kept in part.
	Partial bool
}

// Owners lists them: each site that was published here, and what was imported
// or built by hand.
func (a *Author) Owners(ctx context.Context) ([]Owner, error) {
	sites, err := a.State.Sites(ctx)
	if err != nil {
		return nil, err
	}
	out := []Owner{{
		ID: importOwner, Label: "what was imported or built", Partial: true,
		Advice: "what was imported or built: import or build it again",
		Sources: func(ctx context.Context) []peer.AddrInfo {
			hosts, _ := a.HostAddrs(ctx) // without them there are the others
			return append(hosts, a.Peers()...)
		},
	}}
	for _, s := range sites {
		advice := fmt.Sprintf("site %s: publish it again from its folder", strconv.Quote(s.Alias))
		if s.Dir != "" {
			advice += fmt.Sprintf(": `holdfast publish %s --site %s`", s.Dir, s.Alias)
		}
		var restore func(context.Context, blockstore.Session) error
		if s.Dir != "" {
			restore = func(ctx context.Context, into blockstore.Session) error {
				_, err := merkle.Build(ctx, into, s.Dir, merkle.BuildOptions{})
				return err
			}
		}
		out = append(out, Owner{
			Restore: restore,
			ID:      owner(s.Name), Label: "site " + strconv.Quote(s.Alias), Advice: advice,
			Sources: func(ctx context.Context) []peer.AddrInfo {
				hosts, _ := a.HostAddrs(ctx)
				return append(append(hosts, a.Holders(ctx, s.Name)...), a.Peers()...)
			},
		})
	}
	return out, nil
}

// Holders is whom the policy of a site's best known record names; none where
// that can't be had.
func (a *Author) Holders(ctx context.Context, name naming.Name) []peer.AddrInfo {
	rec, err := a.State.Best(ctx, name)
	if err != nil {
		return nil
	}
	return a.roster(ctx, rec.Policy())
}
