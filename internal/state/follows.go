package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Follow is a name that is kept alive here, though it is no site's of ours and no tenant's pin.
type Follow struct {
	Name  naming.Name
	Keep  int   // of how many of its roots, newest first, the content is kept too; 0: only the record
	Quota int64 // unique bytes that they may take; 0: the node's limit for a pin
	Added time.Time
}

func scanFollow(r scanner) (f Follow, err error) {
	return f, r.Scan(nameCol{&f.Name}, &f.Keep, &f.Quota, timeCol{&f.Added})
}

// Follow keeps a name alive here. Doing so again changes nothing.
func (db *DB) Follow(ctx context.Context, n naming.Name) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO follows (name, added) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`,
		n.String(), micros(db.now()))
	return db.fail("follow "+n.String(), err)
}

// FollowCopy is Follow, and says how much of the site's content is wanted here, in place of what was said before.
func (db *DB) FollowCopy(ctx context.Context, n naming.Name, keep int, quota int64) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO follows (name, added, keep, quota) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET keep = excluded.keep, quota = excluded.quota`, n.String(), micros(db.now()), keep, quota)
	return db.fail("follow "+n.String(), err)
}

// Unfollow takes Follow back; none there is no error.
func (db *DB) Unfollow(ctx context.Context, n naming.Name) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM follows WHERE name = ?`, nameText(n))
	return db.fail("unfollow "+nameText(n), err)
}

// Follows is the names given to Follow, oldest first.
func (db *DB) Follows(ctx context.Context) ([]Follow, error) {
	return all(ctx, db, "follows", scanFollow, `SELECT name, keep, quota, added FROM follows ORDER BY added, name`)
}

// FollowOf finds one of Follows. ErrNotFound.
func (db *DB) FollowOf(ctx context.Context, n naming.Name) (Follow, error) {
	f, err := scanFollow(db.sql.QueryRowContext(ctx, `SELECT name, keep, quota, added FROM follows WHERE name = ?`, nameText(n)))
	return f, db.fail("follow "+nameText(n), err)
}

// TenantPins is all pins of a tenant, oldest first.
func (db *DB) TenantPins(ctx context.Context, tenant string) ([]replicate.PinRow, error) {
	return all(ctx, db, "pins", scanPin, `SELECT `+pinColumns+` FROM pins WHERE tenant = ? AND removed = 0 ORDER BY created, id`, tenant)
}

// ReplacePinMeta gives a pin that by has leased another meta, and has it done anew: what broke a limit before is tried again. replicate.ErrLeased where
// the claim was lost, or the row removed. The name that it follows must stay the same.
func (db *DB) ReplacePinMeta(ctx context.Context, row replicate.PinRow, by string, meta map[string]string) error {
	return db.tx(ctx, "pin", func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE pins SET refused = '', refused_need = 0, attempts = 0, failing = 0, last_error = '', due = 1
			WHERE id = ? AND leased_by = ? AND removed = 0 AND follow = ?`, row.ID, by, meta[replicate.MetaName])
		if err := db.heldResult("pin", row.ID, res, err); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM pin_meta WHERE pin = ?`, row.ID); err != nil {
			return db.fail("pin", err)
		}
		for k, v := range meta {
			if _, err := tx.ExecContext(ctx, `INSERT INTO pin_meta (pin, key, value) VALUES (?, ?, ?)`, row.ID, k, v); err != nil {
				return db.fail("pin", fmt.Errorf("meta: %w", err))
			}
		}
		return nil
	})
}
