package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestAnswersOfEverySizeArriveWholeAndInOrder(t *testing.T) {
	sizes := []int{0, 1, 100, 3000, 3500, 4000, netHTTPBuffer - 1, netHTTPBuffer, netHTTPBuffer + 1, 5000, 7000, 2 * netHTTPBuffer, 13 << 10, maxHanded, maxHanded + 1, 200_000, maxReadyBody + 1}
	site := map[string]string{}
	for _, n := range sizes {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "%d of %d\n", i, n)
		}
		site[fmt.Sprintf("%d.txt", n)] = b.String()[:n]
	}
	w := newWorld(t, nil)
	w.publish("blog", w.build(site))
	for range 3 { // the first, when it has been seen, and when it is ready
		for _, n := range sizes {
			r := w.get(fmt.Sprintf("http://blog.localhost/%d.txt", n))
			r.want(t, http.StatusOK, "")
			if r.body != site[fmt.Sprintf("%d.txt", n)] {
				t.Errorf("%d bytes are not what they were", n)
			}
			w.do(http.MethodHead, fmt.Sprintf("http://blog.localhost/%d.txt", n)).want(t, http.StatusOK, "")
		}
	}
}

// bothEnds are those of a new connection to ln.
func bothEnds(t *testing.T, ln net.Listener) (client, accepted net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	must(t, client.SetDeadline(time.Now().Add(time.Minute)))
	accepted, err = ln.Accept()
	must(t, err)
	t.Cleanup(func() { accepted.Close() })
	return client, accepted
}

func TestJoinedWritesAreOneAndNothingStaysBehind(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	client, accepted := bothEnds(t, ln)
	c := &jointConn{TCPConn: accepted.(*net.TCPConn)}
	write := func(text string) {
		t.Helper()
		if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	buf := make([]byte, 1<<10)
	read := func(want string) {
		t.Helper()
		n, err := client.Read(buf)
		if must(t, err); string(buf[:n]) != want {
			t.Fatalf("%q arrived, want %q", buf[:n], want)
		}
	}
	c.join(netHTTPBuffer)
	write("header, ")
	write("body")
	c.part()
	read("header, body")
	c.join(netHTTPBuffer)
	write("alone")
	c.part()
	read("alone")
	c.join(100) // too little for two writes
	write("small")
	read("small")
	c.join(netHTTPBuffer)
	write("last")
	must(t, c.CloseWrite())
	read("last")
	if c.held != nil {
		t.Error("something stayed behind")
	}
}

func TestALongWriteGoesOnWhileItsReaderReads(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	client, accepted := bothEnds(t, ln)
	c := &jointConn{TCPConn: accepted.(*net.TCPConn)}
	film := make([]byte, 1<<20)
	arrived := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, client)
		arrived <- n
	}()
	over := func(taken int) (int, error) {
		must(t, c.SetWriteDeadline(time.Unix(1, 0)))
		c.taken = taken
		return c.Write(film)
	}
	if n, err := over(maxHanded); n != len(film) || err != nil {
		t.Errorf("of a reader who reads: %d, %v", n, err)
	}
	if n, err := over(maxHanded - 1); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of a reader who does not: %d, %v", n, err)
	}
	must(t, c.Close())
	if n := <-arrived; n != int64(len(film)) {
		t.Errorf("%d bytes arrived", n)
	}
}
