package replicate_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// What is small is fetched without being asked for by name: it has to count all the same.
func TestReleasesTakeNoMoreThanAPinHasDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newPinHost(t)
		h.serve()
		s := namingtest.Signer(t, "site")
		const most = 300_000
		root := h.site("v1", 1, 1000)
		id := h.add(namePin(s, root, replicate.MetaMaxBytes, fmt.Sprint(most)))
		for seq := range 12 {
			st := toRoot(root, uint64(seq+1))
			st.Release = h.block(cid.DagCBOR, "\x7a\x00\x00\xf0\x00"+strings.Repeat(fmt.Sprintf("%06d", seq), 10240)) // a text of 61440 bytes
			h.publish(s, st)
			h.wait(id, "there", at(root, seq+1))
		}
		if got := h.uses(); got > most {
			t.Errorf("%d bytes are kept, where %d were declared", got, most)
		}
		if st := h.status(id); !strings.Contains(st.Info[replicate.InfoLastError], "release") {
			t.Errorf("nothing is said of that: %v", st.Info)
		}
	})
}

func TestANamePinThatIsReplacedLosesNotWhatItHolds(t *testing.T) {
	for _, standby := range []bool{false, true} {
		t.Run(fmt.Sprint("standby ", standby), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newPinHost(t)
				h.serve()
				s := namingtest.Signer(t, "site")
				first, root := h.site("v1", 3, 100), h.site("v2", 3, 100)
				pol := h.policyOf(1, somePeerID(t))
				h.publish(s, naming.Statement{Value: "/ipfs/" + root.String(), Sequence: 4, Policy: pol})
				pin := namePin(s, first)
				if standby {
					pin = withMeta(namePin(s, pol), replicate.MetaRole, replicate.RoleStandby)
				}
				old := h.add(pin)
				h.waitStatus(old, replicate.Pinned)
				if standby {
					h.takeOver(s.Name())
				}
				h.wait(old, "at the root", at(root, 4))
				h.fetcher.set(func(f *copier) { f.down = true }) // this is the only copy
				next, err := h.service.Replace(t.Context(), h.tenant, old, withMeta(pin, replicate.MetaKeep, "3"))
				if err != nil {
					t.Fatal(err)
				}
				for range 100 {
					h.collect()
					time.Sleep(10 * time.Millisecond)
				}
				h.waitGone(old)
				h.collect()
				h.wait(next.RequestID, "at the root", at(root, 4))
				h.wantWhole(root)
			})
		})
	}
}

func TestWhatIsDeniedIsNotKeptAsAPartOfSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list := filepath.Join(t.TempDir(), "denied")
		writeList(t, list)
		h := newPinHost(t, admitting(t, replicate.AdmissionConfig{Denied: lists(t, list)}))
		h.serve()
		part := h.block(cid.Raw, strings.Repeat("page 1 ", 100)[:100]) // of every site below
		before := h.add(replicate.Pin{CID: h.site("v1", 3, 100)})
		h.waitStatus(before, replicate.Pinned)
		writeList(t, list, cid.NewCidV1(cid.DagCBOR, part.Hash()).String()) // whatever it is called
		time.Sleep(2 * time.Minute)
		after := h.add(replicate.Pin{CID: h.site("v2", 3, 100)})
		for _, id := range []string{before, after} {
			if st := h.waitStatus(id, replicate.Failed); !strings.Contains(st.Info[replicate.InfoLastError], "denied") {
				t.Errorf("it failed: %v", st.Info)
			}
			h.wantKept(id)
		}
	})
}

func TestReportsCountAsRequestsOfTheirToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newKeptHost(t)
		_, h.token = h.scoped("slow", replicate.Scope{Rate: 2})
		handler := replicate.NewReportHandler(h.keeper, reportKey(t), replicate.HandlerConfig{})
		ask := func(handler http.Handler, path string) int {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("Authorization", "Bearer "+h.token)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			return w.Code
		}
		path := replicate.ReportPath + h.signer.Name().String()
		for i, want := range []int{404, 404, 429} {
			if got := ask(handler, path); got != want {
				t.Errorf("report %d: %d, want %d", i, got, want)
			}
		}
		if got := ask(replicate.NewHandler(h.service, replicate.HandlerConfig{}), "/pins"); got != 429 {
			t.Errorf("another request of the token: %d, want 429", got)
		}
	})
}
