package state_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestTheLastSuccessOfAPutOutlivesLaterFailuresAndTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := open(t, path)
	n := namingtest.Signer(t, "a").Name()
	later := start.Add(time.Hour)
	for _, p := range []naming.Put{
		{Name: n, Sink: "dht", Sequence: 3, At: start},
		{Name: n, Sink: "dht", Sequence: 4, At: later, Err: errors.New("no \xff peers " + strings.Repeat("x", 9000))},
		{Name: n, Sink: "host alice", Sequence: 4, At: start, Err: errors.New("gone")},
		{Name: n, Sink: "host alice", Sequence: 4, At: later},
		{Name: n, Sink: "host bob", Sequence: 4, At: later, Err: errors.New("gone")},
		{Name: namingtest.Signer(t, "b").Name(), Sink: "dht", Sequence: 1, At: start},
	} {
		if err := db.NotePut(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	got, err := open(t, path).Puts(t.Context(), n)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if e := got[0].Error; len(e) > 1024 || !strings.HasPrefix(e, "no ? peers") {
		t.Errorf("the error is %d bytes: %.20q", len(e), e)
	}
	got[0].Error = ""
	want := []state.PutRow{
		{Name: n, Sink: "dht", Sequence: 4, At: later, DoneAt: start},
		{Name: n, Sink: "host alice", Sequence: 4, At: later, DoneAt: later},
		{Name: n, Sink: "host bob", Sequence: 4, At: later, Error: "gone"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
