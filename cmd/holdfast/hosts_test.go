package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// serving is a node that runs in this process.
type serving struct {
	*user
	Event, Gateway, Pins, Peer string
	Addrs                      []string
	stop                       func() int
}

// serve starts a command that serves, and waits for the line by which it says that it is ready.
func serve(t *testing.T, u *user, args ...string) *serving {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var errs bytes.Buffer
	e := &env{in: strings.NewReader(""), out: w, err: &errs, getenv: func(k string) string { return u.vars[k] }}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"--home", u.home, "--json"}, args...), e)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		cancel()
		t.Fatalf("%q ended with %d before it was ready: %s", args, <-code, errs.String())
	}
	s := &serving{user: u}
	if err := json.Unmarshal(lines.Bytes(), s); err != nil {
		t.Fatalf("%v: %s", err, lines.Bytes())
	}
	go io.Copy(io.Discard, r) // ends with the command
	var done *int
	s.stop = func() int {
		cancel()
		if done == nil {
			select {
			case c := <-code:
				done = &c
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
			}
		}
		return *done
	}
	t.Cleanup(func() { s.stop() })
	return s
}

const loopback = "/ip4/127.0.0.1/tcp/0"

func serveHost(t *testing.T) *serving {
	u := newUser(t)
	return serve(t, u, "serve", "--host", "--name", "alice", "--pins", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--p2p", loopback, "--allow-private")
}

func TestServeSaysWhereItIsAndEndsCleanly(t *testing.T) {
	s := serveHost(t)
	if s.Event != "ready" || !strings.HasPrefix(s.Gateway, "http://127.0.0.1:") || !strings.HasPrefix(s.Pins, "http://127.0.0.1:") || strings.HasSuffix(s.Pins, ":0") {
		t.Errorf("%+v", s)
	}
	if len(s.Addrs) == 0 || !strings.HasSuffix(s.Addrs[0], "/p2p/"+s.Peer) {
		t.Errorf("%+v", s)
	}
	// A second one on the same home says who has it.
	s.fails(5, "holdfast serve", "serve", "--gateway", "127.0.0.1:0")
	s.fails(5, "holdfast serve", offline("up", s.site("blog"), "--gateway", "127.0.0.1:0")...)
	if code := s.stop(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}

func TestCommandsWorkThroughTheRunningNode(t *testing.T) {
	s := serveHost(t)
	dir := s.site("blog")
	root := s.json("build", dir)["root"].(string)
	if o := s.must("cat", root+"/index.html"); o.out != "<h1>hello</h1>" {
		t.Errorf("%q", o.out)
	}
	s.fails2(t, 2, "is not a file", "cat", root+"/sub")
	s.fails2(t, 3, "nope", "cat", root+"/nope")
	s.fails(3, "missing", "publish", s.path("missing"), "--copies", "0")
	o := s.must("publish", dir, "--copies", "0", "--force-offline", "--network", "offline")
	if !strings.Contains(o.err, "--network and --peer are its own") {
		t.Errorf("%s", o.err)
	}
	var car bytes.Buffer
	car.WriteString(s.must("export", "blog", "-o", "-").out)
	other := newUser(t)
	other.in = &car
	if v := other.json("import", "-"); v["roots"].([]any)[0] != root {
		t.Errorf("%v", v)
	}
	// Handed over, the work goes on behind the command.
	s.file("blog/new.html", "new")
	v := s.json("publish", dir, "--copies", "0", "--force-offline", "--no-wait")
	hasExactly(t, "publish --no-wait", v, "alias", "state")
	for {
		st := s.json("status", "blog")["sites"].([]any)[0].(map[string]any)
		if st["number"] == 2.0 {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("nothing came of it")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var tokenFields = []string{"id", "label", "created", "used", "sites", "quota_bytes", "max_pin_bytes", "requests_per_minute", "expires", "expired"}

func TestTokensAreShownOnceAndRevokedByIDOrLabel(t *testing.T) {
	u := newUser(t)
	v := u.json("token", "create", "anna")
	hasExactly(t, "token create", v, "id", "label", "token")
	if v["label"] != "anna" || len(v["token"].(string)) < 20 {
		t.Errorf("%v", v)
	}
	o := u.must("token", "list", "--json")
	hasExactly(t, "token list", oneObject(t, o.out), "tokens")
	hasExactly(t, "a token", oneObject(t, o.out)["tokens"].([]any)[0], tokenFields...)
	if strings.Contains(o.out, v["token"].(string)) {
		t.Error("the list shows the secret")
	}
	second := u.json("token", "create", "anna")
	u.fails(2, "by its id", "token", "revoke", "anna")
	hasExactly(t, "token revoke", u.json("token", "revoke", second["id"].(string)), tokenFields...)
	u.must("token", "revoke", "anna")
	if list := u.json("token", "list")["tokens"].([]any); len(list) != 0 {
		t.Errorf("%v", list)
	}
	u.fails(5, "holdfast serve --host", "operator", "invite", "anna")
	if list := u.json("token", "list")["tokens"].([]any); len(list) != 0 {
		t.Errorf("a refused invite left a token: %v", list)
	}
}

func TestHostsAreAddedByTokenOrInviteAndSecretsStaySecret(t *testing.T) {
	host := serveHost(t)
	token := host.json("token", "create", "anna")["token"].(string)
	invite := host.json("operator", "invite", "berta")
	hasExactly(t, "operator invite", invite, "id", "label", "invite")
	text := invite["invite"].(string)
	if o := host.must("operator", "invite", "carl"); !strings.HasPrefix(o.out, "hfi1") || strings.Count(o.out, "\n") != 1 {
		t.Errorf("%q", o.out)
	}

	secrets := []string{token, text, "hft_wrong-token-0123456789", strings.Replace(text, "hfi1", "HFI1", 1)}
	quiet := func(u *user, args ...string) outcome {
		t.Helper()
		var all string
		o := u.run(append(args, "--verbose")...)
		all += o.out + o.err
		all += u.run(append(args, "--json")...).out
		for _, s := range secrets {
			if strings.Contains(all, s) {
				t.Errorf("%q shows a secret:\n%s", args[:2], all)
			}
		}
		return o
	}

	for how, give := range map[string]func(*user) []string{
		"flag": func(*user) []string { return []string{host.Pins, "--token", token} },
		"stdin": func(u *user) []string {
			u.in = strings.NewReader(token + "\n")
			return []string{host.Pins, "--token", "-"}
		},
		"environment": func(u *user) []string { u.vars["HOLDFAST_TOKEN"] = token; return []string{host.Pins} },
		"invite":      func(u *user) []string { u.vars["HOLDFAST_TOKEN"] = "for another host"; return []string{text} },
		"multiaddr":   func(*user) []string { return []string{host.Addrs[0], "--token", token} },
		"no scheme": func(*user) []string {
			return []string{strings.TrimPrefix(host.Pins, "http://") + "/", "--token", token}
		},
	} {
		u := newUser(t)
		args := append([]string{"host", "add", "--p2p", loopback, "--label", "operator=Foo, Inc", "--label", "region=eu"}, give(u)...)
		v := u.json(args...)
		if v["id"] != host.Peer || v["name"] != "alice" {
			t.Errorf("%s: %v", how, v)
		}
		if l, _ := v["label"].(map[string]any); l["operator"] != "Foo, Inc" || l["region"] != "eu" {
			t.Errorf("%s: %v", how, v)
		}
		if _, ok := v["url"]; !ok || v["token"] != nil {
			t.Errorf("%s: %v", how, v)
		}
		list := u.must("host", "list", "--json")
		hasExactly(t, "host list", oneObject(t, list.out), "hosts")
		for _, s := range secrets {
			if strings.Contains(list.out, s) {
				t.Errorf("%s: the list shows a secret", how)
			}
		}
		if o := u.must("host", "list"); !strings.Contains(o.out, "operator=Foo, Inc region=eu") {
			t.Errorf("%s: %s", how, o.out)
		}
		u.must("host", "remove", "alice")
		if list := u.json("host", "list")["hosts"].([]any); len(list) != 0 {
			t.Errorf("%s: %v", how, list)
		}
	}

	u := newUser(t)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for _, tt := range []struct {
		code int
		text string
		args []string
	}{
		{2, "a token is needed", []string{"host", "add", host.Pins}},
		{2, "carries its token", []string{"host", "add", text, "--token", token}},
		{2, "invite", []string{"host", "add", text[:len(text)-9]}},
		{2, "given by an invite", []string{"host", "add", "ftp://x", "--token", token}},
		{2, "does not begin with hfi1", []string{"host", "add", secrets[3], "--token", token}},
		{2, "carries a password", []string{"host", "add", "http://anna:" + token + "@127.0.0.1:1", "--token", "t"}},
		{5, "does not answer as a host", []string{"host", "add", web.URL, "--token", token}},
		{5, "does not answer as a pinning service", []string{"host", "add", "http://127.0.0.1:1", "--token", token, "--pinning", "--gateway", "http://gateway.example"}},
		{2, "base URL of a gateway", []string{"host", "add", host.Pins, "--token", token, "--pinning", "--gateway", "gateway.example:80"}},
		{5, "does not answer as a host", []string{"host", "add", "http://127.0.0.1:1", "--token", token}},
		{1, "token does not work", []string{"host", "add", host.Pins, "--token", secrets[2]}},
	} {
		o := quiet(u, append(tt.args, "--p2p", loopback)...)
		if o.code != tt.code || !strings.Contains(o.err, tt.text) {
			t.Errorf("%q: %d, want %d with %q: %s", tt.args[:2], o.code, tt.code, tt.text, o.err)
		}
	}
	// The host is gone: the invite must not show in the complaint.
	host.stop()
	if o := quiet(u, "host", "add", text, "--p2p", loopback); o.code != 5 {
		t.Errorf("%d: %s", o.code, o.err)
	}
	if list := u.json("host", "list")["hosts"].([]any); len(list) != 0 {
		t.Errorf("%v", list)
	}
}

func TestUpPrintsWhereTheSiteIsAndServesIt(t *testing.T) {
	u := newUser(t)
	dir := u.site("blog")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var errs bytes.Buffer
	e := &env{in: strings.NewReader(""), out: w, err: &errs, getenv: func(k string) string { return u.vars[k] }}
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, offline("--home", u.home, "--json", "up", dir, "--gateway", "127.0.0.1:0"), e)
		w.Close()
	}()
	all := bufio.NewReader(r)
	line, err := all.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %d %s", err, <-code, errs.String())
	}
	var v struct {
		Alias string
		URLs  []string `json:"urls"`
	}
	if err := json.Unmarshal([]byte(line), &v); err != nil || len(v.URLs) == 0 {
		t.Fatalf("%v: %s", err, line)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(v.URLs[0], "http://"), "/")
	_, port, _ := strings.Cut(host, ":")
	req, err := http.NewRequest("GET", "http://127.0.0.1:"+port+"/sub/page.html", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || string(body) != "a page" {
		t.Errorf("%s: %d %q", v.URLs[0], resp.StatusCode, body)
	}
	cancel()
	rest, _ := io.ReadAll(all)
	if c := <-code; c != 0 || len(rest) != 0 {
		t.Errorf("ended with %d and %q", c, rest)
	}
	// What cannot be published ends it.
	u.fails(1, "_redirects", offline("up", u.badSite(), "--gateway", "127.0.0.1:0")...)
}

func (u *user) badSite() string {
	u.file("bad/index.html", "x")
	u.file("bad/_redirects", "/a /b 999\n")
	return u.path("bad")
}

func TestPublishAndReadThroughHosts(t *testing.T) {
	host := serveHost(t)
	author := newUser(t)
	token := host.json("token", "create", "anna")["token"].(string)
	author.must("host", "add", host.Pins, "--token", token, "--p2p", loopback)
	dir := author.site("blog")
	o := author.must("publish", dir, "--p2p", loopback, "-m", "first")
	for _, want := range []string{"alice", "proved", "live", "safe until", "blog.localhost"} {
		if !strings.Contains(o.out, want) {
			t.Errorf("publish does not say %q:\n%s", want, o.out)
		}
	}
	v := author.json("publish", dir, "--p2p", loopback)
	h := v["hosts"].([]any)[0]
	hasExactly(t, "a host", h, "id", "name", "state", "verified_at", "label", "uptime", "bytes", "until")
	if v["live"] != true || v["safe_until"] == nil || v["number"] != 1.0 {
		t.Errorf("%v", v)
	}
	st := author.json("status", "blog", "--check", "--p2p", loopback)["sites"].([]any)[0].(map[string]any)
	if st["live"] != true || st["safe_until"] == nil || st["hosts"].([]any)[0].(map[string]any)["state"] != "proved" {
		t.Errorf("%v", st)
	}
	reader := newUser(t)
	name := v["name"].(string)
	reader.must("get", "/ipns/"+name, "-o", reader.path("copy"), "--peer", host.Addrs[0], "--p2p", loopback)
	if got := string(mustRead(t, reader.path("copy/sub/page.html"))); got != "a page" {
		t.Errorf("%q", got)
	}
	r := reader.json("name", "resolve", name, "--peer", host.Addrs[0], "--p2p", loopback)
	if r["root"] != v["root"] || r["source"] == "" {
		t.Errorf("%v", r)
	}
	// Another machine with the same key is behind, is told so, and may go on by saying from where.
	author.must("key", "export", "blog", "-o", author.path("k"))
	second := newUser(t)
	second.must("key", "import", "blog", author.path("k"))
	second.must("host", "add", host.Pins, "--token", token, "--p2p", loopback)
	second.file("blog/index.html", "other")
	second.fails(4, v["root"].(string), "publish", second.path("blog"), "--p2p", loopback)
	c := second.run("publish", second.path("blog"), "--p2p", loopback, "--json")
	body := oneObject(t, c.out)["error"].(map[string]any)
	newer, _ := body["newer"].(map[string]any)
	if newer["root"] != v["root"] || newer["message"] != "first" || newer["sequence"] != v["sequence"] {
		t.Errorf("%v", body)
	}
	second.fails(4, "not at", "publish", second.path("blog"), "--p2p", loopback, "--if-root", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq")
	if v := second.json("publish", second.path("blog"), "--p2p", loopback, "--if-root", v["root"].(string)); v["number"] != 2.0 {
		t.Errorf("%v", v)
	}
	// The host is gone: the copy is not counted, and what was proved is still told.
	host.stop()
	o = author.must("status", "blog", "--check", "--p2p", loopback)
	if !strings.Contains(o.out, "unreachable") || strings.Contains(o.out, "safe until 2") {
		t.Errorf("%s", o.out)
	}
	_ = os.Remove(author.path("k"))
}
