package state

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/replicate"
)

var _ replicate.KeeperStore = (*DB)(nil)

// Presences implements replicate.KeeperStore.
func (db *DB) Presences(ctx context.Context) (map[peer.ID]replicate.Seen, error) {
	type row struct {
		host peer.ID
		seen replicate.Seen
	}
	scan := func(r scanner) (p row, err error) {
		return p, r.Scan(peerCol{&p.host}, jsonCol{&p.seen.Presence}, jsonCol{&p.seen.Calls})
	}
	rows, err := all(ctx, db, "presences", scan, `SELECT host, presence, calls FROM presences`)
	out := make(map[peer.ID]replicate.Seen, len(rows))
	for _, r := range rows {
		out[r.host] = r.seen
	}
	return out, err
}

// Look implements replicate.KeeperStore. Like NotePut it may be lost in a power cut: the next look comes soon.
func (db *DB) Look(ctx context.Context, host peer.ID, at time.Time, up bool, t replicate.Times) error {
	return txOn(ctx, db, db.quick, "presence", func(tx *sql.Tx) error {
		var seen replicate.Seen
		err := tx.QueryRowContext(ctx, `SELECT presence, calls FROM presences WHERE host = ?`, peerText(host)).
			Scan(jsonCol{&seen.Presence}, jsonCol{&seen.Calls})
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return db.fail("presence", err)
		}
		seen.Look(at, up, t)
		_, err = tx.ExecContext(ctx, `INSERT INTO presences (host, presence, calls) VALUES (?, ?, ?)
			ON CONFLICT (host) DO UPDATE SET presence = excluded.presence, calls = excluded.calls`,
			peerText(host), jsonText(seen.Presence), jsonText(seen.Calls))
		return db.fail("presence", err)
	})
}

// ForgetHost implements replicate.KeeperStore.
func (db *DB) ForgetHost(ctx context.Context, host peer.ID) error {
	_, err := db.sql.ExecContext(ctx, `DELETE FROM presences WHERE host = ?`, peerText(host))
	return db.fail("presence", err)
}
