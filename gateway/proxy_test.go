package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestConnectLeadsToOwnHostsAndNowhereElse(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("blog", w.build(blog))
	for to, status := range map[string]int{"blog.localhost:80": 200, "localhost:8080": 200, "evil.example:443": 405, "127.0.0.1:22": 405, "a.b.localhost:80": 405} {
		conn, err := net.Dial("tcp", w.addr)
		must(t, err)
		defer conn.Close()
		in := bufio.NewReader(conn)
		_, err = io.WriteString(conn, "CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
		must(t, err)
		if resp.StatusCode != status {
			t.Errorf("CONNECT %s: %d, want %d", to, resp.StatusCode, status)
		}
		if resp.StatusCode != 200 {
			continue
		}
		// The tunnel ends here, whatever host is named in it.
		_, err = io.WriteString(conn, "GET /style.css HTTP/1.1\r\nHost: blog.localhost\r\n\r\n")
		must(t, err)
		resp, err = http.ReadResponse(in, nil)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if string(body) != blog["style.css"] {
			t.Errorf("through the tunnel to %s: %d %q", to, resp.StatusCode, body)
		}
	}
}
