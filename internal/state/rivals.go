package state

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxRivals bounds the rivals that are kept of one site; the oldest go first.
const maxRivals = 32

// Rival is two records of one site with the same sequence: two machines signed at once, or somebody else has the key.
type Rival struct {
	At        time.Time     // when we saw the second
	Lost, Won naming.Record // by the specification's order, but that one which breaks with the recovery key loses; both signed by the site
}

// noteRival keeps the evidence where r and the kept record have the same sequence, if they are a site's of ours, once
// for each pair.
func (db *DB) noteRival(ctx context.Context, tx *sql.Tx, kept keptRecord, r naming.Record) error {
	if kept.record.IsZero() || kept.floor != r.Sequence() {
		return nil
	}
	site := r.Name().String()
	if ours, err := exists(ctx, tx, `SELECT 1 FROM sites WHERE name = ?`, site); err != nil || !ours {
		return db.fail("rival", err)
	}
	v := Rival{Lost: kept.record, Won: r}
	if r.Compare(kept.record) < 0 || r.MayFollow(kept.record) != nil {
		v.Lost, v.Won = v.Won, v.Lost
	}
	signed := v.pair()
	if known, err := exists(ctx, tx, `SELECT 1 FROM evidence WHERE site = ? AND host = '' AND kind = ? AND signed = ?`, site, EvidenceRival, signed); err != nil || known {
		return db.fail("rival", err)
	}
	detail := fmt.Sprintf("sequence %d was signed twice: %s won over %s", r.Sequence(), v.Won.Value(), v.Lost.Value())
	if _, err := tx.ExecContext(ctx, `INSERT INTO evidence (`+evidenceColumns+`) VALUES (?, ?, '', '', ?, 0, '', ?, ?)`,
		EvidenceRival, site, micros(db.now()), detail, signed); err != nil {
		return db.fail("rival", err)
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM evidence WHERE id IN (SELECT id FROM evidence
		WHERE site = ? AND host = '' AND kind = ? ORDER BY at DESC, id DESC LIMIT -1 OFFSET ?)`, site, EvidenceRival, maxRivals)
	return db.fail("rival", err)
}

// pair is both records, each with its length (uvarint) in front.
func (v Rival) pair() (b []byte) {
	for _, r := range []naming.Record{v.Lost, v.Won} {
		raw := r.Bytes()
		b = append(binary.AppendUvarint(b, uint64(len(raw))), raw...)
	}
	return b
}

// Rivals is the pairs of records that a site of ours has signed for one sequence, newest first, at most 32.
func (db *DB) Rivals(ctx context.Context, n naming.Name) ([]Rival, error) {
	scan := func(r scanner) (v Rival, err error) {
		var signed []byte
		if err := r.Scan(timeCol{&v.At}, &signed); err != nil {
			return v, err
		}
		return v, v.read(n, signed)
	}
	return all(ctx, db, "rivals", scan, `SELECT at, signed FROM evidence
		WHERE site = ? AND host = '' AND kind = ? ORDER BY at DESC, id DESC`, nameText(n), EvidenceRival)
}

// read is the way back from pair.
func (v *Rival) read(n naming.Name, signed []byte) error {
	in := bytes.NewReader(signed)
	for _, to := range []*naming.Record{&v.Lost, &v.Won} {
		size, err := binary.ReadUvarint(in)
		if err != nil || size > uint64(in.Len()) {
			return fmt.Errorf("%w: evidence of a rival is cut", ErrCorrupt)
		}
		raw := make([]byte, size)
		_, _ = in.Read(raw)
		if *to, err = naming.OpenStored(n, raw); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return nil
}
