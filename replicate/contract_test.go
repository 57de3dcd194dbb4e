package replicate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// specification is the Pinning Service API 1.0.0 as published: what other people's clients were generated from.
var specification = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile("testdata/ipfs-pinning-service-1.0.0.yaml")
})

// contract checks answers against the specification: status, type and body of each.
type contract struct {
	doc     *openapi3.T
	options *openapi3filter.Options
}

func newContract(t testing.TB) contract {
	t.Helper()
	doc, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	rfc3339 := openapi3.NewCallbackValidator(func(s string) error {
		_, err := time.Parse(time.RFC3339Nano, s)
		return err
	})
	return contract{doc, &openapi3filter.Options{
		MultiError: true, IncludeResponseStatus: true, SkipSettingDefaults: true,
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		SchemaValidationOptions: []openapi3.SchemaValidationOption{
			openapi3.EnableFormatValidation(), openapi3.WithStringFormatValidator("date-time", rfc3339),
		},
	}}
}

// route is where the specification describes a request; nil where it doesn't.
func (c contract) route(r *http.Request) (*routers.Route, map[string]string) {
	path, params := r.URL.Path, map[string]string{}
	if id, one := strings.CutPrefix(path, "/pins/"); one && id != "" && !strings.Contains(id, "/") {
		path, params["requestid"] = "/pins/{requestid}", id
	}
	item := c.doc.Paths.Value(path)
	if item == nil || item.GetOperation(r.Method) == nil {
		return nil, nil
	}
	return &routers.Route{Spec: c.doc, Path: path, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)}, params
}

// check says what is wrong with an answer. A request that breaks the specification itself must not be accepted
// with an answer that breaks it too, so that answers are looked at whatever was asked.
func (c contract) check(r *http.Request, got *httptest.ResponseRecorder) error {
	route, params := c.route(r)
	if route == nil {
		return nil
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: params, Options: c.options},
		Status:                 got.Code, Header: got.Result().Header, Options: c.options,
	}
	if r.Method == http.MethodDelete && got.Code == http.StatusAccepted && got.Body.Len() > 0 {
		return errors.New("the answer has a body, and none is described")
	}
	return openapi3filter.ValidateResponse(r.Context(), in.SetBodyBytes(got.Body.Bytes()))
}

// refuses says why the specification refuses a request; nil where it accepts it.
func (c contract) refuses(r *http.Request) error {
	route, params := c.route(r)
	if route == nil {
		return errors.New("not in the specification")
	}
	return openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: params, Options: c.options,
	})
}

// underContract has every answer of a handler checked on its way out. It is meant for all tests that talk to the pin
// service over HTTP.
func underContract(t testing.TB, h http.Handler) http.Handler {
	c := newContract(t)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := httptest.NewRecorder()
		h.ServeHTTP(got, r)
		if err := c.check(r, got); err != nil {
			t.Errorf("%s %.200s: %d breaks the specification: %v\n%.2000s", r.Method, r.URL, got.Code, err, got.Body)
		}
		for k, v := range got.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(got.Code)
		_, _ = w.Write(got.Body.Bytes()) // who asked may be gone
	})
}

// TestTheContractNoticesWhatIsWrong holds the check itself to its word.
func TestTheContractNoticesWhatIsWrong(t *testing.T) {
	c := newContract(t)
	const good = `{"requestid":"1","status":"queued","created":"2020-07-27T17:32:28.123Z","pin":{"cid":"Qm"},"delegates":["/a"]}`
	for what, a := range map[string]struct {
		method, path string
		code         int
		kind, body   string
		fine         bool
	}{
		"a pin":                      {"GET", "/pins/1", 200, "application/json", good, true},
		"a list":                     {"GET", "/pins", 200, "application/json", `{"count":1,"results":[` + good + `]}`, true},
		"an error":                   {"GET", "/pins/1", 418, "application/json", `{"error":{"reason":"TEA"}}`, true},
		"200 for a new pin":          {"POST", "/pins", 200, "application/json", good, false},
		"a pin as text":              {"POST", "/pins", 202, "text/plain", good, false},
		"no delegates":               {"POST", "/pins", 202, "application/json", strings.Replace(good, `["/a"]`, `[]`, 1), false},
		"a delegate twice":           {"POST", "/pins", 202, "application/json", strings.Replace(good, `["/a"]`, `["/a","/a"]`, 1), false},
		"a status of our own":        {"POST", "/pins", 202, "application/json", strings.Replace(good, "queued", "waiting", 1), false},
		"a time of another kind":     {"POST", "/pins", 202, "application/json", strings.Replace(good, "T17", " 17", 1), false},
		"info that is no string":     {"GET", "/pins/1", 200, "application/json", strings.Replace(good, `"pin"`, `"info":{"n":1},"pin"`, 1), false},
		"a list without a count":     {"GET", "/pins", 200, "application/json", `{"results":[]}`, false},
		"an error without a reason":  {"GET", "/pins", 401, "application/json", `{"error":{"details":"x"}}`, false},
		"an error that is a string":  {"GET", "/pins", 500, "application/json", `{"error":"x"}`, false},
		"an error without a body":    {"GET", "/pins/1", 404, "", "", false},
		"a redirect":                 {"GET", "/pins", 302, "", "", false},
		"a body after a delete":      {"DELETE", "/pins/1", 202, "application/json", good, false},
		"a delete that answers 204":  {"DELETE", "/pins/1", 204, "", "", false},
		"an address it doesn't know": {"GET", "/other", 200, "", "anything", true},
	} {
		w := httptest.NewRecorder()
		if a.kind != "" {
			w.Header().Set("Content-Type", a.kind)
		}
		w.WriteHeader(a.code)
		w.WriteString(a.body)
		if err := c.check(httptest.NewRequest(a.method, a.path, nil), w); (err == nil) != a.fine {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestWhatTheSpecificationRefusesIsRefused sends what breaks the specification and what just keeps it: the
// service must draw the line where the specification does.
func TestWhatTheSpecificationRefusesIsRefused(t *testing.T) {
	a := newAPI(t)
	c := newContract(t)
	root := namingtest.CID("x").String()
	cids := func(n int) string {
		var s []string
		for i := range n {
			s = append(s, namingtest.CID(fmt.Sprint(i)).String())
		}
		return strings.Join(s, ",")
	}
	origins := func(n int) string {
		var s []string
		for i := range n {
			s = append(s, fmt.Sprintf("%q", strings.Replace(someAddr, "4001", fmt.Sprint(4001+i), 1)))
		}
		return strings.Join(s, ",")
	}
	for _, r := range [][3]string{
		{"GET", "/pins", ""},
		{"GET", "/pins?limit=0", ""},
		{"GET", "/pins?limit=1", ""},
		{"GET", "/pins?limit=1000", ""},
		{"GET", "/pins?limit=1001", ""},
		{"GET", "/pins?limit=1.5", ""},
		{"GET", "/pins?cid=" + cids(1), ""},
		{"GET", "/pins?cid=" + cids(10), ""},
		{"GET", "/pins?cid=" + cids(11), ""},
		{"GET", "/pins?name=" + strings.Repeat("a", 255), ""},
		{"GET", "/pins?name=" + strings.Repeat("a", 256), ""},
		{"GET", "/pins?match=exact", ""},
		{"GET", "/pins?match=Exact", ""},
		{"GET", "/pins?status=queued", ""},
		{"GET", "/pins?status=queued,pinned,failed,pinning", ""},
		{"GET", "/pins?status=queued,done", ""},
		{"GET", "/pins?before=2020-07-27T17:32:28Z", ""},
		{"GET", "/pins?before=2020-07-27T17:32:28.5%2B02:00", ""},
		{"GET", "/pins?before=2020-07-27", ""},
		{"GET", "/pins?after=tomorrow", ""},
		{"GET", "/pins?meta=%7B%22a%22:%22b%22%7D", ""},
		{"GET", "/pins?meta=%7B%22a%22:%7B%7D%7D", ""},
		{"POST", "/pins", `{"cid":"` + root + `"}`},
		{"POST", "/pins", ``},
		{"POST", "/pins", `{}`},
		{"POST", "/pins", `[]`},
		{"POST", "/pins", `{"cid":1}`},
		{"POST", "/pins", `{"cid":"` + root + `","name":"` + strings.Repeat("ä", 255) + `"}`},
		{"POST", "/pins", `{"cid":"` + root + `","name":"` + strings.Repeat("ä", 256) + `"}`},
		{"POST", "/pins", `{"cid":"` + root + `","origins":[` + origins(20) + `]}`},
		{"POST", "/pins", `{"cid":"` + root + `","origins":[` + origins(21) + `]}`},
		{"POST", "/pins", `{"cid":"` + root + `","origins":{}}`},
		{"POST", "/pins", `{"cid":"` + root + `","meta":{"a":"b"}}`},
		{"POST", "/pins", `{"cid":"` + root + `","meta":{"a":null}}`},
		{"POST", "/pins", `{"cid":"` + root + `","meta":["a"]}`},
	} {
		req := httptest.NewRequest(r[0], r[1], strings.NewReader(r[2]))
		req.Header.Set("Content-Type", "application/json")
		refused := c.refuses(req)
		got := a.do(r[0], r[1], a.token, strings.NewReader(r[2]))
		if refused != nil && got.code != http.StatusBadRequest {
			t.Errorf("%s %.100s %.200s: %d, and the specification refuses it: %v", r[0], r[1], r[2], got.code, refused)
		}
		if refused == nil && got.code >= 300 {
			t.Errorf("%s %.100s %.200s: %d %s, and the specification allows it", r[0], r[1], r[2], got.code, got.body)
		}
	}
}

func TestWhatFailsHereIsA5xxOfTheSpecification(t *testing.T) {
	a := newAPI(t)
	id := a.add(replicate.Pin{CID: namingtest.CID("x")})
	each := func(what string, code int) {
		t.Helper()
		for _, r := range [][2]string{{"GET", "/pins"}, {"GET", "/pins/" + id}, {"POST", "/pins"}, {"POST", "/pins/" + id}, {"DELETE", "/pins/" + id}} {
			if got := a.do(r[0], r[1], a.token, pinBody(namingtest.CID("y"))); got.code != code {
				t.Errorf("%s %s %s: %d %s, want %d", r[0], r[1], what, got.code, got.body, code)
			}
		}
	}
	hurried := httptest.NewServer(underContract(t, replicate.NewHandler(a.service, replicate.HandlerConfig{Timeout: time.Nanosecond})))
	defer hurried.Close()
	patient := a.url
	a.url = hurried.URL
	each("with no time for it", http.StatusServiceUnavailable)
	a.url = patient
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	each("without a database", http.StatusInternalServerError)
}

// TestPagesByCreatedHaveEveryPinOnce reads all pages as clients do that know times to the millisecond only, as those in
// JavaScript do, although all pins came at once.
func TestPagesByCreatedHaveEveryPinOnce(t *testing.T) {
	a := newAPI(t)
	now := time.Now()
	a.build(func(c *replicate.ServiceConfig) { c.Now = func() time.Time { return now } })
	const all = 25
	for i := range all {
		a.add(replicate.Pin{CID: namingtest.CID(fmt.Sprint(i % 3)), Name: fmt.Sprint(i)})
	}
	for _, size := range []int{1, 7, 10} {
		seen := map[string]bool{}
		path := fmt.Sprintf("/pins?status=queued&limit=%d", size)
		for page := path; ; {
			var res replicate.PinResults
			got := a.do("GET", page, a.token, nil)
			if err := json.Unmarshal(got.body, &res); err != nil {
				t.Fatalf("%s: %d %s", page, got.code, got.body)
			}
			for _, st := range res.Results {
				if seen[st.RequestID] {
					t.Errorf("pages of %d: %s came twice", size, st.Pin.Name)
				}
				seen[st.RequestID] = true
			}
			if res.Count != all-len(seen)+len(res.Results) {
				t.Errorf("pages of %d: %d are left, %d were seen of %d", size, res.Count, len(seen), all)
			}
			if len(res.Results) == res.Count {
				break
			}
			oldest := res.Results[len(res.Results)-1].Created
			page = path + "&before=" + oldest.Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
		}
		if len(seen) != all {
			t.Errorf("pages of %d: %d of %d pins came", size, len(seen), all)
		}
	}
}

// TestMetaIsFilteredAsClientsSpellIt has the filter as the specification spells it, and as clients do that were
// generated from it for JavaScript.
func TestMetaIsFilteredAsClientsSpellIt(t *testing.T) {
	a := newAPI(t)
	for i := range 4 {
		a.add(replicate.Pin{CID: namingtest.CID(fmt.Sprint(i)), Meta: map[string]string{"app": fmt.Sprint(i % 2), "n n": fmt.Sprint(i)}})
	}
	for query, want := range map[string]int{
		"meta=%7B%22app%22:%220%22%7D":                     2,
		"meta%5Bapp%5D=0":                                  2,
		"meta[app]=1&meta[n%20n]=3":                        1,
		"meta[app]=1&meta[n%20n]=2":                        0,
		"meta=%7B%22app%22:%220%22%7D&meta[n%20n]=2":       1,
		"meta[app]=0&meta[app]=1":                          -1,
		"meta=%7B%22app%22:%220%22%7D&meta[app]=0":         -1,
		"meta[app=0":                                       -1,
		"meta=map%5Bapp:0%5D":                              -1, // a client that doesn't know how: it must not get everything
		"meta=%7B%22app%22:null%7D":                        -1,
		"meta=%7B%22app%22:%220%22%7D&meta%5Bn%20n%5D=%ff": 0,
	} {
		got := a.do("GET", "/pins?status=queued&"+query, a.token, nil)
		if want < 0 {
			wantFailure(t, query, got, 400, "BAD_REQUEST")
			continue
		}
		if !bytes.Contains(got.body, fmt.Appendf(nil, `"count":%d,`, want)) {
			t.Errorf("%s: %d %s, want %d", query, got.code, got.body, want)
		}
	}
}

func TestAnOriginNamedTwiceIsKeptOnce(t *testing.T) {
	a := newAPI(t)
	body := fmt.Sprintf(`{"cid":%q,"origins":[%[2]q,%q,%[2]q]}`, namingtest.CID("x"), someAddr, "/p2p/"+somePeer)
	got := a.do("POST", "/pins", a.token, strings.NewReader(body))
	if want := fmt.Sprintf(`"origins":[%q,%q]`, someAddr, "/p2p/"+somePeer); got.code != 202 || !bytes.Contains(got.body, []byte(want)) {
		t.Errorf("%d %s, want %s", got.code, got.body, want)
	}
}
