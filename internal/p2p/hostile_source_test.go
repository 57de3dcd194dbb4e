package p2p

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
)

// asCAR answers every request with 200 and what write writes.
func asCAR(write func(w http.ResponseWriter, r *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", carType)
		write(w, r)
	})
}

// forever writes the same bytes until nobody reads any more.
func forever(w http.ResponseWriter, r *http.Request, b []byte) {
	for r.Context().Err() == nil {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// carOf is a DAG's CAR: its header, the section of the root, and the rest.
func carOf(t testing.TB, n *Node, d dag) (header, root, rest []byte) {
	t.Helper()
	var b bytes.Buffer
	if _, err := merkle.WriteCAR(t.Context(), n.cfg.Store, &b, d.root, merkle.WalkOptions{}); err != nil {
		t.Fatal(err)
	}
	car := b.Bytes()
	section := func(b []byte) int {
		length, n := binary.Uvarint(b)
		return n + int(length)
	}
	h := section(car)
	s := h + section(car[h:])
	return car[:h], car[h:s], car[s:]
}

// bombed is a small body that becomes a large one.
func bombed(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, endless{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	z.Close()
	return b.Bytes()
}

// TestASourceThatNeverEndsIsLeftForTheNext: each of these would go on for ever, or for a year.
func TestASourceThatNeverEndsIsLeftForTheNext(t *testing.T) {
	d, stranger := makeDAG(t, 300, 90), makeDAG(t, 300, 91)
	bomb := bombed(t)
	for name, tc := range map[string]struct {
		serve func(header, root, rest []byte, other []byte) http.Handler
		says  string
	}{
		"zeros": {func(_, _, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { forever(w, r, make([]byte, 64<<10)) })
		}, "malformed"},
		"the same block": {func(header, root, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { w.Write(header); forever(w, r, root) })
		}, errRepeats.Error()},
		"all of it, again and again": {func(header, root, rest, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { w.Write(header); forever(w, r, append(root, rest...)) })
		}, "again and again"},
		"other people's blocks": {func(header, root, _, other []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { w.Write(header); w.Write(root); forever(w, r, other) })
		}, errUnasked.Error()},
		"headers": {func(header, _, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { forever(w, r, header) })
		}, ""},
		"HTML": {func(_, _, _, _ []byte) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				forever(w, r, []byte(strings.Repeat("<p>welcome", 6000)))
			})
		}, "instead of a CAR"},
		"HTML that says it is a CAR": {func(_, _, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) {
				forever(w, r, []byte(strings.Repeat("<p>welcome", 6000)))
			})
		}, "malformed"},
		"a gzip bomb": {func(_, _, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Write(bomb)
			})
		}, "gzip"},
		"a gzip bomb that nobody announced": {func(_, _, _, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) { w.Write(bomb) })
		}, "malformed"},
		"one byte at a time": {func(header, root, rest, _ []byte) http.Handler {
			return asCAR(func(w http.ResponseWriter, r *http.Request) {
				tick := time.NewTicker(5 * time.Millisecond)
				defer tick.Stop()
				for _, c := range bytes.Join([][]byte{header, root, rest}, nil) {
					w.Write([]byte{c})
					w.(http.Flusher).Flush()
					select {
					case <-tick.C:
					case <-r.Context().Done():
						return
					}
				}
			})
		}, errStalled.Error()},
		"hints before the answer": {func(_, _, _, _ []byte) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for range 1000 {
					w.Header().Set("Link", strings.Repeat("x", 500))
					w.WriteHeader(http.StatusEarlyHints)
				}
			})
		}, "exceeded"},
		"in a year": {func(_, _, _, _ []byte) http.Handler { return later(http.StatusServiceUnavailable) }, "503"},
		"too often": {func(_, _, _, _ []byte) http.Handler { return later(http.StatusTooManyRequests) }, "429"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			bad, good := open(t), open(t)
			host := open(t, withLog(&log), func(c *Config) { c.StallTimeout = time.Second })
			put(t, good, d.blocks...)
			put(t, bad, stranger.blocks...)
			header, root, rest := carOf(t, good, d)
			_, _, other := carOf(t, bad, stranger)
			bad.SetHTTP(tc.serve(header, root, rest, other))
			good.SetHTTP(serveCARs(good, nil))
			if err := fetchAll(t, host, d, info(t, bad), info(t, good)); err != nil {
				t.Fatal(err)
			}
			if text := log.String(); !strings.Contains(text, bad.ID().String()) || !strings.Contains(text, tc.says) {
				t.Errorf("the log does not say that %s failed with %q:\n%s", bad.ID(), tc.says, text)
			}
			if has(t, host, stranger) != 0 {
				t.Error("blocks that do not belong to the root were kept")
			}
		})
	}
}

func later(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "31536000")
		http.Error(w, "come back in a year", code)
	})
}

// TestNothingButBadSourcesIsBounded: without a good one the fetch ends, keeps nothing that is not of the DAG, and
// names them.
func TestNothingButBadSourcesIsBounded(t *testing.T) {
	grown := watchMemory(t)
	host := open(t, func(c *Config) { c.StallTimeout, c.IdleTimeout = time.Second, 4*time.Second })
	d := makeDAG(t, 50, 92)
	var from []peer.AddrInfo
	for _, h := range []http.Handler{
		asCAR(func(w http.ResponseWriter, r *http.Request) { forever(w, r, make([]byte, 64<<10)) }),
		asCAR(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		later(http.StatusServiceUnavailable),
	} {
		bad := open(t)
		bad.SetHTTP(h)
		from = append(from, info(t, bad))
	}
	_, err := host.Fetch(deadline(t, time.Minute), session(t, host), d.roots(), from, merkle.Limits{}, nil)
	if err == nil || has(t, host, d) != 0 {
		t.Fatalf("fetched %d blocks from nobody: %v", has(t, host, d), err)
	}
	for _, ai := range from {
		if !strings.Contains(err.Error(), ai.ID.String()) {
			t.Errorf("%s is not named: %v", ai.ID, err)
		}
	}
	wantBounded(t, grown)
}
