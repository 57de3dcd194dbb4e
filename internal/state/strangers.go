package state

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// maxStrangers bounds the records of names that nobody here follows.
const maxStrangers = 65536

// roomKey is the setting that counts how many new names may come before strangers are counted again. It is written with
// each new name, so that it is right for all processes on one file.
const roomKey = "records.room"

// touch notes that a record was used, which was last written down at used. It writes nothing: use times matter only when
// some of the records have to go.
func (db *DB) touch(n naming.Name, used time.Time) {
	now := db.now()
	if now.Sub(used) < touchEvery {
		return
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.touched == nil {
		db.touched = map[naming.Name]time.Time{}
	}
	if _, ok := db.touched[n]; ok || len(db.touched) < maxStrangers {
		db.touched[n] = now
	}
}

// writeTouched writes down what touch has noted.
func (db *DB) writeTouched(ctx context.Context, tx *sql.Tx) error {
	db.mu.Lock()
	touched := db.touched
	db.touched = nil
	db.mu.Unlock()
	for n, at := range touched {
		if _, err := tx.ExecContext(ctx, `UPDATE records SET used = max(used, ?) WHERE name = ?`, micros(at), nameText(n)); err != nil {
			return db.fail("record", err)
		}
	}
	return nil
}

// saveTouched is writeTouched for a file that is about to be closed. Use times that are lost cost little: it gives up soon.
func (db *DB) saveTouched() {
	db.mu.Lock()
	none := len(db.touched) == 0
	db.mu.Unlock()
	if none {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = db.tx(ctx, "record", func(tx *sql.Tx) error { return db.writeTouched(ctx, tx) })
}

// makeRoom is called for each new name. Once in at least a sixteenth of the bound it counts the strangers, and where
// they are too many the least recently used go.
func (db *DB) makeRoom(ctx context.Context, tx *sql.Tx, justCame naming.Name) error {
	res, err := tx.ExecContext(ctx, `UPDATE meta SET value = CAST(value AS INTEGER) - 1 WHERE key = ? AND CAST(value AS INTEGER) > 0`, roomKey)
	if err != nil {
		return db.fail("records", err)
	}
	if n, _ := res.RowsAffected(); n > 0 {
		return nil
	}
	if err := db.writeTouched(ctx, tx); err != nil {
		return err
	}
	const strangers = ` FROM records WHERE name NOT IN (SELECT name FROM kept)`
	var count int
	if err := tx.QueryRowContext(ctx, keptNames+`SELECT count(*)`+strangers).Scan(&count); err != nil {
		return db.fail("records", err)
	}
	if most := db.maxStrangers - max(db.maxStrangers/16, 1); count > most {
		if _, err := tx.ExecContext(ctx, keptNames+`DELETE FROM records WHERE name IN (SELECT name`+strangers+`
			AND name <> ? ORDER BY used, name LIMIT ?)`, justCame.String(), count-most); err != nil {
			return db.fail("records", err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM puts WHERE name NOT IN (SELECT name FROM records)`); err != nil {
			return db.fail("puts", err)
		}
		count = most
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		roomKey, fmt.Sprint(db.maxStrangers-count))
	return db.fail("records", err)
}
