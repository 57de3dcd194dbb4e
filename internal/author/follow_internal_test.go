package author

import (
	"testing"

	"github.com/holdfast-sites/holdfast/replicate"
)

func TestAPinThatStandsOnAnotherMachinesRecordIsNotWaitedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		status         replicate.Status
		root, sequence string
		want           bool
	}{
		"the release before":     {replicate.Pinned, "old", "4", false},
		"ours":                   {replicate.Pinned, "ours", "5", false},
		"another machine's":      {replicate.Pinned, "theirs", "5", true},
		"a later one":            {replicate.Pinned, "theirs", "6", true},
		"a later one, same root": {replicate.Pinned, "ours", "6", false},
		"on its way":             {replicate.Pinning, "theirs", "5", false},
		"nothing yet":            {replicate.Queued, "", "", false},
	} {
		s := replicate.PinStatus{Status: tt.status, Info: map[string]string{"root": tt.root, "sequence": tt.sequence}}
		if got := overtaken(s, "ours", 5); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
