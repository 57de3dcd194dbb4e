//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// readers is how many requests are in hand at once.
const readers = 4

// gateway measures how a gateway that never saw the site serves all of it, and
// once more from what it then has.
func (b *bench) gateway(ctx context.Context) error {
	fmt.Printf("commands\n"+
		"  holdfast serve --host …   holdfast publish DIR --site bench --copies 1\n"+
		"  holdfast serve --gateway 127.0.0.1:0 --peer HOST   (new in each round; every file is read, %d at a time)\n\n", readers)
	var paths []string
	err := filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		// index.html is the folder's own address; a gateway may redirect there.
		if err == nil && d.Type().IsRegular() && d.Name() != "index.html" {
			rel, rerr := filepath.Rel(b.dir, p)
			paths, err = append(paths, filepath.ToSlash(rel)), rerr
		}
		return err
	})
	if err != nil {
		return err
	}
	hosts, err := b.hosts(ctx, 0, 1)
	defer func() { _ = b.endAll(hosts) }()
	if err != nil {
		return err
	}
	if err := b.know(ctx, "author", hosts); err != nil {
		return err
	}
	p, _, _, err := b.publish(ctx, "author", 1)
	if err != nil {
		return err
	}
	var cold, warm, coldWait, warmWait, peaks figures
	for round := range b.rounds + 1 {
		g, err := b.serve(ctx, fmt.Sprintf("gate-%d", round), "--gateway", "127.0.0.1:0", "--p2p", loopback, "--peer", hosts[0].Addrs[0])
		if err != nil {
			return err
		}
		c, cw, err := readAll(ctx, g.Gateway, p.Name, paths)
		var w, ww float64
		if err == nil {
			w, ww, err = readAll(ctx, g.Gateway, p.Name, paths)
		}
		peak, serr := g.stop()
		if err := errors.Join(err, serr, b.endAll(nil, g.home)); err != nil {
			return err
		}
		if round > 0 {
			cold, warm, peaks = append(cold, c), append(warm, w), append(peaks, mb(peak))
			coldWait, warmWait = append(coldWait, cw), append(warmWait, ww)
		}
	}
	fmt.Println("whole site")
	cold.line("the first time", "s")
	warm.line("the second time", "s")
	fmt.Println("\none file, 99th percentile")
	coldWait.line("the first time", "ms")
	warmWait.line("the second time", "ms")
	fmt.Println("\nmemory")
	peaks.line("gateway, peak", "MB")
	return nil
}

// readAll reads every file. It says how long all took, in s, and the slowest
// hundredth of them at least, in ms.
func readAll(ctx context.Context, gateway, name string, paths []string) (seconds, p99 float64, err error) {
	u, err := url.Parse(gateway)
	if err != nil {
		return 0, 0, err
	}
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: readers,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, u.Host)
		},
	}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var waits figures
	todo := make(chan string)
	var wg sync.WaitGroup
	began := time.Now()
	for range readers {
		wg.Go(func() {
			for path := range todo {
				start := time.Now()
				if err := read(ctx, client, "http://"+name+".ipns.localhost:"+u.Port(), path); err != nil {
					cancel(err)
					continue
				}
				mu.Lock()
				waits = append(waits, float64(time.Since(start).Microseconds())/1000)
				mu.Unlock()
			}
		})
	}
	for _, p := range paths {
		todo <- p
	}
	close(todo)
	wg.Wait()
	return time.Since(began).Seconds(), waits.at(0.99), context.Cause(ctx)
}

func read(ctx context.Context, client *http.Client, base, path string) error {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/"+strings.Join(segments, "/"), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return nil
}
