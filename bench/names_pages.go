//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	pagePause    = 2 * time.Millisecond // between two looks at a page
	pagePatience = 90 * time.Second     // for a release to be seen: more than the TTL, so that one that was missed shows as a figure
)

// pages reads the page that changes, from a gateway, over one connection that stays open.
type pages struct {
	client *http.Client
	url    string
	newest int // release that was shown
	looks  int
}

func newPages(gateway, name string) (*pages, error) {
	u, err := url.Parse(gateway)
	if err != nil {
		return nil, err
	}
	return &pages{
		url: "http://" + name + ".ipns.localhost:" + u.Port() + "/page.html",
		client: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, u.Host)
			},
		}},
	}, nil
}

func (p *pages) close() { p.client.CloseIdleConnections() }

func pageOf(release int) []byte {
	return fmt.Appendf(nil, "<!doctype html><title>news</title><h1>release %d</h1>", release)
}

// read reads the page once.
func (p *pages) read(ctx context.Context) (release int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the gateway says %s: %.200s", resp.Status, body)
	}
	p.looks++
	_, err = fmt.Sscanf(string(body), "<!doctype html><title>news</title><h1>release %d</h1>", &release)
	return release, err
}

// until reads the page again and again until it is of the release, and says when that was, and how often it was of an
// older one than before.
func (p *pages) until(ctx context.Context, release int) (at time.Time, backwards int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, pagePatience, fmt.Errorf("release %d was not seen within %s", release, pagePatience))
	defer cancel()
	tick := time.NewTicker(pagePause)
	defer tick.Stop()
	for {
		shown, err := p.read(ctx)
		switch {
		case ctx.Err() != nil:
			return at, backwards, context.Cause(ctx)
		case err != nil:
			return at, backwards, err
		case shown < p.newest:
			backwards++
		}
		p.newest = max(p.newest, shown)
		if shown >= release {
			return time.Now(), backwards, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
