package state

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/holdfast-sites/holdfast/naming"
)

// Best implements naming.Records.
func (db *DB) Best(ctx context.Context, n naming.Name) (naming.Record, error) {
	var raw []byte
	err := db.sql.QueryRowContext(ctx, `SELECT bytes FROM records WHERE name = ?`, nameText(n)).Scan(&raw)
	if errors.Is(err, sql.ErrNoRows) {
		return naming.Record{}, fmt.Errorf("%s: %w", n, naming.ErrNotFound)
	}
	if err != nil {
		return naming.Record{}, db.fail("record", err)
	}
	rec, err := naming.OpenStored(n, raw)
	if err != nil {
		return naming.Record{}, fmt.Errorf("%s: record of %s: %w: %w", db.path, n, ErrCorrupt, err)
	}
	return rec, nil
}

// Accept implements naming.Records. The transaction holds the write lock from
// its start, so reading and writing are one step, also between processes.
func (db *DB) Accept(ctx context.Context, r naming.Record) error {
	return db.tx(ctx, "record", func(tx *sql.Tx) error { return db.accept(ctx, tx, r) })
}

func (db *DB) accept(ctx context.Context, tx *sql.Tx, r naming.Record) error {
	var floor uint64
	var raw []byte
	err := tx.QueryRowContext(ctx, `SELECT sequence, bytes FROM records WHERE name = ?`, r.Name().String()).Scan(&floor, &raw)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return db.fail("record", err)
	case bytes.Equal(raw, r.Bytes()):
		return nil
	case r.Sequence() < floor || r.Sequence() == floor && !beats(r, raw):
		return &naming.OlderError{Name: r.Name(), Offered: r.Sequence(), Floor: floor}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO records (name, sequence, bytes) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, bytes = excluded.bytes
		WHERE excluded.sequence >= sequence`,
		r.Name().String(), int64(r.Sequence()), r.Bytes())
	return db.fail("record", err)
}

// beats compares with what is stored. Bytes that can't be read any more lose:
// the floor beside them still holds.
func beats(r naming.Record, stored []byte) bool {
	old, err := naming.OpenStored(r.Name(), stored)
	return err != nil || r.Compare(old) > 0
}
