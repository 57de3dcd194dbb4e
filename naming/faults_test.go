package naming_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

func TestARecordThatIsNoneIsRefusedByResolversWithTheReason(t *testing.T) {
	name := namingtest.Signer(t, "a").Name()
	for _, f := range namingtest.Faults(t, "a") {
		if r, err := naming.OpenRecord(name, f.Raw, time.Now()); !errors.Is(err, f.Kind) || !r.IsZero() || !strings.Contains(err.Error(), f.Says) {
			t.Errorf("%s: opening it: %v, want %v that says %q", f.Row, err, f.Kind, f.Says)
		}
		// The expired one is kept by nobody either, but counts for the sequence rule.
		records := naming.NewMemoryRecords()
		_, err := resolver(t, records, &fakeSource{name: "liar", raw: f.Raw}).Resolve(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), f.Says) || strings.ContainsAny(err.Error(), "\r\x00") {
			t.Errorf("%s: resolving gives %v, want an error that says %q", f.Row, err, f.Says)
		}
		if _, err := records.Best(t.Context(), name); !errors.Is(err, naming.ErrNotFound) {
			t.Errorf("%s: it was stored (%v)", f.Row, err)
		}
		good := namingtest.Record(t, namingtest.Signer(t, "a"), 1, "good", time.Now().Add(time.Hour))
		wantSettled(t, resolver(t, naming.NewMemoryRecords(), &fakeSource{name: "liar", raw: f.Raw}, has("honest", good)), good, "honest")
	}
}

func TestAnotherRecoveryKeysWordMovesNoSite(t *testing.T) {
	s, ours, his := namingtest.Signer(t, "a"), namingtest.Recovery(t, "a"), namingtest.Recovery(t, "thief")
	end := time.Now().Add(time.Hour)
	kept := namingtest.Committed(t, s, ours, 3, end)
	for what, theft := range map[string]naming.Record{
		"his own commitment": namingtest.Last(t, s, his, namingtest.Signer(t, "thief").Name()),
		"no commitment":      namingtest.PlainLast(t, s, namingtest.Signer(t, "thief").Name()),
	} {
		records := naming.NewMemoryRecords()
		if err := records.Accept(t.Context(), kept); err != nil {
			t.Fatal(err)
		}
		wantSettled(t, resolver(t, records, has("thief", theft)), kept, naming.SourceOwn)
		if best, err := records.Best(t.Context(), s.Name()); err != nil || best.Compare(kept) != 0 {
			t.Errorf("%s: the site was moved (%v)", what, err)
		}
	}
}
