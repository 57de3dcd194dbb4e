package replicate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// Token is what is kept of a bearer token: not the secret, only its SHA-256.
type Token struct {
	ID      string // also the id of its tenant
	Label   string
	Hash    [sha256.Size]byte
	Created time.Time
	Used    time.Time // when it was last accepted, to the minute; zero: never. Set by the store
	Scope
}

// Scope is what a token is good for. The zero value is everything, for ever.
type Scope struct {
	Sites       []naming.Name // the only ones that it may pin by name or site; nil: any
	Quota       int64         // unique bytes over all pins of the tenant, reserved ones too; 0: no limit
	MaxPinBytes int64         // of one pin; 0: the host's limit
	Rate        int           // requests a minute; 0: no limit
	Expires     time.Time     // zero: never. From then on the token is not accepted; what it pinned stays
	Peer        peer.ID       // the host that gives us room in return; empty: nobody
}

// MaxTokenSites bounds the sites that one token names.
const MaxTokenSites = 64

// Check refuses a scope that can't be meant. The error is an InvalidError.
func (s Scope) Check() error {
	switch {
	case s.Quota < 0, s.MaxPinBytes < 0, s.Rate < 0:
		return invalid("scope", "a negative limit")
	case len(s.Sites) > MaxTokenSites:
		return invalid("scope", "%d sites are more than %d", len(s.Sites), MaxTokenSites)
	}
	return nil
}

// expired tells whether the token's time is over.
func (s Scope) expired(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// covers refuses a pin of a site that the token is not for.
func (s Scope) covers(terms PinTerms) error {
	switch {
	case len(s.Sites) == 0 || !terms.Site.IsZero() && slices.Contains(s.Sites, terms.Site):
		return nil
	case terms.Site.IsZero():
		return fmt.Errorf("%w: this token is for certain sites only: say which by %s or %s", ErrForbidden, MetaName, MetaSite)
	}
	return fmt.Errorf("%w: this token is not for %s", ErrForbidden, terms.Site)
}

// ErrNoToken says that there is no such token.
var ErrNoToken = errors.New("no such token")

// ErrExpired says that a token's time is over. It is an ErrUnauthorized.
var ErrExpired = fmt.Errorf("%w: it has expired", ErrUnauthorized)

// TokenStore keeps tokens durably. Implemented by internal/state.
type TokenStore interface {
	// PutToken keeps a new token, and opens its tenant's account.
	PutToken(ctx context.Context, t Token) error
	// TokenByHash finds the token of a secret. ErrNoToken.
	TokenByHash(ctx context.Context, hash [sha256.Size]byte) (Token, error)
	// Tokens lists all, oldest first.
	Tokens(ctx context.Context) ([]Token, error)
	// RevokeToken erases a token; its tenant's pins stay, and its quota with them. ErrNoToken.
	RevokeToken(ctx context.Context, id string) error
	// NoteTokenUsed writes down that a token was accepted. It may be lost in a crash.
	NoteTokenUsed(ctx context.Context, id string, at time.Time) error
}

const (
	tokenPrefix   = "hft_"
	tokenSecret   = 32 // random bytes
	maxTokenBytes = 256
	maxTokenLabel = 255 // characters
	useSpacing    = time.Minute
)

// CreateToken makes a token and a tenant of its own. The secret is returned
// this once: the store has its hash only. ErrInvalid.
func CreateToken(ctx context.Context, ts TokenStore, label string, scope Scope) (t Token, secret string, err error) {
	if !utf8.ValidString(label) || utf8.RuneCountInString(label) > maxTokenLabel {
		return Token{}, "", invalid("label", "must be UTF-8 of at most %d characters", maxTokenLabel)
	}
	if err := scope.Check(); err != nil {
		return Token{}, "", err
	}
	raw := make([]byte, tokenSecret)
	rand.Read(raw) // never fails
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	t = Token{
		ID:      uuid.NewString(),
		Label:   label,
		Hash:    sha256.Sum256([]byte(secret)),
		Created: time.Now().UTC().Truncate(time.Microsecond),
		Scope:   scope,
	}
	if err := ts.PutToken(ctx, t); err != nil {
		return Token{}, "", err
	}
	return t, secret, nil
}

// Authenticate finds the tenant of a secret. ErrUnauthorized where there is none, ErrExpired where its time is
// over. What is looked up is the hash, so that timing tells nothing about the secret.
func Authenticate(ctx context.Context, ts TokenStore, secret string, now time.Time) (Tenant, error) {
	if len(secret) > maxTokenBytes || !strings.HasPrefix(secret, tokenPrefix) {
		return Tenant{}, ErrUnauthorized
	}
	h := sha256.Sum256([]byte(secret))
	t, err := ts.TokenByHash(ctx, h)
	if errors.Is(err, ErrNoToken) {
		return Tenant{}, ErrUnauthorized
	}
	if err != nil {
		return Tenant{}, err
	}
	if subtle.ConstantTimeCompare(t.Hash[:], h[:]) != 1 {
		return Tenant{}, ErrUnauthorized
	}
	if t.expired(now) {
		return Tenant{}, fmt.Errorf("%w, on %s", ErrExpired, t.Expires.UTC().Format(time.RFC3339))
	}
	if now.Sub(t.Used) >= useSpacing {
		if err := ts.NoteTokenUsed(ctx, t.ID, now); err != nil {
			return Tenant{}, err
		}
	}
	return Tenant{ID: t.ID, Label: t.Label, Scope: t.Scope}, nil
}
