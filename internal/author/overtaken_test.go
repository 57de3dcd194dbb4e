package author_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/naming"
)

func TestStatusSaysThatAnotherMachineHasPublishedSince(t *testing.T) {
	a := newAlone(t)
	a.publish(0)
	status := func() author.SiteStatus {
		sites, err := a.Status(t.Context(), author.StatusRequest{Alias: "blog"}, nil)
		if err != nil || len(sites) != 1 {
			t.Fatalf("%+v, %v", sites, err)
		}
		return sites[0]
	}
	warned := func(s author.SiteStatus) bool {
		return slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "another machine has published") })
	}
	if s := status(); s.NameLife.Overtaken || warned(s) {
		t.Errorf("before: %+v", s)
	}
	a.accepts("blog", naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: 7})
	if s := status(); !s.NameLife.Overtaken || !warned(s) || s.SafeUntil != nil {
		t.Errorf("after: %+v", s)
	}
}
