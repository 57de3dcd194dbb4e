package replicate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// FuzzAcceptedPinsKeepTheContract: a pin that is accepted is told to its tenant again, and must be one that the
// specification allows then, whatever it looked like when it came.
func FuzzAcceptedPinsKeepTheContract(f *testing.F) {
	c := namingtest.CID("x").String()
	for _, s := range []string{
		`{"cid":"` + c + `"}`,
		`{"cid":"` + c + `","name":"a","origins":["` + someAddr + `","` + someAddr + `"],"meta":{"a":"b","a":"c"}}`,
		`{"cid":"` + c + `","name":null,"origins":null,"meta":null}`,
		`{"cid":"` + c + `","meta":{"a":null},"META":{"b":"c"}}`,
		`{"CID":"` + c + `","Name":"` + strings.Repeat("\\u00e4", 255) + `"}`,
	} {
		f.Add([]byte(s))
	}
	spec := newContract(f)
	req := httptest.NewRequest("GET", "/pins", nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := replicate.ParsePin(body)
		if err != nil {
			if !errors.Is(err, replicate.ErrInvalid) {
				t.Fatalf("not an InvalidError: %v", err)
			}
			return
		}
		if len(utf16s(p.Name)) > replicate.MaxPinName {
			return // the checker counts halves of characters, the specification whole ones
		}
		st := replicate.PinStatus{RequestID: "1", Status: replicate.Queued, Created: time.Unix(1, 0), Pin: p, Delegates: []string{someAddr}}
		b, err := json.Marshal(replicate.PinResults{Count: 1, Results: []replicate.PinStatus{st}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/json")
		w.Write(b)
		if err := spec.check(req, w); err != nil {
			t.Errorf("%s became %s: %v", body, b, err)
		}
	})
}

// utf16s is a string's length in the checker's unit.
func utf16s(s string) []uint16 {
	var units []uint16
	for _, r := range s {
		units = append(units, uint16(r))
		if r > 0xffff {
			units = append(units, 0)
		}
	}
	return units
}

// FuzzPinResults reads what a host answers as our client does: the host may be anybody.
func FuzzPinResults(f *testing.F) {
	c := namingtest.CID("x").String()
	f.Add([]byte(`{"count":1,"results":[{"requestid":"1","status":"pinned","created":"2020-07-27T17:32:28Z","pin":{"cid":"` + c + `"},"delegates":["` + someAddr + `"],"info":{"a":"b"}}]}`))
	f.Add([]byte(`{"count":-1,"results":null}`))
	f.Add([]byte(`{"results":[{"pin":{"cid":"` + c + `","meta":{"a":null}}},{"pin":null}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var res replicate.PinResults
		if json.Unmarshal(body, &res) != nil {
			return
		}
		for _, st := range res.Results {
			_ = st.Pin.Check() // must not panic, whatever it finds
			_, _ = st.Pin.Terms()
			if !st.Pin.CID.Defined() {
				return // was null
			}
		}
		b, err := json.Marshal(res)
		if err != nil {
			return // a time beyond the year 9999
		}
		var again replicate.PinResults
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatalf("%s can't be read again: %v", b, err)
		}
		if b2, err := json.Marshal(again); err != nil || !bytes.Equal(b, b2) && utf8.Valid(body) {
			t.Errorf("%s became %s, %v", b, b2, err)
		}
	})
}
