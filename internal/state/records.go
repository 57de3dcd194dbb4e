package state

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// touchEvery is how exact the use time of a record is: reading it often writes nothing.
const touchEvery = time.Hour

// Best implements naming.Records.
func (db *DB) Best(ctx context.Context, n naming.Name) (naming.Record, error) {
	var raw []byte
	var used time.Time
	err := db.sql.QueryRowContext(ctx, `SELECT bytes, used FROM records WHERE name = ?`, nameText(n)).Scan(&raw, timeCol{&used})
	if errors.Is(err, sql.ErrNoRows) {
		return naming.Record{}, fmt.Errorf("%s: %w", n, naming.ErrNotFound)
	}
	if err != nil {
		return naming.Record{}, db.fail("record", err)
	}
	rec, err := naming.OpenStored(n, raw)
	if err != nil {
		return naming.Record{}, fmt.Errorf("%s: record of %s: %w: %w", db.path, n, ErrCorrupt, err)
	}
	db.touch(n, used)
	return rec, nil
}

// Accept implements naming.Records. The transaction holds the write lock from its start, so reading and writing are
// one step, also between processes.
//
// Records of names that nobody here follows are at most 65 536: the least recently used go first, and the floors of
// their names with them. Names that are followed (see Followed) never go back.
func (db *DB) Accept(ctx context.Context, r naming.Record) error {
	return db.accepting(ctx, "record", r, func(*sql.Tx) error { return nil })
}

// accepting runs then in the transaction in which r was accepted. Where r is refused that is the error, and all that
// is written is the evidence of a rival.
func (db *DB) accepting(ctx context.Context, what string, r naming.Record, then func(tx *sql.Tx) error) error {
	var refusal error
	err := db.tx(ctx, what, func(tx *sql.Tx) (err error) {
		if refusal, err = db.accept(ctx, tx, r); err != nil || refusal != nil {
			return err
		}
		return then(tx)
	})
	if err != nil {
		return err
	}
	return refusal
}

// accept keeps r, or says why the contract of naming.Records refuses it.
func (db *DB) accept(ctx context.Context, tx *sql.Tx, r naming.Record) (refusal, err error) {
	kept, found, err := db.keptRecord(ctx, tx, r.Name())
	switch {
	case err != nil:
		return nil, err
	case !found:
		if err := db.writeRecord(ctx, tx, r); err != nil {
			return nil, err
		}
		return nil, db.makeRoom(ctx, tx, r.Name())
	case bytes.Equal(kept.raw, r.Bytes()):
		db.touch(r.Name(), kept.used)
		return nil, nil
	}
	if err := db.noteRival(ctx, tx, kept, r); err != nil {
		return nil, err
	}
	if refusal := kept.refuses(r); refusal != nil {
		return refusal, nil
	}
	return nil, db.writeRecord(ctx, tx, r)
}

// keptRecord is a row of records. What the columns say holds also where the bytes can't be read any more.
type keptRecord struct {
	floor    uint64
	recovery string
	used     time.Time
	raw      []byte
	record   naming.Record // zero where raw is damaged
}

func (db *DB) keptRecord(ctx context.Context, tx *sql.Tx, n naming.Name) (k keptRecord, found bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT sequence, recovery, used, bytes FROM records WHERE name = ?`, n.String()).
		Scan(&k.floor, &k.recovery, timeCol{&k.used}, &k.raw)
	if errors.Is(err, sql.ErrNoRows) {
		return k, false, nil
	}
	if err != nil {
		return k, false, db.fail("record", err)
	}
	if rec, err := naming.OpenStored(n, k.raw); err == nil {
		k.record = rec
	}
	return k, true, nil
}

// refuses tells why r may not take the row's place; nil where it may.
func (k keptRecord) refuses(r naming.Record) error {
	if r.Sequence() < k.floor || r.Sequence() == k.floor && r.Compare(k.record) <= 0 {
		return &naming.OlderError{Name: r.Name(), Offered: r.Sequence(), Floor: k.floor}
	}
	if k.record.IsZero() && k.recovery != "" && k.recovery != r.Recovery().String() {
		return fmt.Errorf("%w: sequence %d of %s breaks with it", naming.ErrRecovery, r.Sequence(), r.Name())
	}
	return r.MayFollow(k.record)
}

func (db *DB) writeRecord(ctx context.Context, tx *sql.Tx, r naming.Record) error {
	target, _ := r.Target()
	_, err := tx.ExecContext(ctx, `INSERT INTO records (name, sequence, bytes, target, recovery, used) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, bytes = excluded.bytes, target = excluded.target,
			recovery = excluded.recovery, used = excluded.used
		WHERE excluded.sequence >= sequence`,
		r.Name().String(), int64(r.Sequence()), r.Bytes(), nameText(target), r.Recovery().String(), micros(db.now()))
	return db.fail("record", err)
}

// readTargets fills in where the records lead that were written before that was a column.
func (db *DB) readTargets(ctx context.Context) error {
	var pending int
	if err := db.sql.QueryRowContext(ctx, `SELECT count(*) FROM records WHERE target IS NULL`).Scan(&pending); err != nil || pending == 0 {
		return db.fail("records", err)
	}
	type row struct {
		name naming.Name
		raw  []byte
	}
	scan := func(r scanner) (w row, err error) { return w, r.Scan(nameCol{&w.name}, &w.raw) }
	rows, err := all(ctx, db, "records", scan, `SELECT name, bytes FROM records WHERE target IS NULL`)
	if err != nil {
		return err
	}
	return db.tx(ctx, "records", func(tx *sql.Tx) error {
		for _, w := range rows {
			var target naming.Name
			if rec, err := naming.OpenStored(w.name, w.raw); err == nil { // Best tells of damage
				target, _ = rec.Target()
			}
			if _, err := tx.ExecContext(ctx, `UPDATE records SET target = ? WHERE name = ? AND target IS NULL`, nameText(target), nameText(w.name)); err != nil {
				return db.fail("records", err)
			}
		}
		return nil
	})
}
