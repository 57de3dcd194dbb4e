package replicate_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/deny"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// admitting has a host take what cfg says.
func admitting(t *testing.T, cfg replicate.AdmissionConfig) func(*replicate.ServiceConfig) {
	t.Helper()
	a := replicate.NewAdmission(cfg)
	return func(c *replicate.ServiceConfig) { c.Admission = a }
}

// lists are the one in a file.
func lists(t *testing.T, file string) *deny.Lists {
	t.Helper()
	l, err := deny.Open(deny.Config{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func writeList(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAHostTakesTheSitesThatItsOperatorAllows(t *testing.T) {
	mine, other := namingtest.Signer(t, "mine"), namingtest.Signer(t, "other")
	h := newPinHost(t, admitting(t, replicate.AdmissionConfig{Allow: []naming.Name{mine.Name()}}))
	root := namingtest.CID("root")
	h.add(namePin(mine, root))
	h.add(withMeta(replicate.Pin{CID: root}, replicate.MetaSite, mine.Name().String()))
	for what, p := range map[string]replicate.Pin{"another site": namePin(other, root), "no site": {CID: root}} {
		if _, err := h.service.Add(t.Context(), h.tenant, p); !errors.Is(err, replicate.ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.as(replicate.LocalTenant, func() { h.add(namePin(other, root)) }) // the operator's own wish
}

func TestASiteThatIsTooLargeForTheHostIsNotTaken(t *testing.T) {
	h := newPinHost(t, admitting(t, replicate.AdmissionConfig{MaxSiteBytes: 5000}))
	h.serve()
	h.waitStatus(h.add(replicate.Pin{CID: h.site("v1", 20, 1000)}), replicate.Failed)
	h.waitStatus(h.add(withMeta(replicate.Pin{CID: h.site("v1", 3, 1000)}, replicate.MetaMaxBytes, "9000")), replicate.Pinned)
}

func TestWhatIsDeniedIsRefusedAtOnceAndAtASwitch(t *testing.T) {
	bad, site, banned := namingtest.CID("bad"), namingtest.Signer(t, "site"), namingtest.Signer(t, "banned")
	list := filepath.Join(t.TempDir(), "deny")
	h := newPinHost(t)
	v1, v2 := h.folder(map[string]string{"a": "1"}), h.folder(map[string]string{"a": "2"})
	writeList(t, list, "# not here", bad.String(), "/ipfs/"+v2.String()+" # this neither", "/ipns/"+banned.Name().String())
	h.build(admitting(t, replicate.AdmissionConfig{Denied: lists(t, list)}))
	h.serve()
	for what, p := range map[string]replicate.Pin{
		"a CID": {CID: bad}, "the same as another version": {CID: cid.NewCidV1(cid.Raw, bad.Hash())}, "a name": namePin(banned, v1),
		"a root of a site": withMeta(replicate.Pin{CID: v1}, replicate.MetaSite, banned.Name().String()),
	} {
		for _, who := range []replicate.Tenant{h.tenant, replicate.LocalTenant} {
			if _, err := h.service.Add(t.Context(), who, p); !errors.Is(err, replicate.ErrDenied) || !errors.Is(err, replicate.ErrForbidden) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	id := h.add(namePin(site, v1))
	h.publish(site, toRoot(v1, 1))
	h.wait(id, "at the first root", at(v1, 1))
	h.publish(site, toRoot(v2, 2))
	st := h.wait(id, "refused", func(st replicate.PinStatus) bool { return st.Info[replicate.InfoLastError] != "" })
	if !at(v1, 1)(st) || !strings.Contains(st.Info[replicate.InfoLastError], "denied") {
		t.Errorf("%s %v", st.Status, st.Info)
	}
	for _, c := range h.fetcher.asked() {
		if c == v2 {
			t.Error("it was fetched even so")
		}
	}
}

func TestAPinThatComesToBeDeniedIsLetGoOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "deny")
		writeList(t, list)
		collected := 0
		h := newPinHost(t, admitting(t, replicate.AdmissionConfig{Denied: lists(t, list)}), func(c *replicate.ServiceConfig) { c.OnTakenBack = func() { collected++ } })
		h.serve()
		site := namingtest.Signer(t, "site")
		good, bad, named := h.site("good", 2, 100), h.site("bad", 2, 100), h.site("named", 2, 100)
		ids := []string{h.add(replicate.Pin{CID: good}), h.add(replicate.Pin{CID: bad}), h.add(namePin(site, named))}
		time.Sleep(10 * time.Second)
		writeList(t, list, bad.String(), "no CID at all")
		time.Sleep(2 * time.Minute)
		for _, id := range ids {
			if st := h.status(id); st.Status != replicate.Pinned {
				t.Fatalf("by a list with a mistake: %s %v", st.Status, st.Info)
			}
		}
		writeList(t, list, bad.String(), site.Name().String())
		time.Sleep(2 * time.Minute)
		if st := h.status(ids[0]); st.Status != replicate.Pinned {
			t.Errorf("a pin that is not denied: %s %v", st.Status, st.Info)
		}
		for _, id := range ids[1:] {
			if st := h.status(id); st.Status != replicate.Failed || !strings.Contains(st.Info[replicate.InfoLastError], "denied") {
				t.Errorf("%s %v", st.Status, st.Info)
			}
			h.wantKept(id)
		}
		if collected != 2 {
			t.Errorf("asked %d times for the space, want twice", collected)
		}
		if a := h.account(); a.Reserved != 0 {
			t.Errorf("%+v", a)
		}
	})
}

func TestAHostThatIsBeingEmptiedTakesNoNewPins(t *testing.T) {
	h := newPinHost(t)
	h.serve()
	site := namingtest.Signer(t, "site")
	root := h.site("v1", 2, 100)
	old := h.add(namePin(site, root))
	h.waitStatus(old, replicate.Pinned)
	h.build(withDraining)
	w, why := h.call("POST", "/pins", bodyOf(t, replicate.Pin{CID: root}))
	if w.Code != 403 || !strings.HasPrefix(why, "DRAINING") {
		t.Errorf("%d %s", w.Code, why)
	}
	if st := h.status(old); st.Status != replicate.Pinned {
		t.Errorf("what was here: %s", st.Status)
	}
	if _, err := h.service.Replace(t.Context(), h.tenant, old, namePin(site, h.site("v2", 2, 100))); err != nil {
		t.Errorf("an author who takes something back: %v", err)
	}
	if _, err := h.service.Replace(t.Context(), h.tenant, old, namePin(namingtest.Signer(t, "new"), root)); !errors.Is(err, replicate.ErrDraining) {
		t.Errorf("a new site in the place of an old one: %v", err)
	}
}
