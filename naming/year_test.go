package naming_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// year is a name in the keeping of its holders, from the day on which its author published for the last time.
type year struct {
	t       *testing.T
	begin   time.Time
	routing *forgetful
	holders []*holder
}

// newYear has the author hand a record to so many holders and to routing, and go. To be used inside of one bubble.
func newYear(t *testing.T, rec naming.Record, holders int) *year {
	t.Helper()
	y := &year{t: t, begin: time.Now(), routing: newForgetful()}
	for i := range holders {
		h := &holder{t: t, name: rec.Name(), label: fmt.Sprint(i), routing: y.routing}
		h.others = func() (others []*holder) {
			for _, o := range y.holders {
				if o != h {
					others = append(others, o)
				}
			}
			return others
		}
		y.holders = append(y.holders, h)
	}
	if err := y.routing.Put(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	for _, h := range y.holders {
		h.start(kept(t, rec), 0)
		t.Cleanup(func() { h.stop() })
	}
	return y
}

// day goes on to the beginning of a day of the year, which began with day 0.
func (y *year) day(n float64) {
	time.Sleep(time.Until(y.begin.Add(time.Duration(n * float64(day)))))
	synctest.Wait()
}

// from is what somebody finds who has never seen the name and knows only these sources.
func (y *year) from(n naming.Name, sources ...naming.Source) (naming.Record, error) {
	y.t.Helper()
	r := naming.NewResolver(naming.ResolverConfig{Records: naming.NewMemoryRecords(), Sources: func(naming.Name) []naming.Source { return sources }})
	defer r.Close()
	res, err := r.Resolve(y.t.Context(), n)
	return res.Record, err
}

// wantEverywhere wants the record, byte for byte, from routing and from each holder, for a stranger and for itself.
func (y *year) wantEverywhere(when string, want naming.Record) {
	y.t.Helper()
	check := func(who string, got naming.Record, err error) {
		y.t.Helper()
		if err != nil {
			y.t.Errorf("%s, %s: %v", when, who, err)
		} else if !bytes.Equal(got.Bytes(), want.Bytes()) {
			y.t.Errorf("%s, %s: sequence %d, want %d byte for byte", when, who, got.Sequence(), want.Sequence())
		}
	}
	got, err := y.from(want.Name(), y.routing)
	check("routing", got, err)
	for _, h := range y.holders {
		got, err := y.from(want.Name(), h)
		check("a stranger at "+h.String(), got, err)
		got, _, err = h.resolve()
		check(h.String(), got, err)
	}
}

// aYear is a record of sequence seq that lives for a year from now and holds metadata of ours and of others.
func aYear(t *testing.T, seed string, seq int64) naming.Record {
	t.Helper()
	key, f := testKey(t, seed), honest()
	f.Sequence, f.Validity = seq, time.Now().Add(naming.DefaultLifetime).Format(time.RFC3339Nano)
	f.Extra = map[string]any{
		"_other":            "tool",
		"_holdfast_release": namingtest.CID("release").Bytes(), "_holdfast_policy": namingtest.CID("policy").Bytes(),
	}
	rec, err := naming.OpenRecord(nameOfKey(t, key), f.Raw(t, key), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestANameOutlivesItsAuthorToTheDayThatItsRecordSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := aYear(t, "a", 1)
		y := newYear(t, rec, 4)
		y.day(3)
		y.wantEverywhere("on day 3", rec)
		y.day(100)
		y.holders[1].start(y.holders[1].stop(), 0)
		y.day(200)
		var disks []naming.Records
		for _, h := range y.holders[1:] { // for a month one holder does it alone
			disks = append(disks, h.stop())
		}
		y.day(230)
		if got, err := y.from(rec.Name(), y.routing); err != nil || got.Compare(rec) != 0 {
			t.Errorf("with one holder left: %v", err)
		}
		for i, h := range y.holders[1:] {
			h.start(disks[i], 0)
		}
		y.day(364)
		y.wantEverywhere("on day 364", rec)
		y.day(364.999)
		y.wantEverywhere("two minutes before the end", rec)

		y.day(365.001)
		for _, src := range append([]naming.Source{y.routing}, sourcesOf(y.holders)...) {
			if _, err := y.from(rec.Name(), src); !errors.Is(err, naming.ErrNotFound) {
				t.Errorf("after its end %s still has it for a stranger: %v", src, err)
			}
		}
		for _, h := range y.holders {
			_, now, err := h.resolve()
			wantEnded(t, h.String(), err, rec, now)
			h.puts()
		}
		y.day(400)
		for _, h := range y.holders {
			if puts := h.puts(); len(puts) > 0 {
				t.Errorf("%s puts a dead record: %v", h, puts[0])
			}
		}
	})
}

func sourcesOf(holders []*holder) (out []naming.Source) {
	for _, h := range holders {
		out = append(out, h)
	}
	return out
}

// wantEnded wants an error that says when the record ended, and by which clock.
func wantEnded(t *testing.T, who string, err error, rec naming.Record, now time.Time) {
	t.Helper()
	says := "it was valid until " + rec.ValidUntil().Format(time.RFC3339) + ", and the clock here says " + now.UTC().Format(time.RFC3339)
	if !errors.Is(err, naming.ErrExpired) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v; want ErrExpired that says %q", who, err, says)
	}
}

func TestAHolderThatWasAwayDuringARenewalPutsTheNewRecordOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := aYear(t, "a", 1)
		y := newYear(t, one, 4)
		away := y.holders[3]
		y.day(320)
		disk := away.stop()
		y.day(330)
		two := aYear(t, "a", 2)
		if err := y.holders[0].Put(t.Context(), two); err != nil { // all that the author reaches
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, h := range y.holders[:3] {
			if best, err := h.best(); err != nil || best.Compare(two) != 0 {
				t.Errorf("a second after the renewal %s keeps sequence %d, %v", h, best.Sequence(), err)
			}
		}
		y.day(341)
		away.puts()
		away.start(disk, 0)
		synctest.Wait()
		y.wantEverywhere("after its return", two)
		y.day(364)
		puts := away.puts()
		for _, p := range puts {
			if p.Sequence != 2 {
				t.Errorf("%s puts sequence %d to %s at %s", away, p.Sequence, p.Sink, p.At)
			}
		}
		if len(puts) == 0 {
			t.Error("it puts nothing at all")
		}
		y.day(366)
		y.wantEverywhere("after the first record's end", two)
		y.day(694)
		y.wantEverywhere("on the renewed record's day 364", two)
		y.day(696)
		if _, err := y.from(two.Name(), append(sourcesOf(y.holders), y.routing)...); !errors.Is(err, naming.ErrNotFound) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestARecordFromAnOldCopyOfTheDiskNeverReplacesTheRenewedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := aYear(t, "a", 1)
		y := newYear(t, one, 2)
		y.day(10)
		two := aYear(t, "a", 2)
		if err := y.holders[0].Put(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		y.day(20)
		restored := y.holders[1]
		restored.stop()
		restored.puts()
		restored.start(kept(t, one), 0) // from a backup of the first week
		y.day(22)
		y.wantEverywhere("after a restore", two)
		for _, p := range restored.puts() {
			if p.Sequence != 2 {
				t.Errorf("the restored holder puts sequence %d to %s", p.Sequence, p.Sink)
			}
		}
	})
}

func TestAHolderWhoseClockIsADayWrongHarmsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := aYear(t, "a", 1)
		y := newYear(t, rec, 4)
		ahead, behind := y.holders[1], y.holders[2]
		for h, wrong := range map[*holder]time.Duration{ahead: day, behind: -day} {
			h.start(h.stop(), wrong)
		}
		y.day(363)
		y.wantEverywhere("two days before the end", rec)

		y.day(364.5) // which is over for the one ahead
		if got, err := y.from(rec.Name(), y.routing, y.holders[0], behind); err != nil || got.Compare(rec) != 0 {
			t.Errorf("half a day before the end: %v", err)
		}
		_, now, err := ahead.resolve()
		wantEnded(t, "the holder that is ahead", err, rec, now)

		y.day(365.5) // which has not come for the one behind
		if got, _, err := behind.resolve(); err != nil || got.Compare(rec) != 0 {
			t.Errorf("the holder that is behind knows by no clock but its own: %v", err)
		}
		if _, err := y.from(rec.Name(), y.routing); !errors.Is(err, naming.ErrNotFound) {
			t.Errorf("routing has a dead record of the holder that is behind: %v", err)
		}
		_, err = y.from(rec.Name(), behind)
		wantEnded(t, "a stranger at the holder that is behind", err, rec, time.Now())

		// A renewal is a renewal by any clock, and what a clock has made of a record is not kept.
		two := aYear(t, "a", 2)
		if err := y.holders[0].Put(t.Context(), two); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		y.wantEverywhere("after a renewal", two)
	})
}
