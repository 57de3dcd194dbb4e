package state

import (
	"context"
	"database/sql"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// Site is what an author knows of a site of theirs.
type Site struct {
	Name        naming.Name
	Alias       string // unique
	Root        cid.Cid
	Release     cid.Cid
	Policy      cid.Cid
	Number      uint64 // of the release
	Sequence    uint64 // of the record
	Files       int64
	Bytes       int64 // of file content
	Copies      int   // wanted
	PublishedAt time.Time
	ValidUntil  time.Time // of the record
	Live        bool      // seen from outside
	LiveAt      time.Time
	Dir         string // what was published
	DAGBytes    int64  // unique bytes of the root's blocks, which is what a holder needs room for; 0: not known
	Wants       Wants  // what was asked for, for the next publish and plan
}

// Wants is what an author asked for of a site's copies. A zero field was left to the defaults.
type Wants struct {
	Copies       *int          `json:"copies,omitempty"` // the fewest holders; 0: none at all
	MaxCopies    int           `json:"max_copies,omitempty"`
	Availability *int          `json:"availability,omitempty"`  // target in millionths; 0: none
	Regions      []string      `json:"regions,omitempty"`       // that may hold it
	BytesPerDay  int64         `json:"bytes_per_day,omitempty"` // that a plan may move beyond what the fewest copies need
	Keep         int           `json:"keep,omitempty"`          // releases that holders keep
	Lifetime     time.Duration `json:"lifetime,omitempty"`      // of the name
}

const siteColumns = `name, alias, root, release, policy, number, sequence, files, bytes, copies,
	published_at, valid_until, live, live_at, dir, dag_bytes, wants`

func scanSite(r scanner) (s Site, err error) {
	return s, r.Scan(nameCol{&s.Name}, &s.Alias, cidCol{&s.Root}, cidCol{&s.Release}, cidCol{&s.Policy},
		&s.Number, &s.Sequence, &s.Files, &s.Bytes, &s.Copies,
		timeCol{&s.PublishedAt}, timeCol{&s.ValidUntil}, &s.Live, timeCol{&s.LiveAt}, &s.Dir,
		&s.DAGBytes, jsonCol{&s.Wants})
}

// PutSite keeps a site under its name, in place of what was there. ErrConflict
// where another name has the alias.
func (db *DB) PutSite(ctx context.Context, s Site) error { return db.putSite(ctx, db.sql, s) }

// execer is the database, or a transaction in it.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// PutPublished writes down, in one step, what a publish has signed: the site's
// row, its release and the record. A kill leaves all of it or nothing.
// naming.ErrOlder, and none of it written, where a better record was accepted meanwhile.
func (db *DB) PutPublished(ctx context.Context, s Site, w ReleaseRow, r naming.Record) error {
	return db.accepting(ctx, "publish "+s.Alias, r, func(tx *sql.Tx) error {
		if err := db.putSite(ctx, tx, s); err != nil {
			return err
		}
		return db.putRelease(ctx, tx, w)
	})
}

// PutSigned is PutPublished for a record without a new release.
func (db *DB) PutSigned(ctx context.Context, s Site, r naming.Record) error {
	return db.accepting(ctx, "record of "+s.Alias, r, func(tx *sql.Tx) error { return db.putSite(ctx, tx, s) })
}

// RenameSite gives the alias to the site that has next, and archive to the one that has it now. Nothing where no site
// has next: then it was done before.
func (db *DB) RenameSite(ctx context.Context, alias, archive, next string) error {
	return db.tx(ctx, "rename "+alias, func(tx *sql.Tx) error {
		if found, err := exists(ctx, tx, `SELECT 1 FROM sites WHERE alias = ?`, next); err != nil || !found {
			return db.fail("site "+next, err)
		}
		for _, step := range [][2]string{{archive, alias}, {alias, next}} {
			if _, err := tx.ExecContext(ctx, `UPDATE sites SET alias = ? WHERE alias = ?`, step[0], step[1]); err != nil {
				return db.fail("site "+step[1], err)
			}
		}
		return nil
	})
}

func (db *DB) putSite(ctx context.Context, to execer, s Site) error {
	_, err := to.ExecContext(ctx, `INSERT INTO sites (`+siteColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET alias = excluded.alias, root = excluded.root, release = excluded.release,
			policy = excluded.policy, number = excluded.number, sequence = excluded.sequence, files = excluded.files,
			bytes = excluded.bytes, copies = excluded.copies, published_at = excluded.published_at,
			valid_until = excluded.valid_until, live = excluded.live, live_at = excluded.live_at, dir = excluded.dir,
			dag_bytes = excluded.dag_bytes, wants = excluded.wants`,
		s.Name.String(), s.Alias, cidText(s.Root), cidText(s.Release), cidText(s.Policy), int64(s.Number), int64(s.Sequence),
		s.Files, s.Bytes, s.Copies, micros(s.PublishedAt), micros(s.ValidUntil), s.Live, micros(s.LiveAt), s.Dir,
		s.DAGBytes, jsonText(s.Wants))
	return db.fail("site "+s.Alias, err)
}

// SiteByAlias finds a site. ErrNotFound.
func (db *DB) SiteByAlias(ctx context.Context, alias string) (Site, error) {
	s, err := scanSite(db.sql.QueryRowContext(ctx, `SELECT `+siteColumns+` FROM sites WHERE alias = ?`, alias))
	return s, db.fail("site "+alias, err)
}

// SiteByName finds a site. ErrNotFound.
func (db *DB) SiteByName(ctx context.Context, n naming.Name) (Site, error) {
	s, err := scanSite(db.sql.QueryRowContext(ctx, `SELECT `+siteColumns+` FROM sites WHERE name = ?`, nameText(n)))
	return s, db.fail("site "+nameText(n), err)
}

// Sites lists all, by alias.
func (db *DB) Sites(ctx context.Context) ([]Site, error) {
	return all(ctx, db, "sites", scanSite, `SELECT `+siteColumns+` FROM sites ORDER BY alias`)
}

// ReleaseRow is one published version, as listed by history.
type ReleaseRow struct {
	Site     naming.Name
	Number   uint64
	CID      cid.Cid // of the release block
	Root     cid.Cid
	Sequence uint64 // of the record that published it first
	Time     time.Time
	Message  string
	Files    int64
	Bytes    int64
}

const releaseColumns = `site, cid, number, root, sequence, time, message, files, bytes`

func scanRelease(r scanner) (w ReleaseRow, err error) {
	return w, r.Scan(nameCol{&w.Site}, cidCol{&w.CID}, &w.Number, cidCol{&w.Root}, &w.Sequence, timeCol{&w.Time},
		&w.Message, &w.Files, &w.Bytes)
}

// PutRelease keeps a release under its CID, in place of what was there.
func (db *DB) PutRelease(ctx context.Context, w ReleaseRow) error {
	return db.putRelease(ctx, db.sql, w)
}

func (db *DB) putRelease(ctx context.Context, to execer, w ReleaseRow) error {
	_, err := to.ExecContext(ctx, `INSERT INTO releases (`+releaseColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (site, cid) DO UPDATE SET number = excluded.number, root = excluded.root, sequence = excluded.sequence,
			time = excluded.time, message = excluded.message, files = excluded.files, bytes = excluded.bytes`,
		w.Site.String(), w.CID.String(), int64(w.Number), cidText(w.Root), int64(w.Sequence), micros(w.Time), w.Message, w.Files, w.Bytes)
	return db.fail("release", err)
}

// Releases lists a site's, newest first.
func (db *DB) Releases(ctx context.Context, n naming.Name) ([]ReleaseRow, error) {
	return all(ctx, db, "releases", scanRelease,
		`SELECT `+releaseColumns+` FROM releases WHERE site = ? ORDER BY number DESC, time DESC`, nameText(n))
}

// PutWants notes what is wanted of a site from now on. Nothing where there is no such site.
func (db *DB) PutWants(ctx context.Context, n naming.Name, w Wants) error {
	_, err := db.sql.ExecContext(ctx, `UPDATE sites SET wants = ? WHERE name = ?`, jsonText(w), nameText(n))
	return db.fail("site "+nameText(n), err)
}
