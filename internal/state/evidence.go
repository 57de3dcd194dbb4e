package state

import (
	"context"
	"database/sql"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/naming"
)

// Kinds of Evidence.
const (
	EvidenceAudit   = "audit"
	EvidenceFetch   = "fetch"
	EvidenceResolve = "resolve"
	EvidenceRival   = "rival" // see Rivals
)

// MaxEvidence is how many pieces are kept of one host about one site.
const MaxEvidence = 1000

// Evidence is what we saw ourselves.
type Evidence struct {
	Kind    string
	Site    naming.Name
	Host    peer.ID
	Root    cid.Cid
	At      time.Time
	OK      bool
	Verdict string
	Detail  string
	// Signed is, of a false proof: the challenge with its length (uvarint) in front, then the signed answer; of a
	// rival: both records, each with its length in front.
	Signed []byte
}

const evidenceColumns = `kind, site, host, root, at, ok, verdict, detail, signed`

func scanEvidence(r scanner) (e Evidence, err error) {
	return e, r.Scan(&e.Kind, nameCol{&e.Site}, peerCol{&e.Host}, cidCol{&e.Root}, timeCol{&e.At}, &e.OK, &e.Verdict, &e.Detail, &e.Signed)
}

// AddEvidence keeps a piece, and forgets the oldest over MaxEvidence.
func (db *DB) AddEvidence(ctx context.Context, e Evidence) error {
	if e.Signed == nil {
		e.Signed = []byte{}
	}
	return db.tx(ctx, "evidence", func(tx *sql.Tx) error {
		site, host := nameText(e.Site), peerText(e.Host)
		if _, err := tx.ExecContext(ctx, `INSERT INTO evidence (`+evidenceColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.Kind, site, host, cidText(e.Root), micros(e.At), e.OK, e.Verdict, e.Detail, e.Signed); err != nil {
			return db.fail("evidence", err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM evidence WHERE id IN (
			SELECT id FROM evidence WHERE site = ? AND host = ? ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?)`, site, host, MaxEvidence)
		return db.fail("evidence", err)
	})
}

// LastEvidence is the last piece of this kind about each host and root of a
// site, newest first.
func (db *DB) LastEvidence(ctx context.Context, site naming.Name, kind string) ([]Evidence, error) {
	return all(ctx, db, "evidence", scanEvidence, `SELECT `+evidenceColumns+` FROM (
			SELECT *, row_number() OVER (PARTITION BY host, root ORDER BY at DESC, id DESC) AS nth
			FROM evidence WHERE site = ? AND kind = ?)
		WHERE nth = 1 ORDER BY at DESC, id DESC`, nameText(site), kind)
}

// EvidenceOf is all that is kept about a site, oldest first.
func (db *DB) EvidenceOf(ctx context.Context, site naming.Name) ([]Evidence, error) {
	return all(ctx, db, "evidence", scanEvidence, `SELECT `+evidenceColumns+` FROM evidence WHERE site = ? ORDER BY at, id`, nameText(site))
}
