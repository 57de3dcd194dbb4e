// Package state keeps what must outlive a process, in one SQLite file: sites,
// releases, records with their floors, names to be kept alive, hosts, holdings, evidence, pins, tokens.
//
// It promises that what a call wrote survives a crash of the process and of the
// machine once the call has returned nil (of the machine, not what [DB.NotePut] wrote), that writes which depend on what is
// there are one atomic step (also between processes), and that a file which is damaged or newer
// than the program is an error that says so, never an empty set. It never
// decides anything: rules live with the packages whose interfaces it implements ([naming.Records],
// [replicate.PinStore], [replicate.TokenStore]).
package state

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Errors of this package; match with errors.Is. Methods that implement an
// interface of another package return that package's.
var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt says that the file, or a value in it, is damaged.
	ErrCorrupt = errors.New("state file is damaged")
	// ErrNewer says that the file was written by a later version of the program.
	ErrNewer = errors.New("state file was written by a newer version")
	// ErrConflict says that another row has what must be unique.
	ErrConflict = errors.New("already taken")
)

//go:embed migrations/*.sql
var migrations embed.FS

// DB is one open state file. All methods may be called concurrently, and from
// several processes on one file.
type DB struct {
	sql   *sql.DB
	quick *sql.DB // commits without waiting for the disk, for what may be lost in a power cut
	path  string

	now          func() time.Time
	maxStrangers int

	mu      sync.Mutex
	touched map[naming.Name]time.Time // uses of records that are to be written down
}

var (
	_ naming.Records       = (*DB)(nil)
	_ replicate.PinStore   = (*DB)(nil)
	_ replicate.TokenStore = (*DB)(nil)
)

// Open opens the file at path, brings its schema up to date, and checks it; a file that does
// not exist is made (0600). The caller closes the DB. ErrCorrupt, ErrNewer.
func Open(ctx context.Context, path string) (*DB, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(ctx, path); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case info.Size() == 0:
		// SQLite would take it for a new one. We never leave an empty file behind.
		return nil, fmt.Errorf("%s: %w: it is empty", path, ErrCorrupt)
	case info.Size()%pageSize != 0 && missing(path+"-wal"):
		// SQLite would fill the last page up with zeros.
		return nil, fmt.Errorf("%s: %w: its last page is cut", path, ErrCorrupt)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return open(ctx, path)
}

// pageSize divides the size of every database that we make, in bytes: the
// least of SQLite's page sizes.
const pageSize = 512

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// create makes the file aside and links it into place, so that a file under
// this name is always whole, and two processes never overwrite each other's.
func create(ctx context.Context, path string) error {
	if !missing(path + "-wal") {
		return fmt.Errorf("%s: %w: it is missing, and its -wal file is there", path, ErrCorrupt)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".state-new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "state.db")
	f, err := os.OpenFile(made, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := open(ctx, made)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil { // writes the WAL back into the file
		return err
	}
	if err := os.Link(made, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // folders can't be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db := &DB{path: path, now: time.Now, maxStrangers: maxStrangers}
	if db.sql, err = pool(abs, "FULL", 8); err != nil {
		return nil, err
	}
	if db.quick, err = pool(abs, "NORMAL", 1); err != nil {
		db.sql.Close()
		return nil, err
	}
	if err := db.prepare(ctx); err != nil {
		db.quick.Close()
		db.sql.Close()
		return nil, err
	}
	return db, nil
}

// pool is at most max connections to the file. synchronous is when they wait for the disk: FULL at each commit,
// NORMAL only where the file would be damaged otherwise.
func pool(path, synchronous string, max int) (*sql.DB, error) {
	q := url.Values{
		"mode":    {"rw"},
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(15000)", "journal_mode(WAL)", "synchronous(" + synchronous + ")", "foreign_keys(1)"},
	}
	p, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, err
	}
	p.SetMaxOpenConns(max)
	p.SetMaxIdleConns(2)
	return p, nil
}

// prepare checks the file and migrates it.
func (db *DB) prepare(ctx context.Context) error {
	var verdict string
	if err := db.sql.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return db.fail("open", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%s: %w: %s", db.path, ErrCorrupt, verdict)
	}
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db.sql, sub,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	// Two processes may open a new file at once: the second finds the tables
	// there, and looks again.
	for try := 0; ; try++ {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return db.fail("open", err)
		}
		if have > want {
			return fmt.Errorf("%s: %w: its schema is %d, this program knows %d", db.path, ErrNewer, have, want)
		}
		if have == want {
			return db.readTargets(ctx)
		}
		if _, err := p.Up(ctx); err != nil && try == 3 {
			return db.fail("migrate", err)
		}
	}
}

// Path is the file's.
func (db *DB) Path() string { return db.path }

// Close lets go of the file.
func (db *DB) Close() error {
	db.saveTouched()
	return errors.Join(db.quick.Close(), db.sql.Close())
}

// PutMeta keeps a small setting.
func (db *DB) PutMeta(ctx context.Context, key, value string) error {
	_, err := db.sql.ExecContext(ctx,
		`INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
	return db.fail("meta", err)
}

// Meta is a small setting. ErrNotFound.
func (db *DB) Meta(ctx context.Context, key string) (string, error) {
	var v string
	err := db.sql.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = ?`, key).Scan(&v)
	return v, db.fail("meta "+key, err)
}

// fail names the file in an error, and its kind.
func (db *DB) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch {
		case se.Code()&0xff == sqlite3.SQLITE_CORRUPT, se.Code()&0xff == sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%s: %s: %w: %w", db.path, what, ErrCorrupt, err)
		case se.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE, se.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return fmt.Errorf("%s: %w", what, ErrConflict)
		case se.Code() == sqlite3.SQLITE_INTERRUPT:
			return fmt.Errorf("%s: %w", what, context.Canceled)
		}
	}
	if errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%s: %s: %w", db.path, what, err)
	}
	return fmt.Errorf("%s: %s: %w", filepath.Base(db.path), what, err)
}

// tx runs f in one transaction that holds the write lock from its start.
func (db *DB) tx(ctx context.Context, what string, f func(tx *sql.Tx) error) error {
	return txOn(ctx, db, db.sql, what, f)
}

// txOn is tx on one of the pools.
func txOn(ctx context.Context, db *DB, pool *sql.DB, what string, f func(tx *sql.Tx) error) error {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return db.fail(what, err)
	}
	defer tx.Rollback() //nolint:errcheck // after a Commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	return db.fail(what, tx.Commit())
}

// scanner is a row, or the current row of several.
type scanner interface{ Scan(dest ...any) error }

// all collects the rows of a query.
func all[T any](ctx context.Context, db *DB, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, db.fail(what, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, db.fail(what, err)
		}
		out = append(out, v)
	}
	return out, db.fail(what, rows.Err())
}
