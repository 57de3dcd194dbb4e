//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
)

// namesRounds is how many releases names publishes where no number is given.
const namesRounds = 200

// namesBench is a world in which names are measured: three holders, an author whose node runs, and a reader's gateway that
// knows one of the holders.
type namesBench struct {
	*bench
	hosts   []*node
	author  *node
	caller  *control.Client // at the author's node
	gateway *node
	pages   *pages // as the gateway shows them
	site    string // the folder
	name    string

	signed, whole, served figures // ms: signature to page, start to page, start to the end of the publish
	backwards             int     // times that a page older than the one before was shown
}

// names measures how soon a release is seen, and what resolving a name takes.
func (b *bench) names(ctx context.Context) (err error) {
	fmt.Printf("commands\n"+
		"  3 × holdfast serve --host --pins 127.0.0.1:0 --p2p %s\n"+
		"  holdfast serve --p2p %s          (the author: publishes over its socket, --copies 3, one page changed each time)\n"+
		"  holdfast serve --gateway 127.0.0.1:0 --p2p %s --peer HOST1   (asked for the page each %s)\n\n",
		loopback, loopback, loopback, pagePause)
	n := &namesBench{bench: b, site: filepath.Join(b.tmp, "pages")}
	defer func() { err = errors.Join(err, n.end()) }()
	if err := n.begin(ctx); err != nil {
		return err
	}
	for round := range b.rounds + 1 {
		if err := n.round(ctx, round); err != nil {
			return fmt.Errorf("release %d: %w", round+1, err)
		}
	}
	table := []measure{{what: "signature to page, the 99th of 100", unit: "ms", ours: figures{n.signed.at(0.99)}, limits: most(1000), goal: "≤ 1 s"}}
	rows, err := n.resolves(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d releases\n", len(n.signed))
	n.signed.quantiles("from the signature to the page", "ms")
	n.served.quantiles("from the start of the publish to the page", "ms")
	n.whole.quantiles("from the start of the publish to its end", "ms")
	fmt.Printf("  an older page after a newer one: %d of %d looks\n", n.backwards, n.pages.looks)
	fmt.Println("\nresolves")
	for _, r := range rows {
		r.took.quantiles(r.what, r.unit)
		if r.limit > 0 {
			table = append(table, measure{what: r.what + ", the 99th of 100", unit: r.unit, ours: figures{r.took.at(0.99)}, limits: most(r.limit), goal: r.goal})
		}
	}
	fmt.Println()
	printGoals(table)
	if n.backwards > 0 {
		return errors.New("a reader was shown an older page after a newer one")
	}
	return nil
}

// begin starts everybody and publishes the first release, which the gateway shows once.
func (n *namesBench) begin(ctx context.Context) (err error) {
	if n.hosts, err = n.bench.hosts(ctx, 0, copies); err != nil {
		return err
	}
	if err := n.know(ctx, "author", n.hosts); err != nil {
		return err
	}
	if n.author, err = n.serve(ctx, "author", "--p2p", loopback); err != nil {
		return err
	}
	socket, err := control.SocketPath(n.tmp, filepath.Join(n.tmp, n.author.home))
	if err != nil {
		return err
	}
	if n.caller, err = control.Dial(ctx, socket); err != nil {
		return err
	}
	if err := n.writeSite(); err != nil {
		return err
	}
	first, _, err := n.release(ctx, 0)
	if err != nil {
		return err
	}
	n.name = first.Name
	if n.gateway, err = n.serve(ctx, "reader", "--gateway", "127.0.0.1:0", "--p2p", loopback, "--peer", n.hosts[0].Addrs[0]); err != nil {
		return err
	}
	if n.pages, err = newPages(n.gateway.Gateway, n.name); err != nil {
		return err
	}
	_, err = n.pages.read(ctx)
	return err
}

// writeSite writes a small site: one page that changes, and some that don't.
func (n *namesBench) writeSite() error {
	if err := os.MkdirAll(n.site, 0o755); err != nil {
		return err
	}
	for i := range 20 {
		page := fmt.Appendf(nil, "<!doctype html><title>%d</title><p>%0*d", i, 2000+i*100, i)
		if err := os.WriteFile(filepath.Join(n.site, fmt.Sprintf("page-%02d.html", i)), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// release changes the page and publishes. signed is when the record was signed, by this process's clock.
func (n *namesBench) release(ctx context.Context, number int) (out author.Published, signed time.Time, err error) {
	if err := os.WriteFile(filepath.Join(n.site, "page.html"), pageOf(number), 0o644); err != nil {
		return out, signed, err
	}
	wanted := copies
	req := author.PublishRequest{Dir: n.site, Alias: "pages", Copies: &wanted, Message: fmt.Sprintf("release %d", number)}
	err = n.caller.Call(ctx, "publish", req, &out, func(raw json.RawMessage) {
		var ev author.Event
		if json.Unmarshal(raw, &ev) == nil && ev.Step == "sign" {
			signed = time.Now()
		}
	})
	switch {
	case err != nil:
	case len(out.Warnings) > 0:
		err = fmt.Errorf("warnings: %q", out.Warnings)
	case !out.Live || signed.IsZero():
		err = errors.New("it is not live")
	}
	return out, signed, err
}

// round is one release; round 0 is not counted.
func (n *namesBench) round(ctx context.Context, round int) error {
	number := round + 1 // begin has published 0
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type sight struct {
		at        time.Time
		backwards int
		err       error
	}
	seen := make(chan sight, 1)
	go func() {
		at, backwards, err := n.pages.until(ctx, number)
		seen <- sight{at, backwards, err}
	}()
	_, signed, err := n.release(ctx, number)
	ended := time.Now()
	if err != nil {
		cancel()
		<-seen
		return err
	}
	s := <-seen
	if s.err != nil {
		return s.err
	}
	n.backwards += s.backwards
	if late := s.at.Sub(signed); late > time.Second {
		fmt.Printf("release %d was seen %s after its signature\n", number, late.Round(time.Millisecond))
	}
	if round > 0 {
		n.signed = append(n.signed, millis(s.at.Sub(signed)))
		n.served = append(n.served, millis(s.at.Sub(began)))
		n.whole = append(n.whole, millis(ended.Sub(began)))
	}
	return nil
}

func (n *namesBench) end() error {
	if n.caller != nil {
		n.caller.Close()
	}
	if n.pages != nil {
		n.pages.close()
	}
	var nodes []*node
	for _, other := range append(n.hosts, n.author, n.gateway) {
		if other != nil {
			nodes = append(nodes, other)
		}
	}
	return n.endAll(nodes)
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quantiles prints the least, the middle, the 99th of 100 and the most.
func (f figures) quantiles(what, unit string) {
	fmt.Printf("  %-48s min %s, p50 %s, p99 %s, max %s %s\n", what, number(f.at(0), ""), number(f.at(0.5), ""), number(f.at(0.99), ""), number(f.at(1), ""), unit)
}
