package state

import (
	"context"

	"github.com/holdfast-sites/holdfast/naming"
)

const (
	// maxFollowers bounds what Followers lists.
	maxFollowers = 1000
	// maxWalk bounds the search from a name to those that lead to it, in names: strangers can make any number of names
	// that lead to one. Behind it the search begins at the followed names instead, which only we can make many of.
	maxWalk = 4096
)

// followed is the names that are kept alive for their own sake: sites, name pins, follows.
const followed = `SELECT name FROM sites
	UNION SELECT follow FROM pins WHERE follow <> '' AND removed = 0
	UNION SELECT name FROM follows`

// isFollowed is the same as a condition on up.name, which looks single rows up.
const isFollowed = `(EXISTS (SELECT 1 FROM sites WHERE name = up.name)
	OR EXISTS (SELECT 1 FROM pins WHERE follow = up.name AND follow <> '' AND removed = 0)
	OR EXISTS (SELECT 1 FROM follows WHERE name = up.name))`

// The searches along records.target. A chain is at most 32 records (docs/formats.md), so hop is at most 31. That
// also ends circles.
const (
	// keptNames is a table kept of the followed names and all that their chains reach.
	keptNames = `WITH RECURSIVE kept (name, hop) AS (
		SELECT name, 0 FROM (` + followed + `)
		UNION SELECT records.target, hop + 1 FROM kept JOIN records ON records.name = kept.name
		WHERE records.target <> '' AND hop < 31) `
	// chains is a table of each followed name with each name of its chain.
	chains = `WITH RECURSIVE chain (start, name, hop) AS (
		SELECT name, name, 0 FROM (` + followed + `)
		UNION SELECT start, records.target, hop + 1 FROM chain JOIN records ON records.name = chain.name
		WHERE records.target <> '' AND hop < 31) `
	// leading is a table of the names whose chains go through one name, nearest first.
	leading = `WITH RECURSIVE up (name, hop) AS (
		SELECT ?, 0
		UNION SELECT records.name, hop + 1 FROM up JOIN records ON records.target = up.name WHERE hop < 31
		LIMIT ?) `
)

// Followed tells whether a name is kept alive here: it is a site's, a name pin's or in Follows, or the chain of such a
// one goes through it. It looks at the records that are kept, expired or not, and asks nobody.
func (db *DB) Followed(ctx context.Context, n naming.Name) (bool, error) {
	if n.IsZero() {
		return false, nil
	}
	var found bool
	err := db.sql.QueryRowContext(ctx, `SELECT `+isFollowed+` FROM (SELECT ? AS name) AS up`, nameText(n)).Scan(&found)
	if found || err != nil {
		return found, db.fail("names", err)
	}
	var walked int
	err = db.sql.QueryRowContext(ctx, leading+`SELECT count(*), max(`+isFollowed+`) FROM up`, nameText(n), maxWalk).Scan(&walked, &found)
	if found || walked < maxWalk || err != nil {
		return found, db.fail("names", err)
	}
	names, err := db.Followers(ctx, n)
	return len(names) > 0, err
}

// Followers is the names whose chains go through n, of those that are sites, name pins or in Follows: whoever wants to
// know of a record of n. n itself is among them where it is one. At most 1000, in no order.
func (db *DB) Followers(ctx context.Context, n naming.Name) ([]naming.Name, error) {
	if n.IsZero() {
		return nil, nil // no target is spelled the same
	}
	var walked int
	err := db.sql.QueryRowContext(ctx, leading+`SELECT count(*) FROM up`, nameText(n), maxWalk).Scan(&walked)
	if err != nil {
		return nil, db.fail("names", err)
	}
	if walked < maxWalk {
		return all(ctx, db, "names", scanName, leading+`SELECT DISTINCT name FROM up WHERE `+isFollowed+` LIMIT ?`,
			nameText(n), maxWalk, maxFollowers)
	}
	return all(ctx, db, "names", scanName, chains+`SELECT DISTINCT start FROM chain WHERE name = ? LIMIT ?`, nameText(n), maxFollowers)
}

// KeptNames is all names that Followed tells of, each once.
func (db *DB) KeptNames(ctx context.Context) ([]naming.Name, error) {
	return all(ctx, db, "names", scanName, keptNames+`SELECT DISTINCT name FROM kept ORDER BY name`)
}

// PointingAt is names whose kept records lead to n directly, at most 16, whoever they are; those first that are followed
// for their own sake, so that strangers don't crowd them out.
func (db *DB) PointingAt(ctx context.Context, n naming.Name) ([]naming.Name, error) {
	return all(ctx, db, "names", scanName, `SELECT name
		FROM (SELECT name FROM records WHERE target = ? AND target <> '' LIMIT ?) AS up
		ORDER BY `+isFollowed+` DESC, name LIMIT 16`, nameText(n), maxWalk)
}

func scanName(r scanner) (n naming.Name, err error) { return n, r.Scan(nameCol{&n}) }
