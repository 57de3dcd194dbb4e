package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming/namingtest"
	"github.com/holdfast-sites/holdfast/replicate"
)

// pinServer is a host's arguments, and the token of somebody whom it keeps pins for.
func (w *world) pinServer(name string) (h *node, token string) {
	w.t.Helper()
	h = w.serve(name, slices.Concat([]string{"--host", "--name", name, "--pins", "127.0.0.1:0"}, loopback)...)
	var made struct{ Token string }
	w.must(&made, name, "token", "create", "somebody")
	return h, made.Token
}

var everyStatus = []replicate.Status{replicate.Queued, replicate.Pinning, replicate.Pinned, replicate.Failed}

// TestAPinThatWasAcceptedIsThereAfterAKill kills a host right after its 202, and in the midst of more requests: what
// was acknowledged is there as it was told, and of the others either all or nothing.
func TestAPinThatWasAcceptedIsThereAfterAKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	h, token := w.pinServer("alice")
	ctx := t.Context()
	accepted := map[string]replicate.PinStatus{}
	asked := map[string]bool{}
	for round := range 3 {
		c := replicate.NewClient(h.Pins, token, nil)
		told := make(chan replicate.PinStatus, 100)
		first := make(chan struct{})
		go func() { // until the host is gone
			defer close(told)
			for i := 0; ; i++ {
				p := replicate.Pin{CID: namingtest.CID(fmt.Sprint(round, i)), Name: fmt.Sprint(round, " ", i), Meta: map[string]string{"round": fmt.Sprint(round)}}
				st, err := c.Add(ctx, p)
				if err != nil {
					return
				}
				told <- st
				if i == 0 {
					close(first)
				}
			}
		}()
		select {
		case <-first:
		case <-time.After(patience):
			t.Fatal("no pin was accepted")
		}
		h.Kill()
		for st := range told {
			accepted[st.RequestID] = st
		}
		h.comeBack()
	}
	c := replicate.NewClient(h.Pins, token, nil)
	list, err := c.List(ctx, replicate.Query{Status: everyStatus, Limit: replicate.MaxQueryLimit})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pins were accepted, %d are there", len(accepted), len(list.Results))
	if extra := len(list.Results) - len(accepted); extra > 3 { // the one in hand of each round
		t.Errorf("%d pins are there that were never acknowledged", extra)
	}
	for _, st := range list.Results {
		asked[st.RequestID] = true
		if len(st.Pin.Meta) != 1 || st.Pin.Name == "" {
			t.Errorf("half a pin: %+v", st)
		}
		if was, ok := accepted[st.RequestID]; ok && (st.Pin.CID != was.Pin.CID || !st.Created.Equal(was.Created)) {
			t.Errorf("%+v, was told as %+v", st, was)
		}
		if st.Status != replicate.Queued && st.Status != replicate.Pinning {
			t.Errorf("%s is %s, want it to be tried on", st.RequestID, st.Status)
		}
	}
	for id := range accepted {
		if !asked[id] {
			t.Errorf("%s was accepted, and is gone", id)
		}
	}
}

// TestAHostStandsBadRequests has what no test of the handler alone can show: the whole program takes them and
// goes on, and no secret is in what it writes.
func TestAHostStandsBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	url, logged := w.logging("alice", slices.Concat([]string{"--host", "--name", "alice", "--pins", "127.0.0.1:0"}, loopback)...)
	var made struct{ Token, ID string }
	w.must(&made, "alice", "token", "create", "somebody")
	ask := func(method, path, auth string, body io.Reader) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	bearer := "Bearer " + made.Token
	for what, r := range map[string]struct {
		method, path, auth string
		body               io.Reader
		code               int
	}{
		"no token":                 {"GET", "/pins", "", nil, 401},
		"a token in the query":     {"GET", "/pins?token=" + made.Token, "", nil, 401},
		"one as a name too":        {"GET", "/pins?name=" + made.Token + "&access_token=" + made.Token, "", nil, 401},
		"a token cut off":          {"GET", "/pins", bearer[:len(bearer)-1], nil, 401},
		"another scheme":           {"GET", "/pins", "Basic " + made.Token, nil, 401},
		"a token in the path":      {"GET", "/pins/" + made.Token, bearer, nil, 404},
		"a token for a request id": {"DELETE", "/pins/" + made.Token, bearer, nil, 404},
		"no such address":          {"GET", "/pins/a/b?token=" + made.Token, bearer, nil, 404},
		"another method":           {"PUT", "/pins?token=" + made.Token, bearer, nil, 405},
		"a token for a CID":        {"POST", "/pins", bearer, strings.NewReader(`{"cid":"` + made.Token + `"}`), 400},
		"a token for a limit":      {"GET", "/pins?limit=" + made.Token, bearer, nil, 400},
		"a body of 100 MB":         {"POST", "/pins", bearer, io.LimitReader(zeros{}, 100<<20), 413},
		"a name pin of a million":  {"GET", "/pins?limit=1000001", bearer, nil, 400},
	} {
		code, body := ask(r.method, r.path, r.auth, r.body)
		if code != r.code || !strings.Contains(body, `"reason"`) {
			t.Errorf("%s: %d %.200s, want %d", what, code, body, r.code)
		}
		if strings.Contains(r.path, made.Token) && code == 401 && strings.Contains(body, made.Token) {
			t.Errorf("%s: the answer repeats the token", what)
		}
	}
	if code, body := ask("GET", "/pins?status=queued,pinning,pinned,failed", bearer, nil); code != 200 || body != `{"count":0,"results":[]}` {
		t.Errorf("after all that: %d %s", code, body)
	}
	w.must(nil, "alice", "token", "revoke", made.ID)
	if code, _ := ask("GET", "/pins", bearer, nil); code != 401 {
		t.Errorf("with a revoked token: %d", code)
	}
	if text := logged(); strings.Contains(text, made.Token) || strings.Contains(text, "hft_") {
		t.Errorf("a token was logged:\n%s", text)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// logging starts a node that logs all it can, and tells what it has written; it ends with the test.
func (w *world) logging(home string, args ...string) (pins string, logged func() string) {
	w.t.Helper()
	cmd := w.command(context.Background(), home, slices.Concat([]string{"--verbose", "serve"}, args)...)
	cmd.Env = append(cmd.Env, "GOLOG_LOG_LEVEL=debug") // the libraries' own
	var errs syncBuffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	lines := bufio.NewReader(out)
	line, err := lines.ReadBytes('\n')
	var r ready
	if err := errors.Join(err, json.Unmarshal(bytes.TrimSpace(line), &r)); err != nil {
		w.t.Fatalf("%v: %s %s", err, line, errs.String())
	}
	var more bytes.Buffer
	go func() {
		defer close(done)
		_, _ = io.Copy(&more, lines)
		_ = cmd.Wait()
	}()
	stop := func() { _ = cmd.Process.Kill(); <-done }
	w.t.Cleanup(stop)
	return r.Pins, func() string { stop(); return string(line) + more.String() + errs.String() }
}
