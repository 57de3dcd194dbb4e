package gateway

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/ipfs/boxo/retrieval"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/blockstore"
)

// largeSite is a site with a file of many blocks, all of which have to be fetched from others.
func largeSite(t *testing.T) (w *world, l *lossy, root cid.Cid) {
	l = &lossy{}
	w = newWorld(t, func(c *Config) {
		l.Getter = c.Blocks
		c.Local, c.Blocks = blockstore.NewMemory(), l
	})
	film := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(film)
	root = w.build(map[string]string{"film.mp4": string(film)})
	w.publish("blog", root)
	return w, l, root
}

func TestAReaderWhoLeavesEndsTheFetching(t *testing.T) {
	w, l, _ := largeSite(t)
	var begun, leaves atomic.Int64
	asked, ended := make(chan bool, 100), make(chan bool, 100)
	l.happens = func(ctx context.Context, c cid.Cid) error {
		if c.Type() != cid.Raw || leaves.Add(1) <= 3 { // the first, and what is read ahead of it
			return nil
		}
		begun.Add(1)
		asked <- true
		<-ctx.Done() // nobody sends it, until nobody wants it
		ended <- true
		return ctx.Err()
	}
	conn, err := net.Dial("tcp", w.addr)
	must(t, err)
	_, err = io.WriteString(conn, "GET /film.mp4 HTTP/1.1\r\nHost: blog.localhost\r\n\r\n")
	must(t, err)
	_, err = io.ReadFull(conn, make([]byte, 100<<10)) // the first block is on its way
	must(t, err)
	go func() { _, _ = io.Copy(io.Discard, conn) }() // or the server waits with the next
	<-asked
	must(t, conn.Close())
	<-ended
	for range begun.Load() - 1 {
		<-ended
	}
	if n := leaves.Load(); n > 3+1+8 {
		t.Errorf("%d blocks were asked for, for one that was read", n)
	}
}

func TestWhoFetchesIsToldWhichContentABlockIsOf(t *testing.T) {
	w, l, root := largeSite(t)
	var told, asked atomic.Int64
	l.happens = func(ctx context.Context, c cid.Cid) error {
		asked.Add(1)
		if s := retrieval.StateFromContext(ctx); s != nil && s.GetRootCID().Equals(root) {
			told.Add(1)
		}
		return nil
	}
	r, _ := w.try(http.MethodGet, "http://blog.localhost/film.mp4")
	if r.StatusCode != 200 || told.Load() == 0 || told.Load() < asked.Load()-1 {
		t.Errorf("%s, %d of %d", r.Status, told.Load(), asked.Load())
	}
}
