package replicate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// api is a pin service behind a real socket.
type api struct {
	*pinHost
	url string
	log *bytes.Buffer
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{pinHost: newPinHost(t), log: new(bytes.Buffer)}
	h := replicate.NewHandler(a.service, replicate.HandlerConfig{Log: slog.New(slog.NewTextHandler(a.log, nil))})
	srv := httptest.NewServer(underContract(t, h))
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (a *api) do(method, path, token string, body io.Reader) answer {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// wantFailure checks an error's form: the specification's, with both fields filled.
func wantFailure(t *testing.T, what string, got answer, code int, reason string) {
	t.Helper()
	var f struct {
		Error struct{ Reason, Details string }
	}
	if err := json.Unmarshal(got.body, &f); err != nil || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: the body is no JSON: %q", what, got.body)
		return
	}
	if got.code != code || f.Error.Reason != reason || f.Error.Details == "" {
		t.Errorf("%s: %d %+v; want %d %s with details", what, got.code, f.Error, code, reason)
	}
}

func pinBody(c cid.Cid) io.Reader { return strings.NewReader(`{"cid":"` + c.String() + `"}`) }

// TestTheAPIIsTheSpecifications walks through every verb and looks at the raw
// JSON, since our own types would hide what is misspelt.
func TestTheAPIIsTheSpecifications(t *testing.T) {
	a := newAPI(t)
	root := a.site("v1", 3, 100)
	body := fmt.Sprintf(`{"cid":%q,"name":"PreciousData.pdf","origins":[%q],"meta":{"app_id":"9998"},"unknown":{"a":[1]}}`, root, someAddr)
	got := a.do("POST", "/pins", a.token, strings.NewReader(body))
	if got.code != http.StatusAccepted {
		t.Fatalf("POST /pins: %d %s", got.code, got.body)
	}
	var st map[string]any
	if err := json.Unmarshal(got.body, &st); err != nil {
		t.Fatal(err)
	}
	id, _ := st["requestid"].(string)
	pin, _ := st["pin"].(map[string]any)
	if id == "" || st["status"] != "queued" || pin["cid"] != root.String() || pin["name"] != "PreciousData.pdf" ||
		fmt.Sprint(pin["origins"]) != "["+someAddr+"]" || fmt.Sprint(pin["meta"]) != "map[app_id:9998]" ||
		fmt.Sprint(st["delegates"]) != "["+someAddr+"]" {
		t.Fatalf("POST /pins: %s", got.body)
	}
	if _, err := time.Parse(time.RFC3339Nano, st["created"].(string)); err != nil {
		t.Errorf("created: %v", err)
	}
	if got := a.do("GET", "/pins", a.token, nil); got.code != 200 || string(got.body) != `{"count":0,"results":[]}` {
		t.Errorf("a list before anything is pinned: %d %s", got.code, got.body)
	}
	a.serve()
	a.waitStatus(id, replicate.Pinned)
	one := a.do("GET", "/pins/"+id, a.token, nil)
	if one.code != 200 || !bytes.Contains(one.body, []byte(`"status":"pinned"`)) {
		t.Errorf("GET: %d %s", one.code, one.body)
	}
	if list := a.do("GET", "/pins", a.token, nil); string(list.body) != `{"count":1,"results":[`+string(one.body)+`]}` {
		t.Errorf("a list: %s\nwant the same as %s", list.body, one.body)
	}
	replaced := a.do("POST", "/pins/"+id, a.token, pinBody(a.site("v2", 3, 100)))
	if replaced.code != http.StatusAccepted || bytes.Contains(replaced.body, []byte(id)) {
		t.Errorf("replace: %d %s", replaced.code, replaced.body)
	}
	a.waitGone(id)
	if err := json.Unmarshal(replaced.body, &st); err != nil {
		t.Fatal(err)
	}
	id = st["requestid"].(string)
	if got := a.do("DELETE", "/pins/"+id, a.token, nil); got.code != http.StatusAccepted || len(got.body) != 0 {
		t.Errorf("DELETE: %d %q", got.code, got.body)
	}
	a.waitGone(id)
	for _, m := range []string{"GET", "DELETE"} {
		wantFailure(t, m+" of what is gone", a.do(m, "/pins/"+id, a.token, nil), 404, "NOT_FOUND")
	}
	wantFailure(t, "replace of what is gone", a.do("POST", "/pins/"+id, a.token, pinBody(root)), 404, "NOT_FOUND")
}

func TestRequestsWithoutAGoodTokenAreRefused(t *testing.T) {
	a := newAPI(t)
	id := a.add(replicate.Pin{CID: a.site("v1", 3, 100)})
	revoked, secret := a.newTenant("revoked")
	if err := a.db.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{
		"no token": "", "a wrong token": "hft_" + strings.Repeat("A", 43), "the token cut off": a.token[:len(a.token)-1],
		"the token and more": a.token + "A", "a revoked token": secret, "a huge token": "hft_" + strings.Repeat("A", 10_000),
		"a token's id": a.tenant.ID,
	}
	for what, token := range tokens {
		for _, r := range [][2]string{{"GET", "/pins"}, {"POST", "/pins"}, {"GET", "/pins/" + id}, {"POST", "/pins/" + id}, {"DELETE", "/pins/" + id}} {
			var body io.Reader
			if r[0] == "POST" {
				body = pinBody(namingtest.CID("x"))
			}
			got := a.do(r[0], r[1], token, body)
			wantFailure(t, r[0]+" "+r[1]+" with "+what, got, 401, "UNAUTHORIZED")
			if token != "" && bytes.Contains(got.body, []byte(token)) {
				t.Errorf("the answer repeats the token")
			}
		}
	}
	for _, param := range []string{"token", "access_token", "Authorization"} {
		wantFailure(t, "a token in the query", a.do("GET", "/pins?"+param+"="+a.token, "", nil), 401, "UNAUTHORIZED")
	}
	if rows, n, err := a.db.ListPins(t.Context(), "", replicate.Query{Status: []replicate.Status{replicate.Queued}}); err != nil || n != 1 || rows[0].ID != id {
		t.Errorf("something changed: %v, %v", rows, err)
	}
	if strings.Contains(a.log.String(), "hft_") {
		t.Errorf("a token was logged: %s", a.log)
	}
}

func TestBadPinsAreRefusedAndNothingIsKept(t *testing.T) {
	a := newAPI(t)
	c := namingtest.CID("x").String()
	many := func(n int, f func(i int) string) string {
		var s []string
		for i := range n {
			s = append(s, f(i))
		}
		return strings.Join(s, ",")
	}
	origins := func(n int) string { return many(n, func(i int) string { return `"` + someAddr + `"` }) }
	keys := func(n int) string { return many(n, func(i int) string { return fmt.Sprintf(`"k%d":"v"`, i) }) }
	meta := func(k, v string) string { return fmt.Sprintf(`{"cid":%q,"meta":{%q:%q}}`, c, k, v) }
	hashed := func(code uint64, n int) string {
		h, err := mh.Encode(make([]byte, n), code)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(cid.Raw, h).String()
	}
	bad := map[string]string{
		"nothing":                    ``,
		"text":                       `hello`,
		"null":                       `null`,
		"an array":                   `[]`,
		"no CID":                     `{}`,
		"a CID that is none":         `{"cid":"QmNope"}`,
		"a CID as a number":          `{"cid":7}`,
		"a CID as a link":            `{"cid":{"/":"` + c + `"}}`,
		"a CID of a weak hash":       `{"cid":"` + hashed(mh.MD5, 16) + `"}`,
		"an identity CID of 129":     `{"cid":"` + hashed(mh.IDENTITY, 129) + `"}`,
		"a very long CID":            `{"cid":"z` + strings.Repeat("1", 100_000) + `"}`,
		"a name of 256":              `{"cid":"` + c + `","name":"` + strings.Repeat("ä", 256) + `"}`,
		"a name as a number":         `{"cid":"` + c + `","name":1}`,
		"21 origins":                 `{"cid":"` + c + `","origins":[` + origins(21) + `]}`,
		"an origin that is none":     `{"cid":"` + c + `","origins":["http://example.com"]}`,
		"an origin without a peer":   `{"cid":"` + c + `","origins":["/ip4/127.0.0.1/tcp/1"]}`,
		"a long origin":              `{"cid":"` + c + `","origins":["/dns4/` + strings.Repeat("a", 600) + `/tcp/1/p2p/` + somePeer + `"]}`,
		"65 keys of meta":            `{"cid":"` + c + `","meta":{` + keys(65) + `}}`,
		"meta that is no string":     `{"cid":"` + c + `","meta":{"a":1}}`,
		"a key of 129":               meta(strings.Repeat("k", 129), "v"),
		"a value of 1025":            meta("k", strings.Repeat("v", 1025)),
		"something after the pin":    `{"cid":"` + c + `"} {}`,
		"a brace after the pin":      `{"cid":"` + c + `"}}`,
		"half a pin":                 `{"cid":"` + c,
		"very deep":                  `{"cid":"` + c + `","x":` + strings.Repeat("[", 200_000),
		"a followed name that's bad": meta(replicate.MetaName, "blog"),
		"a site that is none":        meta(replicate.MetaSite, "blog"),
		"an unknown role":            meta(replicate.MetaRole, "king"),
		"keep of 0":                  meta(replicate.MetaKeep, "0"),
		"keep of 65":                 meta(replicate.MetaKeep, "65"),
		"keep that is no number":     meta(replicate.MetaKeep, "two"),
		"max_bytes below 0":          meta(replicate.MetaMaxBytes, "-1"),
		"max_bytes beyond int64":     meta(replicate.MetaMaxBytes, "9223372036854775808"),
		"an auditor that is none":    meta(replicate.MetaAuditor, "bob"),
	}
	for what, body := range bad {
		wantFailure(t, what, a.do("POST", "/pins", a.token, strings.NewReader(body)), 400, "BAD_REQUEST")
	}
	wantFailure(t, "a body of 100 MB", a.do("POST", "/pins", a.token, io.LimitReader(zeros{}, 100<<20)), 413, "TOO_LARGE")
	if _, n, err := a.db.ListPins(t.Context(), "", replicate.Query{Status: []replicate.Status{replicate.Queued}}); err != nil || n != 0 {
		t.Errorf("%d pins were kept, %v", n, err)
	}

	good := map[string]string{
		"a name of 255":          `{"cid":"` + c + `","name":"` + strings.Repeat("ä", 255) + `"}`,
		"20 origins":             `{"cid":"` + c + `","origins":[` + origins(20) + `]}`,
		"64 keys":                `{"cid":"` + c + `","meta":{` + keys(64) + `}}`,
		"a key of 128":           meta(strings.Repeat("k", 128), "v"),
		"a value of 1024":        meta("k", strings.Repeat("v", 1024)),
		"a body of 1 MiB":        `{"cid":"` + c + `"}` + strings.Repeat(" ", replicate.MaxRequestBytes-len(c)-10),
		"keep of 64":             meta(replicate.MetaKeep, "64"),
		"an identity CID of 128": `{"cid":"` + hashed(mh.IDENTITY, 128) + `"}`,
		"a CID of version 0":     `{"cid":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"}`,
		"nulls for what is not":  `{"cid":"` + c + `","name":null,"origins":null,"meta":null}`,
	}
	for what, body := range good {
		if got := a.do("POST", "/pins", a.token, strings.NewReader(body)); got.code != 202 {
			t.Errorf("%s: %d %s, want 202", what, got.code, got.body)
		}
	}
	over := `{"cid":"` + c + `"}` + strings.Repeat(" ", replicate.MaxRequestBytes-len(c)-9)
	wantFailure(t, "a body of 1 MiB and a byte", a.do("POST", "/pins", a.token, strings.NewReader(over)), 413, "TOO_LARGE")
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestBadQueriesAreRefused(t *testing.T) {
	a := newAPI(t)
	c := namingtest.CID("x").String()
	for _, q := range []string{
		"limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=", "limit=99999999999999999999",
		"before=yesterday", "before=", "before=2020-07-27", "after=1595870000", "after=2020-13-01T00:00:00Z",
		"cid=nope", "cid=", "cid=" + c + ",", "cid=" + strings.Repeat(c+",", 10) + c, "cid=z" + strings.Repeat("1", 5000),
		"name=" + strings.Repeat("a", 256), "name=%ff", "match=fuzzy&name=a", "status=done", "status=", "status=pinned,,queued",
		"meta=x", "meta=", "meta=null", "meta=[]", "meta=%7B%22a%22:1%7D", "limit=%zz", "name=" + strings.Repeat("a", 70_000),
	} {
		wantFailure(t, "GET /pins?"+q[:min(len(q), 80)], a.do("GET", "/pins?"+q, a.token, nil), 400, "BAD_REQUEST")
	}
	for _, q := range []string{"limit=1", "limit=1000", "cid=" + c, "before=2020-07-27T17:32:28Z", "after=2020-07-27T17:32:28.123456789%2B02:00",
		"name=" + strings.Repeat("a", 255), "match=iexact", "status=queued,pinning,pinned,failed", "meta=%7B%7D", "unknown=1"} {
		if got := a.do("GET", "/pins?"+q, a.token, nil); got.code != 200 {
			t.Errorf("GET /pins?%s: %d %s, want 200", q, got.code, got.body)
		}
	}
}

func TestOtherAddressesAndMethodsAreRefused(t *testing.T) {
	a := newAPI(t)
	for _, r := range [][2]string{{"PUT", "/pins"}, {"DELETE", "/pins"}, {"HEAD", "/pins"}, {"PATCH", "/pins/x"}, {"PUT", "/pins/x"}} {
		got := a.do(r[0], r[1], a.token, nil)
		if got.code != 405 || got.header.Get("Allow") == "" {
			t.Errorf("%s %s: %d, allow %q; want 405", r[0], r[1], got.code, got.header.Get("Allow"))
		}
	}
	for _, p := range []string{"/", "/pins/", "/pin", "/pins/a/b", "/pinsx", "/pins/..%2fpins"} {
		if got := a.do("GET", p, a.token, nil); got.code != 404 {
			t.Errorf("GET %s: %d, want 404", p, got.code)
		}
	}
}

func TestAnotherTenantsPinIsA404OverHTTP(t *testing.T) {
	a := newAPI(t)
	a.serve()
	root := a.site("v1", 3, 100)
	id := a.add(replicate.Pin{CID: root})
	before := a.waitStatus(id, replicate.Pinned)
	_, other := a.newTenant("other")
	for _, m := range []string{"GET", "POST", "DELETE"} {
		wantFailure(t, m, a.do(m, "/pins/"+id, other, pinBody(root)), 404, "NOT_FOUND")
	}
	wantFailure(t, "a bad pin in its place", a.do("POST", "/pins/"+id, other, strings.NewReader("{}")), 404, "NOT_FOUND")
	if got := a.do("GET", "/pins?status=queued,pinning,pinned,failed", other, nil); string(got.body) != `{"count":0,"results":[]}` {
		t.Errorf("list: %s", got.body)
	}
	if after := a.status(id); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("changed from %v to %v", before, after)
	}
}

func TestAskingForMoreThanTheHostGivesIsA409(t *testing.T) {
	a := newAPI(t)
	a.build(func(c *replicate.ServiceConfig) { c.MaxPinBytes = 1000 })
	srv := httptest.NewServer(replicate.NewHandler(a.service, replicate.HandlerConfig{}))
	defer srv.Close()
	a.url = srv.URL
	body := fmt.Sprintf(`{"cid":%q,"meta":{%q:"1001"}}`, namingtest.CID("x"), replicate.MetaMaxBytes)
	wantFailure(t, "max_bytes over the host's", a.do("POST", "/pins", a.token, strings.NewReader(body)), 409, "INSUFFICIENT_FUNDS")
}

func TestListsFilterCountAndPage(t *testing.T) {
	a := newAPI(t)
	var ids []string
	names := []string{"Alpha", "alpha", "Alphabet", "ÄRGER", "ärger", "b%t", "b_t", "bet"}
	for i, n := range names {
		p := replicate.Pin{CID: namingtest.CID(fmt.Sprint(i / 2)), Name: n, Meta: map[string]string{"app": fmt.Sprint(i % 3), "n": n}}
		ids = append(ids, a.add(p))
	}
	every := "status=queued,pinning,pinned,failed"
	for _, c := range []struct {
		query string
		want  []int // indices of names, newest first
	}{
		{"", nil}, // nothing is pinned
		{"limit=5", nil},
		{"status=queued", []int{7, 6, 5, 4, 3, 2, 1, 0}},
		{every + "&limit=2", []int{7, 6}},
		{"status=pinned,failed", nil},
		{"name=alpha", []int{1}},
		{"name=alpha&match=exact", []int{1}},
		{"name=alpha&match=iexact", []int{1, 0}},
		{"name=lpha&match=partial", []int{2, 1, 0}},
		{"name=LPHAB&match=partial", nil},
		{"name=LPHAB&match=ipartial", []int{2}},
		{"name=" + url.QueryEscape("ärger") + "&match=iexact", []int{4, 3}},
		{"name=b%25t&match=partial", []int{5}}, // no wildcards
		{"name=b_t&match=ipartial", []int{6}},
		{"cid=" + namingtest.CID("1").String(), []int{3, 2}},
		{"cid=" + namingtest.CID("0").String() + "," + namingtest.CID("3").String(), []int{7, 6, 1, 0}},
		{"meta=" + url.QueryEscape(`{"app":"1"}`), []int{7, 4, 1}},
		{"meta=" + url.QueryEscape(`{"app":"1","n":"bet"}`), []int{7}},
		{"meta=" + url.QueryEscape(`{"app":"9"}`), nil},
		{"name=alpha&match=iexact&meta=" + url.QueryEscape(`{"app":"0"}`), []int{0}},
		{every + "&before=" + a.created(ids[2]), []int{1, 0}},
		{every + "&after=" + a.created(ids[5]), []int{7, 6}},
		{every + "&after=" + a.created(ids[2]) + "&before=" + a.created(ids[5]), []int{4, 3}},
	} {
		got := a.do("GET", "/pins?"+c.query, a.token, nil)
		var res replicate.PinResults
		if err := json.Unmarshal(got.body, &res); err != nil || got.code != 200 {
			t.Errorf("%s: %d %s", c.query, got.code, got.body)
			continue
		}
		var have, want []string
		for _, st := range res.Results {
			have = append(have, st.Pin.Name)
		}
		for _, i := range c.want {
			want = append(want, names[i])
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", c.query, have, want)
		}
		if n := len(want); res.Count != n && !strings.Contains(c.query, "limit") {
			t.Errorf("%s: count is %d, want %d", c.query, res.Count, n)
		}
		if strings.Contains(c.query, "limit=2") && res.Count != len(names) {
			t.Errorf("%s: count is %d, want all %d", c.query, res.Count, len(names))
		}
	}
}

func (a *api) created(id string) string {
	return url.QueryEscape(a.status(id).Created.Format(time.RFC3339Nano))
}

func TestTheSameCIDInAnyVersionIsFound(t *testing.T) {
	a := newAPI(t)
	v0, err := cid.Decode("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")
	if err != nil {
		t.Fatal(err)
	}
	a.add(replicate.Pin{CID: v0})
	for _, c := range []cid.Cid{v0, cid.NewCidV1(v0.Type(), v0.Hash())} {
		got := a.do("GET", "/pins?cid="+c.String(), a.token, nil)
		if !bytes.Contains(got.body, []byte(`"count":1`)) || !bytes.Contains(got.body, []byte(`"cid":"`+v0.String()+`"`)) {
			t.Errorf("by %s: %s", c, got.body)
		}
	}
}
