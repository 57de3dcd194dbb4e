package state

import (
	"context"
	"database/sql"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// isStandby is a condition on pins; its argument is replicate.MetaRole, then replicate.RoleStandby.
const isStandby = `EXISTS (SELECT 1 FROM pin_meta WHERE pin = pins.id AND key = ? AND value = ?)`

// NamePins implements replicate.StandbyStore.
func (db *DB) NamePins(ctx context.Context, n naming.Name) ([]replicate.PinRow, error) {
	return all(ctx, db, "pins", scanPin, `SELECT `+pinColumns+` FROM pins
		WHERE removed = 0 AND follow <> '' AND (follow = ? OR ? = '') ORDER BY follow, created, id`, nameText(n), nameText(n))
}

// BeginTurn implements replicate.StandbyStore.
func (db *DB) BeginTurn(ctx context.Context, n naming.Name, now time.Time) (active int, err error) {
	err = db.tx(ctx, "standby", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE pins SET active = ?, due = CASE WHEN due = 0 THEN ? ELSE min(due, ?) END
			WHERE follow = ? AND follow <> '' AND removed = 0 AND status = ? AND active = 0 AND `+isStandby,
			micros(now), micros(now), micros(now), nameText(n), replicate.Pinned, replicate.MetaRole, replicate.RoleStandby); err != nil {
			return db.fail("standby", err)
		}
		return db.fail("standby", tx.QueryRowContext(ctx,
			`SELECT count(*) FROM pins WHERE follow = ? AND removed = 0 AND active <> 0`, nameText(n)).Scan(&active))
	})
	return active, err
}

// EndTurn implements replicate.StandbyStore.
func (db *DB) EndTurn(ctx context.Context, n naming.Name, now time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE pins SET active = 0, holds = 0, due = CASE WHEN due = 0 THEN ? ELSE min(due, ?) END
		WHERE follow = ? AND follow <> '' AND active <> 0`, micros(now), micros(now), nameText(n))
	return db.fail("standby", err)
}

// NoteHolds implements replicate.StandbyStore.
func (db *DB) NoteHolds(ctx context.Context, id string, at time.Time) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE pins SET holds = ? WHERE id = ? AND active <> 0 AND holds = 0`, micros(at), id)
	return db.fail("standby", err)
}
