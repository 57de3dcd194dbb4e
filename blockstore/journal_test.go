package blockstore

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// written is the journal's file after some changes.
func written(t testing.TB) (vfs.FS, journal, string) {
	t.Helper()
	fs := vfs.NewMem()
	j := journal{kept: map[keptRoot]struct{}{}}
	blks := rawBlocks(t, 3)
	for i, owner := range []string{"site:a", "odd \"name\"\n\xff", "tenant"} {
		if err := j.record(fs, "/", "+", keptRoot{owner, blks[i].Cid()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.record(fs, "/", "-", keptRoot{"tenant", blks[2].Cid()}); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open("/" + journalName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, j.size)
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return fs, j, string(data)
}

func TestJournalIsReadBackAsItWasWritten(t *testing.T) {
	fs, j, text := written(t)
	got, err := readJournal(fs, "/")
	if err != nil || got.changes != 4 || !maps.Equal(got.kept, j.kept) || got.size != j.size || len(got.kept) != 2 {
		t.Errorf("%+v, %v; written: %+v", got, err, j)
	}
	if absent, err := readJournal(fs, "/elsewhere"); err != nil || absent.changes != 0 {
		t.Errorf("no journal: %+v, %v", absent, err)
	}
	// What a crash cut off is no line, wherever it cut.
	for cut := strings.LastIndex(text[:len(text)-1], "\n") + 1; cut < len(text); cut++ {
		if got, err := parseJournal(strings.NewReader(text[:cut])); err != nil || got.changes != 3 {
			t.Errorf("cut off at %d: %+v, %v", cut, got, err)
		}
	}
}

func TestDamagedJournalIsNotBelieved(t *testing.T) {
	_, _, text := written(t)
	last := strings.LastIndex(text[:len(text)-1], "\n") + 1
	for i := range last - 1 { // without that byte, the last line is no line
		bad := []byte(text)
		bad[i] ^= 1
		if j, err := parseJournal(strings.NewReader(string(bad))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d flipped: %+v, %v", i, j, err)
		}
	}
}

func TestStoreOfANewerFormatIsRefused(t *testing.T) {
	_, err := parseJournal(strings.NewReader(journalLine("holdfast-kept 2 something else") + "anything\n"))
	if !errors.Is(err, errFormat) || errors.Is(err, ErrCorrupt) {
		t.Errorf("a newer format: %v", err)
	}
}

func TestJournalDoesNotGrowWithHistory(t *testing.T) {
	fs := vfs.NewMem()
	j := journal{kept: map[keptRoot]struct{}{}}
	k := keptRoot{"owner", rawBlocks(t, 1)[0].Cid()}
	for range journalSlack {
		for _, sign := range []string{"+", "-"} {
			if err := j.record(fs, "/", sign, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := readJournal(fs, "/")
	if err != nil || got.changes != 2*journalSlack || got.lines > journalSlack+2 {
		t.Errorf("%d changes in %d lines, %v", got.changes, got.lines, err)
	}
}

func FuzzJournal(f *testing.F) {
	_, _, text := written(f)
	f.Add(text)
	f.Add(journalLine("holdfast-kept 2 0"))
	f.Fuzz(func(t *testing.T, text string) {
		j, err := parseJournal(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := parseJournal(strings.NewReader(j.text()))
		if err != nil || again.changes != j.changes || !maps.Equal(again.kept, j.kept) {
			t.Errorf("%+v written anew is %+v, %v", j, again, err)
		}
	})
}
