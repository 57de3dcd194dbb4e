package author_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/naming"
)

// delegated is a site that leads to the deploy key "ci", and its first release.
func delegated(t *testing.T) (*alone, author.Published) {
	t.Helper()
	a := newAlone(t)
	p := a.publish(0)
	if _, err := a.keys.New("ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Delegate(t.Context(), author.DelegateRequest{RestateRequest: author.RestateRequest{Alias: "blog"}, To: "ci"}, nil); err != nil {
		t.Fatal(err)
	}
	return a, p
}

func (a *alone) revoke(release uint64) (author.Restated, error) {
	return a.Revoke(a.t.Context(), author.RevokeRequest{RestateRequest: author.RestateRequest{Alias: "blog"}, Release: release}, nil)
}

func TestASiteIsTakenBackFromADeployKeyThatLeadsInACircle(t *testing.T) {
	a, p := delegated(t)
	a.accepts("ci", naming.Statement{Value: "/ipns/" + p.Name, Sequence: 7})
	if w := a.status().Warnings; len(w) == 0 || !strings.Contains(w[0], "leads back") {
		t.Errorf("status says nothing of the circle: %q", w)
	}
	if _, err := a.revoke(0); !errors.Is(err, naming.ErrLoop) || !strings.Contains(err.Error(), "--release 1") {
		t.Errorf("%v, want what to do instead", err)
	}
	out, err := a.revoke(1)
	if err != nil || out.Value != "/ipfs/"+p.Root {
		t.Fatalf("%+v, %v; want release 1, root %s", out, err, p.Root)
	}
	if p := a.publish(0); p.Number != 1 {
		t.Errorf("the next publish of the same folder is release %d", p.Number)
	}
}

func TestTakingASiteBackDoesNotBelieveTheDeployKeysHistory(t *testing.T) {
	a, p := delegated(t)
	forged, err := a.Publish(t.Context(), author.PublishRequest{Root: p.Root, Alias: "other", Alone: true, Message: "forged"}, nil)
	if err != nil || forged.Number != 1 || forged.Release == p.Release {
		t.Fatalf("%+v, %v", forged, err)
	}
	a.accepts("ci", naming.Statement{Value: "/ipfs/" + forged.Root, Release: cid.MustParse(forged.Release), Sequence: 7})
	out, err := a.revoke(1)
	if err != nil || len(out.Warnings) == 0 || !strings.Contains(out.Warnings[0], "another release 1") {
		t.Fatalf("%+v, %v", out, err)
	}
	rec, err := a.state.Best(t.Context(), a.named(p))
	if err != nil || rec.Release().String() != p.Release {
		t.Errorf("the site shows release %s, %v; its author's is %s", rec.Release(), err, p.Release)
	}
}

func TestASiteIsNotDelegatedToANameThatLeadsBackToIt(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	if _, err := a.keys.New("ci"); err != nil {
		t.Fatal(err)
	}
	a.accepts("ci", naming.Statement{Value: "/ipns/" + p.Name, Sequence: 1})
	_, err := a.Delegate(t.Context(), author.DelegateRequest{RestateRequest: author.RestateRequest{Alias: "blog"}, To: "ci"}, nil)
	if !errors.Is(err, author.ErrUsage) || !strings.Contains(err.Error(), "circle") {
		t.Errorf("%v, want it refused", err)
	}
	if rec, err := a.state.Best(t.Context(), a.named(p)); err != nil || rec.Sequence() != 1 {
		t.Errorf("sequence %d was signed, %v", rec.Sequence(), err)
	}
}

func TestTermsThatNoRecordCanSayAreRefusedBeforeAnythingIsMade(t *testing.T) {
	a := newAlone(t)
	for name, req := range map[string]author.PublishRequest{
		"negative lifetime": {Lifetime: -1}, "negative TTL": {TTL: -1}, "negative keep": {Keep: -1}, "too many kept": {Keep: 65},
	} {
		req.Dir, req.Alias, req.Alone = t.TempDir(), "new", true
		if _, err := a.Publish(t.Context(), req, nil); !errors.Is(err, author.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.keys.Info("new"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("a key was made: %v", err)
	}
	p := a.publish(0)
	if _, err := a.Renew(t.Context(), author.RestateRequest{Alias: "blog", Lifetime: -1}, nil); !errors.Is(err, author.ErrUsage) {
		t.Errorf("renewing %s: %v", p.Name, err)
	}
}

func TestAPublishDoesNotPutAnotherKeyInThePlaceOfARemovedOne(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	if err := a.keys.Remove("blog"); err != nil {
		t.Fatal(err)
	}
	_, err := a.Publish(t.Context(), author.PublishRequest{Root: p.Root, Alias: "blog", Alone: true}, nil)
	if !errors.Is(err, naming.ErrNoKey) || !strings.Contains(err.Error(), p.Name) {
		t.Errorf("%v, want to hear of %s", err, p.Name)
	}
	if _, err := a.keys.Info("blog"); !errors.Is(err, naming.ErrNoKey) {
		t.Errorf("a key stands in the way of the backup: %v", err)
	}
}

func (a *alone) named(p author.Published) naming.Name {
	a.t.Helper()
	n, err := naming.ParseName(p.Name)
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}
