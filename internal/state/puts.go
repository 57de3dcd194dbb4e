package state

import (
	"context"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxPutError bounds the text of a put's error, in bytes: the other side may have written it.
const maxPutError = 1024

// PutRow is how the last put of a name's record to one place went.
type PutRow struct {
	Name     naming.Name
	Sink     string // naming.Sink's String
	Sequence uint64 // of the record put last, whether it was taken or not
	At       time.Time
	DoneAt   time.Time // when one was last taken; zero for never
	Error    string    // why the last was not taken; empty where it was
}

func scanPut(r scanner) (p PutRow, err error) {
	return p, r.Scan(nameCol{&p.Name}, &p.Sink, &p.Sequence, timeCol{&p.At}, timeCol{&p.DoneAt}, &p.Error)
}

// NotePut keeps how a put went, in place of the one before to the same place. Unlike all other writes it may be lost in a power cut
// (not when the process dies): a relay puts thousands in a row, and will put them again.
func (db *DB) NotePut(ctx context.Context, p naming.Put) error {
	var text string
	doneAt := p.At
	if p.Err != nil {
		text, doneAt = strings.ToValidUTF8(p.Err.Error(), "?"), time.Time{}
		text = strings.ToValidUTF8(text[:min(len(text), maxPutError)], "")
	}
	_, err := db.quick.ExecContext(ctx, `INSERT INTO puts (name, sink, sequence, at, done_at, error) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (name, sink) DO UPDATE SET sequence = excluded.sequence, at = excluded.at,
			done_at = max(done_at, excluded.done_at), error = excluded.error`,
		p.Name.String(), p.Sink, int64(p.Sequence), micros(p.At), micros(doneAt), text)
	return db.fail("put", err)
}

// Puts is where a name's record was put, by sink.
func (db *DB) Puts(ctx context.Context, n naming.Name) ([]PutRow, error) {
	return all(ctx, db, "puts", scanPut, `SELECT name, sink, sequence, at, done_at, error FROM puts WHERE name = ? ORDER BY sink`, nameText(n))
}
