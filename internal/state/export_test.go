package state

import (
	"context"
	"time"
)

// SetNow gives the DB a clock of the test's.
func (db *DB) SetNow(now func() time.Time) { db.now = now }

// SetMaxStrangers makes the bound small enough to be reached.
func (db *DB) SetMaxStrangers(n int) { db.maxStrangers = n }

// MaxWalk is how many names the search upwards looks at.
const MaxWalk = maxWalk

// Exec runs a statement behind the DB's back.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	_, err := db.sql.ExecContext(ctx, query, args...)
	return err
}

// Plan is how SQLite would run a query.
func (db *DB) Plan(ctx context.Context, query string, args ...any) ([]string, error) {
	scan := func(r scanner) (detail string, err error) {
		var id, parent, unused int
		return detail, r.Scan(&id, &parent, &unused, &detail)
	}
	return all(ctx, db, "plan", scan, "EXPLAIN QUERY PLAN "+query, args...)
}

// LeadingQuery is the search of Followers.
const LeadingQuery = leading + `SELECT DISTINCT name FROM up WHERE ` + isFollowed
