package state

import (
	"context"
	"database/sql"
	"encoding/binary"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

func scanEvent(r scanner) (e replicate.Event, err error) {
	return e, r.Scan(nameCol{&e.Site}, peerCol{&e.Host}, timeCol{&e.At}, &e.Kind, &e.Detail)
}

// AddEvent implements replicate.KeeperStore.
func (db *DB) AddEvent(ctx context.Context, e replicate.Event) error {
	return db.tx(ctx, "event", func(tx *sql.Tx) error {
		site := nameText(e.Site)
		res, err := tx.ExecContext(ctx, `INSERT INTO events (site, host, at, kind, detail) VALUES (?, ?, ?, ?, ?)`,
			site, peerText(e.Host), micros(e.At), e.Kind, e.Detail)
		if err != nil {
			return db.fail("event", err)
		}
		id, err := res.LastInsertId()
		if err != nil {
			return db.fail("event", err)
		}
		// Ids only grow: so many events ago, or longer.
		_, err = tx.ExecContext(ctx, `DELETE FROM events WHERE id <= ? OR id IN (
			SELECT id FROM events WHERE site = ? ORDER BY id DESC LIMIT -1 OFFSET ?)`, id-replicate.MaxAllEvents, site, replicate.MaxEvents)
		return db.fail("event", err)
	})
}

// Events implements replicate.KeeperStore.
func (db *DB) Events(ctx context.Context, site naming.Name, limit int) ([]replicate.Event, error) {
	return all(ctx, db, "events", scanEvent, `SELECT site, host, at, kind, detail FROM events WHERE site = ? ORDER BY id DESC LIMIT ?`,
		nameText(site), limit)
}

// CountEvents implements replicate.KeeperStore.
func (db *DB) CountEvents(ctx context.Context, kind replicate.EventKind, since time.Time) (n int, err error) {
	err = db.sql.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE kind = ? AND at >= ?`, kind, micros(since)).Scan(&n)
	return n, db.fail("events", err)
}

// KeepAudit implements replicate.KeeperStore.
func (db *DB) KeepAudit(ctx context.Context, r replicate.AuditResult) error {
	return db.AddEvidence(ctx, AuditEvidence(r))
}

// AuditEvidence is what an audit of our own has shown.
func AuditEvidence(r replicate.AuditResult) Evidence {
	e := Evidence{
		Kind: EvidenceAudit, Site: r.Site, Host: r.Prover, At: r.At, OK: r.Verdict == replicate.Proved,
		Verdict: string(r.Verdict), Detail: r.Detail,
	}
	if len(r.Roots) > 0 {
		e.Root = r.Roots[0]
	}
	if r.Verdict == replicate.Wrong {
		// With its challenge anybody can check it (replicate.CheckProof): worth keeping.
		e.Signed = append(binary.AppendUvarint(nil, uint64(len(r.Challenge))), r.Challenge...)
		e.Signed = append(e.Signed, r.Answer...)
	}
	return e
}
