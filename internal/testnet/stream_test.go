package testnet

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
)

// A film is a file of many blocks, which some hosts hold.
type film struct {
	t     testing.TB
	net   *Net
	hosts []*Peer
	name  string
	bytes []byte
}

const filmBlock = 1 << 20 // how folders are built

func newFilm(t testing.TB, hosts, blocks int) *film {
	f := &film{t: t, net: New(t), bytes: make([]byte, blocks*filmBlock)}
	for i := range hosts {
		f.hosts = append(f.hosts, f.net.Host(fmt.Sprintf("host%d", i)))
	}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(f.bytes)
	dir := f.net.Dir("film")
	if err := os.WriteFile(filepath.Join(dir, "film.mp4"), f.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	anna := f.net.Author("anna", f.hosts...)
	var p author.Published
	if err := anna.Call("publish", author.PublishRequest{Dir: dir, Alias: "film", Copies: &hosts}, &p); err != nil {
		t.Fatal(err)
	}
	anna.Stop()
	f.name = p.Name
	return f
}

// showing is a gateway that has nothing of the film, to which each host sends so many bytes a second.
func (f *film) showing(name string, bytesPerSecond int) *Peer {
	gate := f.net.Gateway(name, f.hosts...)
	for _, h := range f.hosts {
		f.net.Between(gate, h).Limit(bytesPerSecond)
	}
	return gate
}

// open asks a gateway for the film.
func (f *film) open(gate *Peer) io.ReadCloser {
	f.t.Helper()
	at := strings.TrimPrefix(gate.Info().Gateway, "http://")
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", at)
	}}
	resp, err := (&http.Client{Transport: tr}).Get("http://" + f.name + ".ipns.localhost/film.mp4")
	if err != nil {
		f.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		f.t.Fatal(resp.Status)
	}
	return resp.Body
}

// gave is how many whole blocks' worth of bytes each host sent to a gateway.
func (f *film) gave(gate *Peer) (blocks []int64) {
	for _, h := range f.hosts {
		blocks = append(blocks, f.net.Between(gate, h).Passed()/filmBlock)
	}
	return blocks
}

func TestALargeFileComesFromSeveralHoldersAtOnce(t *testing.T) {
	t.Parallel()
	f := newFilm(t, 3, 12)
	t.Run("all of them give", func(t *testing.T) {
		gate := f.showing("gate", 16<<20)
		body := f.open(gate)
		defer body.Close()
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, f.bytes) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for i, blocks := range f.gave(gate) {
			if blocks == 0 {
				t.Errorf("host %d gave nothing: %v", i, f.gave(gate))
			}
		}
	})
	t.Run("one stalls, one is gone", func(t *testing.T) {
		gate := f.showing("gate2", 4<<20)
		body := f.open(gate)
		defer body.Close()
		got := make([]byte, filmBlock)
		if _, err := io.ReadFull(body, got); err != nil {
			t.Fatal(err)
		}
		f.net.Between(gate, f.hosts[0]).Stall()
		f.net.Between(gate, f.hosts[1]).Cut()
		rest, err := io.ReadAll(body)
		if got = append(got, rest...); err != nil || !bytes.Equal(got, f.bytes) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
}

// BenchmarkALargeFileByHolders shows whether several holders give the sum of what their uplinks, of 4 MiB a
// second each, let through. To be read side by side; go test -bench ByHolders -benchtime 1x.
func BenchmarkALargeFileByHolders(b *testing.B) {
	for _, holders := range []int{1, 3} {
		b.Run(fmt.Sprint(holders), func(b *testing.B) {
			f := newFilm(b, holders, 24)
			for i := range b.N {
				gate := f.showing(fmt.Sprint("gate", i), 4<<20)
				b.StartTimer()
				began := time.Now()
				body := f.open(gate)
				if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(began).Seconds()*1000, "ms-to-first-byte")
				n, err := io.Copy(io.Discard, body)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(n)/time.Since(began).Seconds()/1e6, "MB/s")
				b.StopTimer()
				body.Close()
			}
		})
	}
}
