package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

const (
	repairDeadline = time.Minute // for what takes a few seconds on a machine that isn't busy
	lookEvery      = 100 * time.Millisecond
)

// repairs kills everybody to whom the author gave the site, while those who stand by take
// over one after the other.
func (d *demo) repairs(ctx context.Context, pub author.Published) error {
	site, err := naming.ParseName(pub.Name)
	if err != nil {
		return err
	}
	given := d.holders(pub)
	if len(given) != demoCopies {
		return nil // a check has failed already
	}
	held := make(map[*process]bool)
	for _, h := range given {
		held[h] = true
	}
	d.say("The hosts are alone now. They call each other twice a second here, each 5 minutes elsewhere; all their times are scaled down.")
	standbys := len(d.hosts) - len(given)
	for _, victim := range given[:standbys] {
		d.step("%s, which holds the site, is killed (SIGKILL).", victim.name)
		victim.kill()
		if err := d.replaced(ctx, site, held); err != nil {
			return err
		}
	}
	var names []string
	for _, victim := range given[standbys:] {
		names = append(names, victim.name)
		victim.kill()
	}
	d.step("%s is killed, too: nobody is left to whom the author gave the site.", strings.Join(names, " and "))
	return nil
}

// replaced waits until a host that is not in held holds the site, and until one that does says that the new
// one proved it. It adds that one to held.
func (d *demo) replaced(ctx context.Context, site naming.Name, held map[*process]bool) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, repairDeadline)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var taker *process
	for {
		reports := d.reports(ctx, site)
		if taker == nil {
			if taker = newHolder(reports, held); taker != nil {
				how := fmt.Sprintf("took over after %.1f s", time.Since(began).Seconds())
				if reports[taker].Holds.Before(began) {
					how = "had taken over already"
				}
				d.say("%s %s: %s", taker.name, how, whyTaken(reports[taker]))
			}
		}
		if witness := witnessOf(reports, taker); witness != nil {
			d.say("%s had %s prove every byte, and tells so with a signature", witness.name, taker.name)
			held[taker] = true
			d.check("the copy is back", true, "%s, %.1f s after the kill", copies(holding(reports)), time.Since(began).Seconds())
			return nil
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		d.check("the copy is back", false, "not within %s", repairDeadline)
		return nil
	}
}

// reports is what the hosts that still run say of the site, each signed.
func (d *demo) reports(ctx context.Context, site naming.Name) map[*process]replicate.SiteReport {
	out := make(map[*process]replicate.SiteReport)
	for _, h := range d.hosts {
		if h.ended() {
			continue
		}
		r, err := replicate.FetchSiteReport(ctx, nil, h.ready.Pins, d.tokens[h], site, time.Now())
		if err == nil && r.Peer.String() == h.ready.Peer {
			out[h] = r
		}
	}
	return out
}

func newHolder(reports map[*process]replicate.SiteReport, held map[*process]bool) *process {
	for h, r := range reports {
		if !r.Holds.IsZero() && !held[h] {
			return h
		}
	}
	return nil
}

func holding(reports map[*process]replicate.SiteReport) (n int) {
	for _, r := range reports {
		if !r.Holds.IsZero() {
			n++
		}
	}
	return n
}

// whyTaken is the reason that a host gives for having taken over.
func whyTaken(r replicate.SiteReport) string {
	for _, e := range r.Events {
		if e.Kind == replicate.EventTookOver {
			return e.Detail
		}
	}
	return "no reason given"
}

// witnessOf is a holder that had the taker prove itself since that holds the site; nil where there is none.
// Holders ask each other for full audits.
func witnessOf(reports map[*process]replicate.SiteReport, taker *process) *process {
	if taker == nil {
		return nil
	}
	since := reports[taker].Holds
	for h, r := range reports {
		if h == taker || r.Holds.IsZero() || since.IsZero() {
			continue
		}
		if slices.ContainsFunc(r.Members, func(m replicate.ReportMember) bool {
			return m.Peer.String() == taker.ready.Peer && !m.Held.Before(since) && m.Held.After(m.Absent)
		}) {
			return h
		}
	}
	return nil
}
