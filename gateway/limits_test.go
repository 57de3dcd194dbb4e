package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

func TestRequestsBeyondTheLimitAreTurnedAwayAndTheSlotsComeBack(t *testing.T) {
	l := &lossy{}
	w := newWorld(t, func(c *Config) {
		l.Getter = c.Blocks
		c.Blocks, c.MaxConcurrent = l, 2
	})
	w.publish("blog", w.build(blog))
	arrived, release := make(chan bool), make(chan bool)
	l.happens = func(ctx context.Context, _ cid.Cid) error {
		select {
		case arrived <- true:
			<-release
		case <-release:
		}
		return nil
	}
	done := make(chan int, 2)
	for range 2 {
		go func() {
			r, _ := w.try(http.MethodGet, "http://blog.localhost/")
			done <- r.StatusCode
		}()
		<-arrived
	}
	r := w.get("http://blog.localhost/")
	r.want(t, 503, "")
	r.wantHeader(t, "Retry-After", "1")
	close(release)
	for range 2 {
		if s := <-done; s != 200 {
			t.Errorf("a request within the limit got %d", s)
		}
	}
	w.get("http://blog.localhost/").want(t, 200, blog["index.html"])
}

func TestPresentContentIsServedWhileManyWaitForMissing(t *testing.T) {
	w, l := newLossyWorld(t, time.Hour)
	w.publish("blog", w.build(blog))
	gone := w.build(map[string]string{"index.html": "can't be had"})
	waiting := make(chan bool, 300)
	l.happens = func(ctx context.Context, c cid.Cid) error {
		if c.Equals(gone) {
			waiting <- true
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan bool, 300)
	for range 300 {
		go func() {
			defer func() { ended <- true }()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/ipfs/"+gone.String()+"/", nil)
			if resp, err := w.client.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
	}
	for range 300 {
		<-waiting
	}
	w.get("http://blog.localhost/big.bin").want(t, 200, blog["big.bin"]) // they would have it wait for an hour
	cancel()
	for range 300 {
		<-ended
	}
}

func TestServeEndsWithinItsGraceThoughRequestsHang(t *testing.T) {
	t.Parallel() // with others that wait
	hung, left := make(chan bool), make(chan bool)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(hung)
		<-r.Context().Done()
		close(left)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, h, nil) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	<-hung
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	<-left
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestServeLetsRunningAnswersEndWhole(t *testing.T) {
	half, rest := make(chan bool), make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "one half, ")
		_ = http.NewResponseController(w).Flush()
		half <- true
		<-rest
		_, _ = io.WriteString(w, "and the other")
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, h, nil) }()
	body := make(chan string, 1)
	go func() {
		resp, err := clientTo(t, ln.Addr().String()).Get("http://x/")
		if err != nil {
			body <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		body <- fmt.Sprint(string(b), err)
	}()
	<-half
	cancel()
	for { // until it takes nobody new
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(rest)
	if got := <-body; got != "one half, and the other<nil>" {
		t.Errorf("%s", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestRoutingIsMountedOutsideOfSitesOnly(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Routing = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			_, _ = io.WriteString(rw, r.Method+" "+r.URL.Path+" "+string(body))
		})
	})
	w.publish("blog", w.build(blog))
	for _, host := range []string{"localhost", "127.0.0.1:80", "unknown.example"} {
		w.get("http://"+host+"/routing/v1/ipns/k51").want(t, 200, "GET /routing/v1/ipns/k51 ")
		r := w.raw("PUT /routing/v1/ipns/k51 HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 3\r\n\r\nrec")
		r.want(t, 200, "PUT /routing/v1/ipns/k51 rec")
	}
	w.get("http://blog.localhost/routing/v1/ipns/k51").want(t, 404, blog["404.html"])
	r := w.raw("PUT /routing/v1/ipns/k51 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("x", maxRoutingBody+1))
	r.want(t, 413, "")
}

func TestDNSLinkDomainsAreOrigins(t *testing.T) {
	links := &naming.DNSLink{Static: map[string]string{}}
	w := newWorld(t, func(c *Config) {
		c.DNSLinks = links
		c.Hosts = map[string]HostConfig{"gw.example": {Subdomains: true, InlineDNSLink: true}}
	})
	root := w.build(blog)
	name := w.publish("blog", root)
	links.Static["my.blog.example"] = "/ipns/" + name.String()
	links.Static["docs.example"] = "/ipfs/" + root.String() + "/docs"
	w.get("http://my.blog.example/").want(t, 200, blog["index.html"])
	w.get("http://my.blog.example/nothing").want(t, 404, blog["404.html"])
	r := w.get("http://my.blog.example/docs")
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "/docs/")
	w.get("http://docs.example/").want(t, 200, blog["docs/index.html"])
	w.get("http://docs.example/nothing").want(t, 404, blog["docs/404.html"])
	w.get("http://my.blog.example.ipns.localhost/").want(t, 200, blog["index.html"])
	w.get("http://my-blog-example.ipns.gw.example/").want(t, 200, blog["index.html"])
	r = w.get("http://gw.example/ipns/my.blog.example/docs/")
	r.want(t, 301, "")
	r.wantHeader(t, "Location", "http://my-blog-example.ipns.gw.example/docs/")
	w.get("http://127.0.0.1/ipns/my.blog.example/").want(t, 200, blog["index.html"])
	status, f := w.failure("http://127.0.0.1/ipns/unknown.example/")
	if status != 404 || f.Step != StepName || f.Domain != "unknown.example" {
		t.Errorf("%d %+v", status, f)
	}
}

// systemDNS counts what this package asks the system's name servers, which is nothing.
var systemDNS atomic.Int64

func init() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		systemDNS.Add(1)
		return nil, errors.New("a test asked the system's DNS")
	}}
}

func TestNoDNSUnlessConfigured(t *testing.T) {
	w := newWorld(t, nil)
	for _, url := range []string{"http://docs.ipfs.tech/", "http://docs.ipfs.tech/ipns/docs.ipfs.tech/", "http://docs-ipfs-tech.ipns.localhost/"} {
		if r := w.get(url); r.StatusCode != 404 && r.StatusCode != 400 {
			t.Errorf("%s: %d", url, r.StatusCode)
		}
	}
	if n := systemDNS.Load(); n != 0 {
		t.Errorf("the system's DNS was asked %d times", n)
	}
}

func TestClientThatDoesNotReadIsCut(t *testing.T) {
	failed := make(chan error, 1)
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _, stop := pace(w, r.Context(), time.Hour)
		defer stop()
		p.stall = 200 * time.Millisecond
		chunk := make([]byte, 1<<20)
		for range 1 << 10 {
			if _, err := p.Write(chunk); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}))
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	select {
	case err := <-failed:
		if err == nil {
			t.Error("1 GiB went to a client that reads nothing")
		}
	case <-time.After(time.Minute):
		t.Error("still writing to a client that reads nothing")
	}
}

func TestUnreachableDNSIsNotAMissingSite(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.DNSLinks = &naming.DNSLink{Lookup: func(context.Context, string) ([]string, time.Duration, error) { return nil, 0, io.ErrUnexpectedEOF }}
	})
	root := w.build(blog)
	status, f := w.failure("http://site.example/x")
	if status != 504 || f.Step != StepName || f.Domain != "site.example" {
		t.Errorf("%d %+v", status, f)
	}
	w.get("http://site.example/ipfs/"+root.String()+"/").want(t, 200, blog["index.html"])
}
