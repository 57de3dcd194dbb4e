package node

import (
	"context"
	"time"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
	"github.com/libp2p/go-libp2p/core/peer"
)

// TokenRequest asks for a token, or for an invite that carries one.
type TokenRequest struct {
	Label       string     `json:"address"`                 // for people
	Sites       []string   `json:"sites,omitempty"`         // names, aliases or domains; empty: any
	Quota       int64      `json:"quota_bytes,omitempty"`   // 0: no limit, here and below
	MaxPinBytes int64      `json:"max_pin_bytes,omitempty"` // of one pin
	Rate        int        `json:"requests_per_minute,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"` // nil: never
	Peer        string     `json:"peer,omitempty"`    // the host that gives room in return
}

// TokenInfo is a tenant's token, without the secret.
type TokenInfo struct {
	ID          string     `json:"id"`
	Label       string     `json:"label"`
	Created     string     `json:"created"`
	Used        *time.Time `json:"used"`        // when it was last accepted, to the minute; null: never
	Sites       []string   `json:"sites"`       // empty: any
	Quota       int64      `json:"quota_bytes"` // 0: no limit, here and below
	MaxPinBytes int64      `json:"max_pin_bytes"`
	Rate        int        `json:"requests_per_minute"`
	Expires     *time.Time `json:"expires"` // null: never
	Expired     bool       `json:"expired"`
	Peer        string     `json:"peer,omitempty"`
}

// NewToken is a token with its secret, which is shown once.
type NewToken struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	Token string `json:"token"`
}

// Tokens is the list, as an object.
type Tokens struct {
	Tokens []TokenInfo `json:"tokens"`
}

// scope reads what a token is to be good for.
func (n *Node) scope(ctx context.Context, p TokenRequest) (replicate.Scope, error) {
	s := replicate.Scope{Quota: p.Quota, MaxPinBytes: p.MaxPinBytes, Rate: p.Rate}
	for _, text := range p.Sites {
		name, err := naming.ParseName(text)
		if err != nil {
			if name, err = n.author.NameOf(ctx, text); err != nil {
				return s, err
			}
		}
		s.Sites = append(s.Sites, name)
	}
	if p.Expires != nil {
		if s.Expires = p.Expires.UTC().Truncate(time.Microsecond); !s.Expires.After(time.Now()) {
			return s, control.Errorf(control.Usage, "a token that ends on %s is no good", s.Expires.Format(time.RFC3339))
		}
	}
	if p.Peer != "" {
		id, err := peer.Decode(p.Peer)
		if err != nil {
			return s, control.Errorf(control.Usage, "%q is no peer id: %v", p.Peer, err)
		}
		s.Peer = id
	}
	return s, s.Check()
}

func (n *Node) createToken(ctx context.Context, p TokenRequest) (NewToken, error) {
	scope, err := n.scope(ctx, p)
	if err != nil {
		return NewToken{}, err
	}
	t, secret, err := replicate.CreateToken(ctx, n.state, p.Label, scope)
	if err != nil {
		return NewToken{}, err
	}
	return NewToken{ID: t.ID, Label: t.Label, Token: secret}, nil
}

func (n *Node) listTokens(ctx context.Context, _ struct{}) (Tokens, error) {
	ts, err := n.state.Tokens(ctx)
	if err != nil {
		return Tokens{}, err
	}
	out := Tokens{Tokens: []TokenInfo{}}
	for _, t := range ts {
		out.Tokens = append(out.Tokens, tokenInfo(t))
	}
	return out, nil
}

// revokeToken ends a token. Requests with it fail from then on, also those that are being read; what it pinned stays.
func (n *Node) revokeToken(ctx context.Context, p Address) (TokenInfo, error) {
	t, err := n.tokenOf(ctx, p.Address)
	if err != nil {
		return TokenInfo{}, err
	}
	return tokenInfo(t), n.state.RevokeToken(ctx, t.ID)
}

// tokenOf finds a token by its id, or by its label where that is no other's.
func (n *Node) tokenOf(ctx context.Context, which string) (replicate.Token, error) {
	ts, err := n.state.Tokens(ctx)
	if err != nil {
		return replicate.Token{}, err
	}
	var meant []replicate.Token
	for _, t := range ts {
		if t.ID == which {
			return t, nil
		}
		if t.Label == which {
			meant = append(meant, t)
		}
	}
	switch len(meant) {
	case 0:
		return replicate.Token{}, control.Errorf(control.NotFound, "no token %q; `holdfast token list` shows them", which)
	case 1:
		return meant[0], nil
	}
	return replicate.Token{}, control.Errorf(control.Usage, "%d tokens are labelled %q: name the one by its id, from `holdfast token list`", len(meant), which)
}

func tokenInfo(t replicate.Token) TokenInfo {
	info := TokenInfo{
		ID: t.ID, Label: t.Label, Created: t.Created.UTC().Format(time.RFC3339), Used: timeOrNil(t.Used), Sites: []string{},
		Quota: t.Quota, MaxPinBytes: t.MaxPinBytes, Rate: t.Rate, Expires: timeOrNil(t.Expires),
		Expired: !t.Expires.IsZero() && !time.Now().Before(t.Expires),
	}
	for _, name := range t.Sites {
		info.Sites = append(info.Sites, name.String())
	}
	if t.Peer != "" {
		info.Peer = t.Peer.String()
	}
	return info
}

// timeOrNil is null in JSON for the zero time.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
