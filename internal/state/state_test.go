package state_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func open(t testing.TB, path string) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func fresh(t testing.TB) *state.DB { return open(t, filepath.Join(t.TempDir(), "state.db")) }

func TestRecordsHoldTheirContract(t *testing.T) {
	namingtest.RunRecords(t, func(t *testing.T) naming.Records { return fresh(t) })
}

func TestRecordsOutliveTheProcess(t *testing.T) {
	namingtest.RunDurable(t, func(t *testing.T, dir string) (naming.Records, func()) {
		db := open(t, filepath.Join(dir, "state.db"))
		return db, func() { db.Close() }
	})
}

func TestTheFloorHoldsBetweenTwoHandlesOnOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	a, b := open(t, path), open(t, path)
	s := namingtest.Signer(t, "a")
	var wg sync.WaitGroup
	for seq := range uint64(40) {
		rec := namingtest.Record(t, s, seq+1, fmt.Sprint(seq), farAway)
		db := []*state.DB{a, b}[seq%2]
		wg.Go(func() {
			if err := db.Accept(t.Context(), rec); err != nil && !errors.Is(err, naming.ErrOlder) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, db := range []*state.DB{a, b} {
		if got, err := db.Best(t.Context(), s.Name()); err != nil || got.Sequence() != 40 {
			t.Fatalf("best is %d, %v; want 40", got.Sequence(), err)
		}
	}
}

func TestTheFileIsForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	if err := db.PutMeta(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v; want the database and its WAL", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", f, info.Mode(), err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".state-new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAFileWithOpenPermissionsIsClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path).Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, want 0600", info.Mode())
	}
}

func TestWhatWasWrittenIsThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "with space ?#%41", "state.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db := open(t, path)
	if err := db.PutMeta(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if v, err := open(t, path).Meta(t.Context(), "k"); err != nil || v != "v" {
		t.Fatalf("got %q, %v", v, err)
	}
}

// A process that is killed leaves the WAL as it is: copying the files while
// the database is open is the same to the next who opens them.
func TestWhatWasWrittenSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	db := open(t, filepath.Join(dir, "state.db"))
	if err := db.PutMeta(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	after := t.TempDir()
	for _, f := range []string{"state.db", "state.db-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(after, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := open(t, filepath.Join(after, "state.db")).Meta(t.Context(), "k"); err != nil || v != "v" {
		t.Fatalf("got %q, %v", v, err)
	}
}

func TestADamagedFileIsAnErrorThatNamesIt(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "state.db")
	db := open(t, whole)
	for i := range 300 {
		if err := db.PutMeta(t.Context(), fmt.Sprint(i), strings.Repeat("x", 100)); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"text":           func([]byte) []byte { return []byte("this is no database, and never was one at all") },
		"header":         func(b []byte) []byte { b[0] ^= 1; return b },
		"half":           func(b []byte) []byte { return b[:len(b)/2] },
		"last byte gone": func(b []byte) []byte { return b[:len(b)-1] },
		"zeroed pages":   func(b []byte) []byte { clear(b[4096:]); return b },
		"one page":       func(b []byte) []byte { clear(b[len(b)-4096:]); return b },
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			bad := f(append([]byte(nil), good...))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := state.Open(t.Context(), path)
			if err == nil {
				db.Close()
			}
			if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want ErrCorrupt with the path", err)
			}
			if now, _ := os.ReadFile(path); len(now) != len(bad) {
				t.Errorf("the damaged file has %d bytes now, had %d", len(now), len(bad))
			}
		})
	}
}

func TestAMissingFileBesideItsWALIsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path+"-wal", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), path); !errors.Is(err, state.ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
}

func TestAFileOfALaterVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path).Close()
	raw, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(t.Context(), path); !errors.Is(err, state.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want ErrNewer with the path", err)
	}
}

func TestManyMayOpenANewFileAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			db, err := state.Open(context.Background(), path)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.PutMeta(context.Background(), fmt.Sprint(i), "v"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := open(t, path)
	for i := range 6 {
		if _, err := db.Meta(t.Context(), fmt.Sprint(i)); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestAHostNeverShowsItsToken(t *testing.T) {
	h := state.Host{Name: "alice", URL: "http://localhost", Token: "hft_verysecret"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("added", "host", h)
	js, err := json.Marshal(struct{ H state.Host }{h})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprint(h), fmt.Sprintf("%+v %#v %v", h, h, &h), fmt.Sprintf("%+v", []any{h, struct{ H state.Host }{h}}),
		string(js), log.String(),
	} {
		if strings.Contains(s, "verysecret") {
			t.Errorf("the token shows in %s", s)
		}
	}
}
