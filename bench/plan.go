//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/holdfast-sites/holdfast/bench/meter"
	"github.com/holdfast-sites/holdfast/replicate"
)

// planJob is one way of placing, and in what world.
type planJob struct {
	Placer string // "ours", or a name in planBaselines
	Hosts  int
	Sites  int
	Copies int // of a baseline
}

// planDone is what came out.
type planDone struct {
	First, Lost, Joined meter.Cost // of a plan from nothing, and of plans after 1 % of the hosts went or came
	Peak                int64      // bytes, of the process with its input
	Copies              float64    // of a site
	Skew                float64    // the fullest host's used share by the share that all use together
	Over                float64    // bytes of the fullest host, by what the goal allows
	Under               float64    // share of the sites under 99.99 %, with all holders
	Short               int        // sites with fewer copies than wanted
	MovedLost           float64    // bytes moved after the loss, by the bytes lost
	MovedJoined         int64      // bytes moved after hosts joined
}

const (
	planHosts = 10_000
	planSites = 1_000_000
)

// plan has a million sites placed by the planner and by others, each in a process of its own.
func (b *bench) plan(ctx context.Context) error {
	fmt.Printf("%d sites on %d hosts, every plan in a process of its own, which makes the world first; baselines once\n\n", planSites, planHosts)
	var first, lost, joined, peak, over, work, rework figures
	var ours planDone
	for range b.rounds {
		if err := b.ask(ctx, &ours, "plan", planJob{Placer: "ours", Hosts: planHosts, Sites: planSites}); err != nil {
			return err
		}
		first, lost, joined = append(first, ours.First.Seconds), append(lost, ours.Lost.Seconds), append(joined, ours.Joined.Seconds)
		work, rework = append(work, ours.First.CPU), append(rework, ours.Lost.CPU)
		peak, over = append(peak, mb(ours.Peak)), append(over, ours.Over)
	}
	printGoals([]measure{
		{what: "plan of 1M sites on 10k hosts", unit: "s", ours: first, limits: most(2), goal: "≤ 2 s"},
		{what: "peak memory, input included", unit: "MB", ours: peak, limits: most(512), goal: "≤ 512 MB"},
		{what: "again after 1 % of the hosts went", unit: "s", ours: lost, limits: most(0.3), goal: "≤ 0.3 s"},
		{what: "again after 1 % more came", unit: "s", ours: joined, limits: most(0.3), goal: "≤ 0.3 s"},
		{what: "processor time of the first", unit: "s", ours: work},
		{what: "processor time after 1 % went", unit: "s", ours: rework},
		{what: "fullest host by what is allowed", unit: "", ours: over, limits: most(1), goal: "≤ max(1.10 × mean, mean + largest site)"},
	})
	fmt.Printf("\nbytes moved after the loss / bytes lost %.2f; after hosts came %.1f MB\n\n", ours.MovedLost, mb(ours.MovedJoined))

	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "| placer\t| copies\t| max / mean use\t| sites under 99.99 %\t| without all copies\t| CPU s\t| peak MB\t|\n|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	row := func(name string, d planDone) {
		fmt.Fprintf(w, "| %s\t| %.2f\t| %.2f\t| %.2f %%\t| %d\t| %.1f\t| %.0f\t|\n", name, d.Copies, d.Skew, 100*d.Under, d.Short, d.First.CPU, mb(d.Peak))
	}
	row("the planner", ours)
	for _, copies := range []int{4, 5} {
		for _, name := range []string{"rendezvous", "most free", "random"} {
			var done planDone
			if err := b.ask(ctx, &done, "plan", planJob{Placer: name, Hosts: planHosts, Sites: planSites, Copies: copies}); err != nil {
				return err
			}
			row(fmt.Sprintf("%s, %d copies", planBaselines[name].title, copies), done)
		}
	}
	return w.Flush()
}

func planChild(_ context.Context, asked json.RawMessage) (any, error) {
	var j planJob
	if err := json.Unmarshal(asked, &j); err != nil {
		return nil, err
	}
	w := newPlanWorld(j.Hosts, j.Sites)
	if j.Placer == "ours" {
		return w.ours()
	}
	return w.baseline(planBaselines[j.Placer].place, j.Copies)
}

// ours plans, and plans again after a change.
func (w *planWorld) ours() (done planDone, err error) {
	place := func(present *replicate.Assignment, cost *meter.Cost) (*replicate.Assignment, replicate.FleetReport, error) {
		m := meter.Start()
		f, err := replicate.NewFleet(w.hosts, replicate.FleetOptions{})
		if err != nil {
			return nil, replicate.FleetReport{}, err
		}
		a, report := f.Place(w.sites, present)
		*cost = m.Stop()
		return a, report, nil
	}
	newcomers := w.newcomers(len(w.hosts) / 100)
	first, report, err := place(nil, &done.First)
	if err != nil {
		return done, err
	}
	done.Peak, done.Short = done.First.Peak, report.Short
	if err := w.measure(&done, first.Of); err != nil {
		return done, err
	}
	w.hosts = append(w.hosts, newcomers...)
	if _, report, err = place(first, &done.Joined); err != nil {
		return done, err
	}
	done.MovedJoined = report.Moved
	w.hosts = w.hosts[:len(w.hosts)-len(newcomers)]
	var gone int64
	for i := 0; i < len(w.hosts); i += 100 {
		w.hosts[i].Reachable = false
	}
	for i, s := range w.sites {
		for _, h := range first.Of(i) {
			if !w.hosts[h].Reachable {
				gone += s.Bytes
			}
		}
	}
	if _, report, err = place(first, &done.Lost); err != nil {
		return done, err
	}
	done.MovedLost = float64(report.Moved) / float64(gone)
	return done, nil
}

// measure says how good a placement is.
func (w *planWorld) measure(done *planDone, of func(site int) []int32) error {
	f, err := replicate.NewFleet(w.hosts, replicate.FleetOptions{})
	if err != nil {
		return err
	}
	used := make([]int64, len(w.hosts))
	var all, quota, copies, under, largest float64
	for i, s := range w.sites {
		for _, h := range of(i) {
			used[h] += s.Bytes
			all += float64(s.Bytes)
			copies++
		}
		largest = max(largest, float64(s.Bytes))
		if f.Availability(of(i)) < 999_900_000 {
			under++
		}
	}
	for _, o := range w.hosts {
		quota += float64(o.Quota)
	}
	for h, o := range w.hosts {
		fair := all / quota * float64(o.Quota)
		done.Skew = max(done.Skew, float64(used[h])/fair)
		done.Over = max(done.Over, float64(used[h])/max(1.1*fair, fair+largest))
	}
	done.Copies, done.Under = copies/float64(len(w.sites)), under/float64(len(w.sites))
	return nil
}
