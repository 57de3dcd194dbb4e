package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/merkle"
)

// reader reads a site as a browser does: by its own origin at a gateway.
type reader struct {
	addr string // the gateway's base URL
	name string
}

func (r reader) url() string {
	u, err := url.Parse(r.addr)
	if err != nil {
		return r.addr
	}
	return "http://" + r.name + ".ipns.localhost:" + u.Port() + "/"
}

// client dials the gateway whatever the host name: browsers know that
// *.localhost is this machine, resolvers often don't.
func (r reader) client() *http.Client {
	u, _ := url.Parse(r.addr)
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, u.Host)
			},
			MaxIdleConnsPerHost: 8,
		},
	}
}

type seen struct {
	files int64
	bytes int64
}

// compare asks for every file of the folder that was published.
func (r reader) compare(ctx context.Context, dir string) (seen, error) {
	scan, err := merkle.ScanFolder(ctx, dir, merkle.BuildOptions{})
	if err != nil {
		return seen{}, err
	}
	ignored := make(map[string]bool)
	for _, p := range scan.Ignored {
		ignored[p] = true
	}
	var files, size atomic.Int64
	hc := r.client()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && ignored[rel+"/"]:
			return filepath.SkipDir
		case d.IsDir(), ignored[rel]:
			return nil
		case path.Base(rel) == "_redirects":
			return nil // rules, not a page
		}
		if fi, err := os.Stat(p); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		g.Go(func() error {
			n, err := r.same(ctx, hc, rel, p)
			files.Add(1)
			size.Add(n)
			return err
		})
		return ctx.Err()
	})
	if gerr := g.Wait(); gerr != nil {
		err = gerr
	}
	return seen{files.Load(), size.Load()}, err
}

// same compares one page with the file that it was made from.
func (r reader) same(ctx context.Context, hc *http.Client, rel, file string) (int64, error) {
	segments := strings.Split(rel, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url()+strings.Join(segments, "/"), nil)
	if err != nil {
		return 0, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, resp.Body)
	if err != nil {
		return n, err
	}
	if resp.StatusCode != http.StatusOK {
		return n, fmt.Errorf("%s: %s", rel, resp.Status)
	}
	f, err := os.Open(file)
	if err != nil {
		return n, err
	}
	defer f.Close()
	want := sha256.New()
	if _, err := io.Copy(want, f); err != nil {
		return n, err
	}
	if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		return n, fmt.Errorf("%s: not the author's bytes", rel)
	}
	return n, nil
}

// status is the answer to one path.
func (r reader) status(ctx context.Context, p string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.url(), "/")+p, nil)
	if err != nil {
		return 0, err
	}
	resp, err := r.client().Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, nil
}
