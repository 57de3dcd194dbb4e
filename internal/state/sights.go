package state

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const sightColumns = `asked, held, absent, since, ask, gone, trial`

func sightDest(s *replicate.Sighting) []any {
	return []any{timeCol{&s.Proofs.Asked}, timeCol{&s.Proofs.Held}, timeCol{&s.Proofs.Absent}, timeCol{&s.Proofs.Since},
		timeCol{&s.Ask}, timeCol{&s.Gone}, jsonCol{&s.Trial}}
}

// Sightings implements replicate.KeeperStore.
func (db *DB) Sightings(ctx context.Context, site naming.Name) (map[peer.ID]replicate.Sighting, error) {
	type row struct {
		host  peer.ID
		sight replicate.Sighting
	}
	scan := func(r scanner) (p row, err error) {
		return p, r.Scan(append([]any{peerCol{&p.host}}, sightDest(&p.sight)...)...)
	}
	rows, err := all(ctx, db, "sights", scan, `SELECT host, `+sightColumns+` FROM sights WHERE site = ?`, nameText(site))
	out := make(map[peer.ID]replicate.Sighting, len(rows))
	for _, r := range rows {
		out[r.host] = r.sight
	}
	return out, err
}

// Sighted implements replicate.KeeperStore.
func (db *DB) Sighted(ctx context.Context, site naming.Name, host peer.ID, change func(*replicate.Sighting)) error {
	return db.tx(ctx, "sight", func(tx *sql.Tx) error {
		var s replicate.Sighting
		err := tx.QueryRowContext(ctx, `SELECT `+sightColumns+` FROM sights WHERE site = ? AND host = ?`, nameText(site), peerText(host)).
			Scan(sightDest(&s)...)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return db.fail("sight", err)
		}
		change(&s)
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO sights (site, host, `+sightColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			nameText(site), peerText(host), micros(s.Proofs.Asked), micros(s.Proofs.Held), micros(s.Proofs.Absent), micros(s.Proofs.Since),
			micros(s.Ask), micros(s.Gone), jsonText(s.Trial))
		return db.fail("sight", err)
	})
}

// ForgetMember implements replicate.KeeperStore.
func (db *DB) ForgetMember(ctx context.Context, site naming.Name, host peer.ID) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM sights WHERE site = ? AND host = ?`, nameText(site), peerText(host))
	return db.fail("sight", err)
}

// Watch implements replicate.KeeperStore.
func (db *DB) Watch(ctx context.Context, site naming.Name) (w replicate.Watch, err error) {
	var jitter int64
	err = db.sql.QueryRowContext(ctx, `SELECT short, jitter, failing FROM watches WHERE site = ?`, nameText(site)).
		Scan(timeCol{&w.Short}, &jitter, timeCol{&w.Failing})
	if errors.Is(err, sql.ErrNoRows) {
		return replicate.Watch{}, nil
	}
	w.Jitter = time.Duration(jitter) * time.Microsecond
	return w, db.fail("watch", err)
}

// PutWatch implements replicate.KeeperStore.
func (db *DB) PutWatch(ctx context.Context, site naming.Name, w replicate.Watch) error {
	_, err := db.sql.ExecContext(ctx, `INSERT OR REPLACE INTO watches (site, short, jitter, failing) VALUES (?, ?, ?, ?)`,
		nameText(site), micros(w.Short), w.Jitter.Microseconds(), micros(w.Failing))
	return db.fail("watch", err)
}

// WatchedSites implements replicate.KeeperStore.
func (db *DB) WatchedSites(ctx context.Context) ([]naming.Name, error) {
	return all(ctx, db, "watches", scanName, `SELECT site FROM watches UNION SELECT site FROM sights ORDER BY 1`)
}

// ForgetSite implements replicate.KeeperStore.
func (db *DB) ForgetSite(ctx context.Context, site naming.Name) error {
	return db.tx(ctx, "watch", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM watches WHERE site = ?`, nameText(site))
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM sights WHERE site = ?`, nameText(site))
		}
		return db.fail("watch", err)
	})
}
