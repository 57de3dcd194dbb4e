package replicate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
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

// ErrNoToken says that there is no such token.
var ErrNoToken = errors.New("no such token")

// TokenStore keeps tokens durably. Implemented by internal/state.
type TokenStore interface {
	PutToken(ctx context.Context, t Token) error
	// TokenByHash finds the token of a secret. ErrNoToken.
	TokenByHash(ctx context.Context, hash [sha256.Size]byte) (Token, error)
	// Tokens lists all, oldest first.
	Tokens(ctx context.Context) ([]Token, error)
	// RevokeToken erases a token; its tenant's pins stay. ErrNoToken.
	RevokeToken(ctx context.Context, id string) error
}

const (
	tokenPrefix   = "hft_"
	tokenSecret   = 32 // random bytes
	maxTokenBytes = 256
	maxTokenLabel = 255 // characters
)

// CreateToken makes a token and a tenant of its own. The secret is returned
// this once: the store has its hash only.
func CreateToken(ctx context.Context, ts TokenStore, label string) (t Token, secret string, err error) {
	if !utf8.ValidString(label) || utf8.RuneCountInString(label) > maxTokenLabel {
		return Token{}, "", invalid("label", "must be UTF-8 of at most %d characters", maxTokenLabel)
	}
	raw := make([]byte, tokenSecret)
	rand.Read(raw) // never fails
	secret = tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	t = Token{
		ID:      uuid.NewString(),
		Label:   label,
		Hash:    sha256.Sum256([]byte(secret)),
		Created: time.Now().UTC().Truncate(time.Microsecond),
	}
	if err := ts.PutToken(ctx, t); err != nil {
		return Token{}, "", err
	}
	return t, secret, nil
}

// Authenticate finds the tenant of a secret. ErrUnauthorized where there is none. What
// is looked up is the hash, so that timing tells nothing about the secret.
func Authenticate(ctx context.Context, ts TokenStore, secret string) (Tenant, error) {
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
	return Tenant{ID: t.ID, Label: t.Label}, nil
}
