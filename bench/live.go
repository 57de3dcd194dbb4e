//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const copies = 3

// lives is what live measures, one figure a round.
type lives struct {
	took, author       figures // s, MB
	idle, holds, peaks figures // MB, the hosts' middle one, middle one, and largest
}

// live measures from the start of a publish until the site was seen from
// outside, with everybody new in each round, and the memory of all.
func (b *bench) live(ctx context.Context) error {
	fmt.Printf("commands\n"+
		"  3 × holdfast serve --host --pins 127.0.0.1:0 --p2p %s\n"+
		"  holdfast publish DIR --site bench --copies %d --p2p %s   (timed; it ends once the site is live)\n\n",
		loopback, copies, loopback)
	var l lives
	for round := range b.rounds + 1 {
		if err := b.liveRound(ctx, round, &l); err != nil {
			return err
		}
	}
	fmt.Println("time")
	l.took.line("publish to live, 3 copies", "s")
	fmt.Println("\nmemory")
	l.author.line("author, peak", "MB")
	l.peaks.line("largest host, peak", "MB")
	l.idle.line(fmt.Sprintf("host, %s after its start", b.settle), "MB")
	l.holds.line(fmt.Sprintf("host, %s after it holds the site", b.settle), "MB")
	return nil
}

// liveRound is one round; round 0 is not counted.
func (b *bench) liveRound(ctx context.Context, round int, l *lives) (err error) {
	hosts, err := b.hosts(ctx, round, copies)
	author := fmt.Sprintf("author-%d", round)
	defer func() { err = errors.Join(err, b.endAll(hosts, author)) }()
	if err != nil {
		return err
	}
	if err := b.know(ctx, author, hosts); err != nil {
		return err
	}
	idle, err := b.residents(ctx, hosts, round)
	if err != nil {
		return err
	}
	_, took, peak, err := b.publish(ctx, author, copies)
	if err != nil {
		return err
	}
	holds, err := b.residents(ctx, hosts, round)
	if err != nil {
		return err
	}
	var peaks figures
	for _, h := range hosts {
		p, err := h.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", h.home, err)
		}
		peaks = append(peaks, mb(p))
	}
	if round == 0 {
		return nil
	}
	l.took, l.author = append(l.took, took.Seconds()), append(l.author, mb(peak))
	l.idle, l.holds, l.peaks = append(l.idle, idle.median()), append(l.holds, holds.median()), append(l.peaks, peaks.at(1))
	return nil
}

// residents leaves the hosts alone for a while and reads their memory, in MB.
// The warm-up does not wait.
func (b *bench) residents(ctx context.Context, hosts []*node, round int) (f figures, err error) {
	if round > 0 {
		select {
		case <-time.After(b.settle):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for _, h := range hosts {
		n, err := h.resident(ctx)
		if err != nil {
			return nil, err
		}
		f = append(f, mb(n))
	}
	return f, nil
}
