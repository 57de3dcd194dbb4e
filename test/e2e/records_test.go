package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/naming/namingtest"
)

// putRecord puts bytes as a name's record to a host's routing API.
func putRecord(t *testing.T, host ready, name string, raw []byte) (status int, said string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPut, host.Pins+"/routing/v1/ipns/"+name, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", naming.MediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestABadAnOldAndAnExpiredRecordAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	host := w.hosts("alice")[0]
	w.know("author", host)
	record := func() []byte {
		file := filepath.Join(w.dir, "record")
		w.must(nil, "author", "name", "get", "blog", "--network", "offline", "-o", file)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	one, two := w.writeSite("one"), w.writeSite("two")
	name := w.publish("author", one.dir).Name
	old := record()
	second := w.publish("author", two.dir)
	best := record()

	flipped := bytes.Clone(best)
	flipped[len(flipped)/2] ^= 1
	dead, err := w.signer("author").Sign(naming.Statement{Value: "/ipfs/" + second.Root, Sequence: 100, ValidUntil: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	w.must(nil, "stranger", "key", "new", "blog")
	foreign, err := w.signer("stranger").Sign(naming.Statement{Value: "/ipfs/" + second.Root, Sequence: 100, ValidUntil: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}

	put := func(home string, raw []byte) result {
		file := filepath.Join(w.dir, "record")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return w.try(home, append([]string{"name", "put", file, "--name", name, "--peer", host.Addrs[0]}, loopback...)...)
	}
	if r := put("courier", best); r.code != 0 {
		t.Fatalf("a good record: exit code %d: %s", r.code, r.out)
	}
	for what, c := range map[string]struct {
		raw          []byte
		code, status int
		kind, reason string
	}{
		"a byte turned around":     {flipped, 6, http.StatusBadRequest, "corrupt", "invalid record"},
		"signed by somebody else":  {foreign.Bytes(), 6, http.StatusBadRequest, "corrupt", "signature"},
		"an old sequence":          {old, 4, http.StatusConflict, "conflict", "older"},
		"expired":                  {dead.Bytes(), 6, http.StatusBadRequest, "corrupt", "expired"},
		"no record":                {[]byte("hello"), 6, http.StatusBadRequest, "corrupt", "invalid record"},
		"more than a record holds": {make([]byte, naming.MaxRecordSize+1), 6, http.StatusRequestEntityTooLarge, "corrupt", "larger than 10240 bytes"},
	} {
		r := put("courier", c.raw)
		if r.code != c.code {
			t.Errorf("%s: exit code %d, want %d: %s", what, r.code, c.code, r.out)
			continue
		}
		if kind, message, _ := r.failure(t); kind != c.kind || !strings.Contains(message, c.reason) {
			t.Errorf("%s: %s: %s, want %s that says %q", what, kind, message, c.kind, c.reason)
		}
		if status, said := putRecord(t, host.ready, name, c.raw); status != c.status || !strings.Contains(said, c.reason) {
			t.Errorf("%s, over HTTP: %d %s, want %d that says %q", what, status, said, c.status, c.reason)
		}
	}

	// A stranger's name, so that they can be signed truly.
	foreignName := namingtest.Signer(t, "e2e").Name().String()
	for _, f := range namingtest.Faults(t, "e2e") {
		want := http.StatusBadRequest
		if errors.Is(f.Kind, naming.ErrTooLarge) {
			want = http.StatusRequestEntityTooLarge
		}
		if status, said := putRecord(t, host.ready, foreignName, f.Raw); status != want || !strings.Contains(said, f.Says) {
			t.Errorf("%s: %d %s, want %d that says %q", f.Row, status, said, want, f.Says)
		}
	}
	if r := w.try("reader", append([]string{"name", "resolve", foreignName, "--peer", host.Addrs[0]}, loopback...)...); r.code != 3 {
		t.Errorf("a name of which only faulty records were put: exit code %d: %s", r.code, r.out)
	}

	// The name is where it was, for those who were asked to move it and for a stranger.
	for _, home := range []string{"courier", "reader"} {
		var got struct {
			Root     string
			Sequence uint64
		}
		w.must(&got, home, append([]string{"name", "resolve", name, "--peer", host.Addrs[0]}, loopback...)...)
		if got.Root != second.Root || got.Sequence != second.Sequence {
			t.Errorf("%s sees %+v, want %s with sequence %d", home, got, second.Root, second.Sequence)
		}
	}
	gate := w.gateway("gate", host)
	servedWhole(t, gate.Gateway, name+".ipns", two)
}

// signer signs with a home's key blog.
func (w *world) signer(home string) naming.Signer {
	w.t.Helper()
	ring, err := naming.OpenKeyring(filepath.Join(w.home(home), "keys"))
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := ring.Signer("blog")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}
