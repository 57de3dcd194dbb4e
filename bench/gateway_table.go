//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// What the table of the gateway is measured on.
const (
	pageBytes  = 13 << 10
	largeBytes = 2_500_000
	coldPages  = 30_000
	manySites  = 100
	sitePages  = 1000
	idleConns  = 5000
	loadTime   = 3 * time.Second
)

// kubo is Kubo 0.38's gateway on the machine that the goals were set on: requests
// a second of a page and of 304s, bytes a second of a large file. It is not run
// here. A bare net/http handler was measured on that machine too: the goals say so many times
// Kubo, and count here for Kubo as it would be on a machine that is as much slower or faster.
var kubo, bareThere = there{3200, 3500, 0.65e9}, there{page: 40_500, notModified: 48_000}

type there struct{ page, notModified, large float64 }

// gatewayPart is some rows of the gateway's table.
type gatewayPart struct {
	name    string
	measure func(b *bench, ctx context.Context, home, site, dir string) ([]measure, error)
}

func (p gatewayPart) named() string { return p.name }

var gatewayParts = []gatewayPart{{"hot", (*bench).hot}, {"cold", (*bench).cold}, {"idle", (*bench).idle}, {"memory", (*bench).memory}}

// gatewayTable measures a gateway against web servers, each pinned to one processor and the load to another.
func (b *bench) gatewayTable(ctx context.Context) error {
	parts, err := chosen(gatewayParts, b.only)
	if err != nil {
		return err
	}
	fmt.Printf("commands\n"+
		"  taskset -c %s holdfast serve --gateway 127.0.0.1:0 --network offline   (and nginx, caddy, a bare net/http handler in turn)\n"+
		"  taskset -c %s bench child load   (16 keep-alive connections, %s for each figure)\n\n", serverCPU, loadCPU, loadTime)
	dir := filepath.Join(b.tmp, "site")
	if err := writeSite(dir, coldPages); err != nil {
		return err
	}
	home := "gate"
	p, err := b.publishAlone(ctx, home, dir, "bench")
	if err != nil {
		return err
	}
	var table []measure
	fmt.Printf("Kubo × speed: %.0f and %.0f requests a second on a machine where net/http had %.0f and %.0f (page, 304)\n\n",
		kubo.page, kubo.notModified, bareThere.page, bareThere.notModified)
	for _, part := range parts {
		rows, err := part.measure(b, ctx, home, p.Name, dir)
		if err != nil {
			return err
		}
		table = append(table, rows...)
	}
	printGoals(table)
	return nil
}

// publishAlone publishes a folder that nobody else keeps.
func (b *bench) publishAlone(ctx context.Context, home, dir, site string) (p published, err error) {
	_, err = b.must(ctx, &p, home, "publish", dir, "--site", site, "--copies", "0", "--network", "offline")
	return p, err
}

// writeSite writes a page, a large file, and so many different pages of 13 KB.
func writeSite(dir string, pages int) error {
	noise := rand.NewChaCha8([32]byte{'s', 'i', 't', 'e'})
	text := func(n int) []byte {
		raw := make([]byte, n/4*3)
		noise.Read(raw)
		return []byte(base64.StdEncoding.EncodeToString(raw))
	}
	for i := range pages {
		file := filepath.Join(dir, filepath.FromSlash(coldPath(i)))
		if i%1000 == 0 {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(file, text(pageBytes), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "page.html"), text(pageBytes), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "large.bin"), text(largeBytes), 0o644)
}

func coldPath(i int) string { return fmt.Sprintf("/pages/%02d/page-%05d.html", i/1000, i) }

// ours starts a gateway on its processor.
func (b *bench) ours(ctx context.Context, home, name string) (*node, *server, error) {
	n, err := b.serveOn(ctx, serverCPU, home, "--gateway", "127.0.0.1:0", "--network", "offline")
	if err != nil {
		return nil, nil, err
	}
	u, err := url.Parse(n.Gateway)
	if err != nil {
		return n, nil, err
	}
	return n, &server{name: "ours", addr: u.Host, host: name + ".ipns.localhost", cmd: n.cmd}, nil
}

// rates is what one server reached, one figure a round.
type rates struct {
	page, notModified, large figures
	p99, calm                figures // ms, at half of the rate of pages
	stood                    figures // % of that time, of the load's processor
	cpu                      figures // µs of processor time of each page; none where it isn't known
}

func (r *rates) add(more rates) {
	r.page, r.notModified, r.large = append(r.page, more.page...), append(r.notModified, more.notModified...), append(r.large, more.large...)
	r.p99, r.calm, r.stood, r.cpu = append(r.p99, more.p99...), append(r.calm, more.calm...), append(r.stood, more.stood...), append(r.cpu, more.cpu...)
}

// hot measures what is asked for again and again.
func (b *bench) hot(ctx context.Context, home, name, dir string) (table []measure, err error) {
	n, mine, err := b.ours(ctx, home, name)
	if n != nil {
		defer n.stop()
	}
	if err != nil {
		return nil, err
	}
	servers, err := b.rivals(ctx, mine, dir)
	defer func() {
		for _, s := range servers {
			if s != mine {
				s.end()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	got := map[string]*rates{}
	for round := range b.rounds + 1 {
		for _, s := range servers {
			r, err := b.oneRound(ctx, s)
			if err != nil {
				return nil, err
			}
			if round == 0 {
				continue
			}
			if got[s.name] == nil {
				got[s.name] = &rates{}
			}
			got[s.name].add(r)
		}
	}
	return rowsOfHot(got), nil
}

// rivals starts all that ours is compared with, and gives them with ours.
func (b *bench) rivals(ctx context.Context, mine *server, dir string) ([]*server, error) {
	servers := []*server{mine}
	s, err := b.bareLike(ctx, mine, dir)
	if err != nil {
		return servers, err
	}
	servers = append(servers, s)
	for _, start := range []func(context.Context, string) (*server, error){b.nginx, b.caddy} {
		s, err := start(ctx, dir)
		if errors.Is(err, errNoRival) {
			fmt.Println(err)
			continue
		}
		if err != nil {
			return servers, err
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// oneRound measures one server once.
func (b *bench) oneRound(ctx context.Context, s *server) (r rates, err error) {
	before := s.processor()
	page, err := b.load(ctx, s, loadJob{Paths: []string{"/page.html"}, Duration: loadTime})
	if err != nil {
		return r, err
	}
	if spent := s.processor() - before; spent > 0 {
		r.cpu = figures{float64(spent.Microseconds()) / float64(page.Requests)}
	}
	half, err := b.load(ctx, s, loadJob{Paths: []string{"/page.html"}, Duration: loadTime, Rate: page.perSecond() / 2})
	if err != nil {
		return r, err
	}
	h, err := s.ask(ctx, "/page.html")
	if err != nil {
		return r, err
	}
	same, err := b.load(ctx, s, loadJob{
		Paths: []string{"/page.html"}, Duration: loadTime, Status: http.StatusNotModified, Header: "If-None-Match: " + h.Get("Etag") + "\r\n",
	})
	if err != nil {
		return r, err
	}
	large, err := b.load(ctx, s, loadJob{Paths: []string{"/large.bin"}, Duration: loadTime})
	r.page, r.notModified = figures{page.perSecond()}, figures{same.perSecond()}
	r.p99, r.calm, r.stood = figures{half.P99}, figures{half.Calm}, figures{half.Stood}
	r.large = figures{float64(large.Bytes) / large.Seconds / 1e6}
	return r, err
}

// rowsOfHot compares the servers.
func rowsOfHot(got map[string]*rates) []measure {
	ours, bare, caddy := got["ours"], got["net/http"], got["caddy"]
	row := func(what, unit string, of func(*rates) figures) measure {
		m := measure{what: what, unit: unit, ours: of(ours), least: true}
		for _, name := range []string{"net/http", "nginx", "caddy"} {
			if r := got[name]; r != nil && len(of(r)) > 0 {
				m.anchors = append(m.anchors, anchor{name, of(r)})
			}
		}
		return m
	}
	beside := func(m *measure, kubos, there float64, of func(*rates) figures) {
		scaled := of(bare).times(kubos / there)
		m.anchors = append(m.anchors, anchor{"Kubo elsewhere", figures{kubos}.repeat(len(m.ours))}, anchor{"Kubo × speed", scaled})
		m.goal, m.limits = "≥ 0.85 × net/http, 10 × Kubo × speed", of(bare).times(0.85).each(scaled.times(10), max2)
	}
	page := row("13 KB page, hot", "/s", func(r *rates) figures { return r.page })
	beside(&page, kubo.page, bareThere.page, func(r *rates) figures { return r.page })
	if caddy != nil {
		page.goal, page.limits = page.goal+", 1.5 × Caddy", page.limits.each(caddy.page.times(1.5), max2)
	}
	same := row("304 by ETag", "/s", func(r *rates) figures { return r.notModified })
	beside(&same, kubo.notModified, bareThere.notModified, func(r *rates) figures { return r.notModified })
	large := row("2.5 MB file", "MB/s", func(r *rates) figures { return r.large })
	large.anchors = append(large.anchors, anchor{"Kubo elsewhere", figures{kubo.large / 1e6}.repeat(len(large.ours))})
	if caddy != nil {
		large.goal, large.limits = "≥ 0.8 × Caddy", caddy.large.times(0.8)
	}
	p99 := row("p99 at half of the top rate", "ms", func(r *rates) figures { return r.p99 })
	p99.least, p99.goal, p99.limits = false, "≤ 3 ms", most(3)
	calm := row("the same in the middle one of windows of 100 ms", "ms", func(r *rates) figures { return r.calm })
	calm.least = false
	stood := row("time in which the load's own processor stood still", "%", func(r *rates) figures { return r.stood })
	cpu := row("processor time of a hot page", "µs", func(r *rates) figures { return r.cpu })
	return []measure{page, same, large, p99, calm, stood, cpu}
}

func max2(a, b float64) float64 { return max(a, b) }

// repeat is one figure for each of n rounds.
func (f figures) repeat(n int) (out figures) {
	for range n {
		out = append(out, f...)
	}
	return out
}
