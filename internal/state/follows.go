package state

import (
	"context"

	"github.com/holdfast-sites/holdfast/naming"
)

// Follow keeps a name alive here, though it is no site's and nobody pins it. Doing so again changes nothing.
func (db *DB) Follow(ctx context.Context, n naming.Name) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO follows (name, added) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`,
		n.String(), micros(db.now()))
	return db.fail("follow "+n.String(), err)
}

// Unfollow takes Follow back; none there is no error.
func (db *DB) Unfollow(ctx context.Context, n naming.Name) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM follows WHERE name = ?`, nameText(n))
	return db.fail("unfollow "+nameText(n), err)
}

// Follows is the names given to Follow, oldest first.
func (db *DB) Follows(ctx context.Context) ([]naming.Name, error) {
	return all(ctx, db, "follows", scanName, `SELECT name FROM follows ORDER BY added, name`)
}
