package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bytesTo sends bytes as they are and gives whatever comes back until the
// gateway closes the connection. Requests that it may go on after have to ask for that.
func bytesTo(t *testing.T, addr, text string) []*http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	go func() { _, _ = io.WriteString(conn, text) }()
	in := bufio.NewReader(conn)
	var out []*http.Response
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return out
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return out
		}
		out = append(out, resp)
	}
}

func TestARequestThatTwoServersCouldReadDifferentlyIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: blog.localhost\r\nConnection: close\r\n\r\n"
	body := fmt.Sprint(len(smuggled))
	for name, request := range map[string]string{
		"CL with TE":             "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: " + body + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"TE with CL":             "POST / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":            "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 0\r\nContent-Length: " + body + "\r\n\r\n" + smuggled,
		"lengths in a list":      "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 0, " + body + "\r\n\r\n" + smuggled,
		"a length with a sign":   "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: +" + body + "\r\n\r\n" + smuggled,
		"a negative length":      "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: -1\r\n\r\n" + smuggled,
		"an unknown coding":      "GET / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: xchunked\r\n\r\n" + smuggled,
		"two codings":            "GET / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"a space before a colon": "GET / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a folded header":        "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: a\r\n b\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a bad chunk size":       "GET / HTTP/1.1\r\nHost: blog.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + smuggled,
		"a body on GET":          "GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: " + body + "\r\n\r\n" + smuggled,
		"a bare CR in a header":  "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n",
		"a NUL in a header":      "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: a\x00b\r\n\r\n",
		"two Hosts":              "GET / HTTP/1.1\r\nConnection: close\r\nHost: blog.localhost\r\nHost: evil.example\r\n\r\n",
		"no Host":                "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
		"a user in the Host":     "GET / HTTP/1.1\r\nConnection: close\r\nHost: blog.localhost@evil.example\r\n\r\n",
		"a path in the Host":     "GET / HTTP/1.1\r\nConnection: close\r\nHost: blog.localhost/x\r\n\r\n",
		"a long label":           "GET / HTTP/1.1\r\nConnection: close\r\nHost: " + strings.Repeat("a", 64) + ".localhost\r\n\r\n",
		"a long Host":            "GET / HTTP/1.1\r\nConnection: close\r\nHost: " + strings.Repeat("a.", 200) + "localhost\r\n\r\n",
		"a port over 65535":      "GET / HTTP/1.1\r\nConnection: close\r\nHost: blog.localhost:99999\r\n\r\n",
		"CONNECT":                "CONNECT evil.example:443 HTTP/1.1\r\nConnection: close\r\nHost: evil.example:443\r\n\r\n",
		"a method with a space":  "GET X / HTTP/1.1\r\nConnection: close\r\nHost: blog.localhost\r\n\r\n",
		"2 MiB of headers":       "GET / HTTP/1.1\r\nHost: blog.localhost\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
		"100 thousand headers":   "GET / HTTP/1.1\r\nHost: blog.localhost\r\n" + strings.Repeat("X: 1\r\n", 100_000) + "\r\n",
		"a long path":            "GET /" + strings.Repeat("x", 2<<20) + " HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
	} {
		answers := bytesTo(t, w.addr, request)
		if len(answers) > 1 {
			t.Errorf("%s: %d answers to one request", name, len(answers))
		}
		for _, a := range answers {
			if a.StatusCode < 400 || a.StatusCode >= 500 && a.StatusCode != 501 && a.StatusCode != 505 {
				t.Errorf("%s: %s", name, a.Status)
			}
			if h := fmt.Sprint(a.Header); strings.Contains(h, "evil") || strings.Contains(h, "smuggled") || a.Header.Get("Location") != "" {
				t.Errorf("%s comes back in the headers: %s", name, h)
			}
		}
	}
	if got := bytesTo(t, w.addr, "GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n"+smuggled); len(got) != 2 {
		t.Errorf("two requests, one behind the other, got %d answers", len(got))
	}
}

func TestNoSpellingOfDotsLeavesTheSite(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	root, other := w.build(blog), w.build(map[string]string{"secret": "of another site"})
	for _, dots := range []string{
		"..", "%2e%2e", "%2E%2e", ".%2e", "%2e.", "%252e%252e", "..%2f", "..%5c", `..\`, "%2e%2e%2f", "..;", "%c0%ae%c0%ae",
		"%u002e%u002e", "..%00", "%ff%2e%2e", "....//",
	} {
		get := func(host, line string) {
			for _, a := range bytesTo(t, w.addr, "GET "+line+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n") {
				if a.StatusCode < 400 || a.StatusCode >= 500 {
					t.Errorf("%s on %s: %s %s", line, host, a.Status, a.Header.Get("Location"))
				}
			}
		}
		for _, host := range []string{"blog.localhost", root.String() + ".ipfs.localhost"} {
			get(host, "/"+dots+"/style.css")
			if !strings.HasSuffix(dots, "2f") { // with an empty segment between them, of which the second goes up
				get(host, "/docs/"+dots+"/"+dots+"/style.css")
			}
			get(host, "/docs/"+dots+"/"+dots+"/"+dots+"/ipfs/"+root.String()+"/style.css")
		}
		get("127.0.0.1", "/ipfs/"+root.String()+"/"+dots+"/"+other.String()+"/secret")
		get("127.0.0.1", "/ipfs/"+root.String()+"/docs/"+dots+"/"+dots+"/"+other.String()+"/secret")
	}
}

func TestAFilenameIsOneWellFormedHeaderOrNone(t *testing.T) {
	w := newWorld(t, nil)
	root := w.build(blog)
	for _, name := range []string{
		"a.txt", "x\r\nSet-Cookie: a=b", "x\nX: y", `a"; filename="evil.html`, `a\"b`, "a;b", "ä ö.txt", "../../etc/passwd", "x\x00y", "%0d%0aX: y",
		strings.Repeat("x", 60<<10), strings.Repeat("ä", 300), "\u202egpj.exe", "",
	} {
		answers := bytesTo(t, w.addr, "GET /ipfs/"+root.String()+"/plain/file.txt?filename="+url.QueryEscape(name)+" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
		if len(answers) != 1 {
			t.Fatalf("%.40q: %d answers", name, len(answers))
		}
		h := answers[0].Header
		if h.Get("Set-Cookie") != "" || h.Get("X") != "" || len(h.Values("Content-Disposition")) > 1 || len(h.Get("Content-Disposition")) > 4*maxFilename {
			t.Errorf("%.40q: %v", name, h)
		}
		cd := h.Get("Content-Disposition")
		if strings.ContainsFunc(cd, func(r rune) bool { return r < ' ' || r > '~' }) || answers[0].StatusCode == 200 && strings.Count(strings.ReplaceAll(cd, `\"`, ""), `"`)%2 != 0 {
			t.Errorf("%.40q: %q", name, cd)
		}
		if answers[0].StatusCode != 200 && answers[0].StatusCode != 400 && answers[0].StatusCode != 414 && answers[0].StatusCode != 431 {
			t.Errorf("%.40q: %s", name, answers[0].Status)
		}
	}
}

func TestHeadersThatOnlyAProxyMayWriteChangeNothing(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	plain := w.get("http://blog.localhost/docs")
	for _, header := range []string{
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "Forwarded",
		"X-Original-Url", "X-Rewrite-Url", "X-Real-Ip", "X-Original-Host", "X-Http-Method-Override", "X-Host", "Front-End-Https",
	} {
		for _, value := range []string{"evil.example", "https", "host=evil.example;proto=https", "/evil"} {
			r := w.get("http://blog.localhost/docs", header, value)
			for _, h := range []http.Header{r.Header, plain.Header} {
				h.Del("Date")
				h.Del("Server-Timing")
			}
			if r.StatusCode != plain.StatusCode || r.body != plain.body || fmt.Sprint(r.Header) != fmt.Sprint(plain.Header) {
				t.Errorf("%s: %s changes the answer: %d %v", header, value, r.StatusCode, r.Header)
			}
		}
	}
}

func TestTheGatewaysPortTellsNothingOfTheNode(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(map[string]string{"index.html": "x"}))
	for _, host := range []string{"localhost", "127.0.0.1", "blog.localhost", "unknown.example"} {
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap", "/v1/node", "/v1/metrics", "/debug/vars", "/pins", "/api/v0/id", "/v1/call/gc"} {
			if r := w.get("http://" + host + path); r.StatusCode != 404 {
				t.Errorf("%s%s: %d", host, path, r.StatusCode)
			}
		}
	}
}

// slowConn pauses for whatever is handed over, and fails where its deadline comes first.
type slowConn struct {
	http.ResponseWriter
	pause    time.Duration
	deadline time.Time
}

func (c *slowConn) SetWriteDeadline(t time.Time) error { c.deadline = t; return nil }

func (c *slowConn) Write(b []byte) (int, error) {
	time.Sleep(c.pause)
	if time.Now().After(c.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return len(b), nil
}

func TestAReaderIsCutForStandingStillAndNotForBeingSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for pause, whole := range map[time.Duration]bool{writeStall * 4 / 5: true, writeStall * 11 / 10: false} {
			p, _, stop := pace(&slowConn{ResponseWriter: httptest.NewRecorder(), pause: pause}, t.Context(), time.Second)
			if n, err := p.Write(make([]byte, 1<<20)); (n == 1<<20) != whole || (err == nil) != whole {
				t.Errorf("%v for each piece: %d bytes, %v", pause, n, err)
			}
			stop()
		}
	})
}

func TestABodyThatNobodyAskedForIsNotWaitedFor(t *testing.T) {
	w := newWorld(t, nil)
	r := w.raw("GET / HTTP/1.1\r\nHost: blog.localhost\r\nContent-Length: 10\r\n\r\n")
	r.want(t, 400, "")
	if !r.Close {
		t.Error("the connection may be used again, with the body still to come")
	}
}
