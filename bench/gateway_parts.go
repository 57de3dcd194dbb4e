//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// cold asks a process that has just begun for each page once, in no order. How fast the machine is just then, the bare handler tells.
func (b *bench) cold(ctx context.Context, home, name, dir string) ([]measure, error) {
	n, mine, err := b.ours(ctx, home, name)
	if err != nil {
		return nil, err
	}
	bare, err := b.bareLike(ctx, mine, dir)
	_, serr := n.stop()
	if err := errors.Join(err, serr); err != nil {
		return nil, err
	}
	defer bare.end()
	paths := make([]string, coldPages)
	for i, at := range rand.New(rand.NewPCG(1, 2)).Perm(coldPages) {
		paths[i] = coldPath(at)
	}
	var perSecond, p99, cpu, beside figures
	for range b.rounds {
		page, err := b.load(ctx, bare, loadJob{Paths: []string{"/page.html"}, Duration: loadTime})
		if err != nil {
			return nil, err
		}
		beside = append(beside, page.perSecond())
		done, spent, err := b.coldRound(ctx, home, name, paths)
		if err != nil {
			return nil, err
		}
		perSecond, p99 = append(perSecond, done.perSecond()), append(p99, done.P99)
		if spent > 0 {
			cpu = append(cpu, float64(spent.Microseconds())/float64(done.Requests))
		}
	}
	elsewhere, here := figures{kubo.page}.repeat(b.rounds), beside.times(kubo.page/bareThere.page)
	table := []measure{
		{what: "30 thousand different pages, cold process", unit: "/s", ours: perSecond, least: true,
			limits: here.times(3), goal: "≥ 3 × Kubo × speed", anchors: []anchor{{"one page of net/http", beside}, {"Kubo elsewhere", elsewhere}, {"Kubo × speed", here}}},
		{what: "the same, p99", unit: "ms", ours: p99, limits: most(20), goal: "≤ 20 ms"},
	}
	if len(cpu) > 0 {
		table = append(table, measure{what: "the same, processor time of each", unit: "µs", ours: cpu})
	}
	return table, nil
}

// coldRound also says how much processor time was spent, 0 where that isn't known.
func (b *bench) coldRound(ctx context.Context, home, name string, paths []string) (done loadDone, spent time.Duration, err error) {
	n, mine, err := b.ours(ctx, home, name)
	if err != nil {
		return done, 0, err
	}
	before := mine.processor()
	done, err = b.load(ctx, mine, loadJob{Paths: paths})
	spent = mine.processor() - before
	_, serr := n.stop()
	return done, spent, errors.Join(err, serr)
}

// idle keeps five thousand connections open that have nothing to ask.
func (b *bench) idle(ctx context.Context, home, name, _ string) ([]measure, error) {
	n, mine, err := b.ours(ctx, home, name)
	if err != nil {
		return nil, err
	}
	defer n.stop()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range idleConns {
		c, err := net.Dial("tcp", mine.addr)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
		if _, err := io.WriteString(c, "HEAD /page.html HTTP/1.1\r\nHost: "+mine.host+"\r\n\r\n"); err != nil {
			return nil, err
		}
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			return nil, err
		}
	}
	select { // to come to rest
	case <-time.After(b.settle):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r, err := n.resident(ctx)
	return []measure{{what: strconv.Itoa(idleConns) + " idle connections", unit: "MB", ours: figures{mb(r)}, limits: most(150), goal: "≤ 150 MB"}}, err
}

// memory asks for each of a hundred thousand pages on a hundred sites.
func (b *bench) memory(ctx context.Context, _, _, dir string) ([]measure, error) {
	const home = "sites"
	var job loadJob
	for i := range manySites {
		site := filepath.Join(b.tmp, "many", strconv.Itoa(i))
		from := fmt.Sprintf("pages/%02d", i%(coldPages/1000))
		if err := os.MkdirAll(site, 0o755); err != nil {
			return nil, err
		}
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(site, "pages")); err != nil { // borrowed
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(site, "index.html"), []byte(strconv.Itoa(i)), 0o644); err != nil {
			return nil, err
		}
		p, err := b.publishAlone(ctx, home, site, fmt.Sprintf("site%d", i))
		if err == nil {
			err = os.Rename(filepath.Join(site, "pages"), filepath.Join(dir, from))
		}
		if err != nil {
			return nil, err
		}
		for k := range sitePages {
			job.Hosts = append(job.Hosts, p.Name+".ipns.localhost")
			job.Paths = append(job.Paths, fmt.Sprintf("/pages/page-%05d.html", i%(coldPages/1000)*1000+k))
		}
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(job.Paths), func(i, j int) {
		job.Paths[i], job.Paths[j] = job.Paths[j], job.Paths[i]
		job.Hosts[i], job.Hosts[j] = job.Hosts[j], job.Hosts[i]
	})
	n, mine, err := b.ours(ctx, home, "")
	if err != nil {
		return nil, err
	}
	_, err = b.load(ctx, mine, job)
	peak, serr := n.stop()
	return []measure{{what: "memory, 100 sites and 100 thousand pages asked", unit: "MB", ours: figures{mb(peak)}, limits: most(256), goal: "≤ 256 MB"}}, errors.Join(err, serr)
}
