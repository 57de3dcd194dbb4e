package state

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
)

const tokenColumns = `id, label, hash, created, used, sites, (SELECT quota FROM tenants WHERE id = tokens.id), max_pin, rate, expires, peer`

func scanToken(r scanner) (t replicate.Token, err error) {
	var hash []byte
	if err := r.Scan(&t.ID, &t.Label, &hash, timeCol{&t.Created}, timeCol{&t.Used}, namesCol{&t.Sites}, &t.Quota, &t.MaxPinBytes, &t.Rate,
		timeCol{&t.Expires}, peerCol{&t.Peer}); err != nil {
		return t, err
	}
	if len(hash) != len(t.Hash) {
		return t, fmt.Errorf("%w: token hash of %d bytes", ErrCorrupt, len(hash))
	}
	copy(t.Hash[:], hash)
	return t, nil
}

// PutToken implements replicate.TokenStore.
func (db *DB) PutToken(ctx context.Context, t replicate.Token) error {
	return db.tx(ctx, "token", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO tokens (id, label, hash, created, sites, max_pin, rate, expires, peer)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, t.ID, t.Label, t.Hash[:], micros(t.Created), namesText(t.Sites), t.MaxPinBytes, t.Rate,
			micros(t.Expires), peerText(t.Peer)); err != nil {
			return db.fail("token", err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO tenants (id, label, quota, exact) VALUES (?, ?, ?, 1)`, t.ID, t.Label, t.Quota)
		return db.fail("token", err)
	})
}

// TokenByHash implements replicate.TokenStore.
func (db *DB) TokenByHash(ctx context.Context, hash [sha256.Size]byte) (replicate.Token, error) {
	t, err := scanToken(db.sql.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE hash = ?`, hash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("token: %w", replicate.ErrNoToken)
	}
	return t, db.fail("token", err)
}

// Tokens implements replicate.TokenStore.
func (db *DB) Tokens(ctx context.Context) ([]replicate.Token, error) {
	return all(ctx, db, "tokens", scanToken, `SELECT `+tokenColumns+` FROM tokens ORDER BY created, id`)
}

// RevokeToken implements replicate.TokenStore.
func (db *DB) RevokeToken(ctx context.Context, id string) error {
	res, err := db.sql.ExecContext(ctx, `DELETE FROM tokens WHERE id = ?`, id)
	if err != nil {
		return db.fail("token", err)
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return fmt.Errorf("token %s: %w", id, replicate.ErrNoToken)
	}
	return nil
}

// NoteTokenUsed implements replicate.TokenStore.
func (db *DB) NoteTokenUsed(ctx context.Context, id string, at time.Time) error {
	_, err := db.quick.ExecContext(ctx, `UPDATE tokens SET used = ? WHERE id = ? AND used < ?`, micros(at), id, micros(at))
	return db.fail("token", err)
}
