package state

import (
	"context"
	"database/sql"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxPlans is how many plans are kept that were shown.
const maxPlans = 16

// ShownPlan is a plan that somebody has looked at. Plan is JSON of the one who made it.
type ShownPlan struct {
	Digest string
	At     time.Time
	Plan   []byte
}

func scanPlan(r scanner) (p ShownPlan, err error) {
	return p, r.Scan(&p.Digest, timeCol{&p.At}, &p.Plan)
}

// PutPlan keeps a plan under its digest, and forgets the oldest over 16.
func (db *DB) PutPlan(ctx context.Context, p ShownPlan) error {
	return db.tx(ctx, "plan", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO plans (digest, at, plan) VALUES (?, ?, ?)
			ON CONFLICT (digest) DO UPDATE SET at = excluded.at, plan = excluded.plan`, p.Digest, micros(p.At), string(p.Plan)); err != nil {
			return db.fail("plan", err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM plans WHERE digest IN (SELECT digest FROM plans ORDER BY at DESC LIMIT -1 OFFSET ?)`, maxPlans)
		return db.fail("plan", err)
	})
}

// Plans lists the plans that were shown, the last one first.
func (db *DB) Plans(ctx context.Context) ([]ShownPlan, error) {
	return all(ctx, db, "plans", scanPlan, `SELECT digest, at, plan FROM plans ORDER BY at DESC`)
}

// moveMemory is for how long moves are remembered: budgets are for a day.
const moveMemory = 48 * time.Hour

// AddMove notes that bytes of a site were copied to a host.
func (db *DB) AddMove(ctx context.Context, site naming.Name, at time.Time, bytes int64) error {
	return db.tx(ctx, "move", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM moves WHERE at < ?`, micros(at.Add(-moveMemory))); err != nil {
			return db.fail("move", err)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO moves (site, at, bytes) VALUES (?, ?, ?)`, nameText(site), micros(at), bytes)
		return db.fail("move", err)
	})
}

// Moved is how many bytes of a site were copied since then, at most two days ago.
func (db *DB) Moved(ctx context.Context, site naming.Name, since time.Time) (bytes int64, err error) {
	err = db.sql.QueryRowContext(ctx, `SELECT coalesce(sum(bytes), 0) FROM moves WHERE site = ? AND at >= ?`, nameText(site), micros(since)).Scan(&bytes)
	return bytes, db.fail("moves", err)
}

// Report is what a host told of a site. Report is JSON, as it was checked when it came.
type Report struct {
	Host   peer.ID
	At     time.Time
	Report []byte
}

func scanReport(r scanner) (p Report, err error) {
	return p, r.Scan(peerCol{&p.Host}, timeCol{&p.At}, &p.Report)
}

// PutReport keeps a host's report of a site, in place of the one before.
func (db *DB) PutReport(ctx context.Context, site naming.Name, p Report) error {
	_, err := db.sql.ExecContext(ctx, `INSERT INTO reports (site, host, at, report) VALUES (?, ?, ?, ?)
		ON CONFLICT (site, host) DO UPDATE SET at = excluded.at, report = excluded.report`,
		nameText(site), peerText(p.Host), micros(p.At), string(p.Report))
	return db.fail("report", err)
}

// Reports lists the last report of each host about a site.
func (db *DB) Reports(ctx context.Context, site naming.Name) ([]Report, error) {
	return all(ctx, db, "reports", scanReport, `SELECT host, at, report FROM reports WHERE site = ? ORDER BY host`, nameText(site))
}

// maxPolicies is how many policies are kept.
const maxPolicies = 1024

// PutPolicy keeps a policy's block, and forgets the oldest over 1024.
func (db *DB) PutPolicy(ctx context.Context, c cid.Cid, at time.Time, block []byte) error {
	return db.tx(ctx, "policy", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO policies (cid, at, block) VALUES (?, ?, ?)
			ON CONFLICT (cid) DO UPDATE SET at = excluded.at`, cidText(c), micros(at), block); err != nil {
			return db.fail("policy", err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM policies WHERE cid IN (SELECT cid FROM policies ORDER BY at DESC LIMIT -1 OFFSET ?)`, maxPolicies)
		return db.fail("policy", err)
	})
}

// Policy is the block of a policy that was kept. ErrNotFound.
func (db *DB) Policy(ctx context.Context, c cid.Cid) (block []byte, err error) {
	err = db.sql.QueryRowContext(ctx, `SELECT block FROM policies WHERE cid = ?`, cidText(c)).Scan(&block)
	return block, db.fail("policy "+cidText(c), err)
}
