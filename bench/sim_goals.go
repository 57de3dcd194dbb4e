//go:build unix

package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/holdfast-sites/holdfast/replicate"
	"github.com/holdfast-sites/holdfast/replicate/sim"
)

// simGoal is a row of the goals of "the author is off for a year".
type simGoal struct {
	what, ours, goal string
	met              bool
	others           string // the best of them
}

func printSimGoals(all map[string]played, large *planDone) {
	var rows []simGoal
	if p, ok := all["medium"]; ok {
		rows = append(rows, yearGoals(p)...)
	}
	if p, ok := all["friends"]; ok {
		o := p.ours()
		rows = append(rows, simGoal{"friends: sites at 99.99 %", percent(o.Nines(), 2), "≥ 99.95 %", o.Nines() >= 0.9995, bestNines(p)})
	}
	for _, name := range []string{"home-only", "ipfs"} {
		if p, ok := all[name]; ok {
			rows = append(rows, frontierGoals(p)...)
		}
	}
	if large != nil {
		rows = append(rows,
			simGoal{"large: use of the fullest host, by what is allowed", fmt.Sprintf("%.2f", large.Over), "≤ 1 (max(1.10 × mean, mean + largest site))", large.Over <= 1, "`bench plan`"},
			simGoal{"large: plan", fmt.Sprintf("%.1f s (%.1f CPU s)", large.First.Seconds, large.First.CPU), "≤ 2 s", large.First.Seconds <= 2, ""},
			simGoal{"large: replan after 1 % went", fmt.Sprintf("%.2f s", large.Lost.Seconds), "≤ 0.3 s", large.Lost.Seconds <= 0.3, ""})
	}
	if p, ok := all["liars"]; ok {
		rows = append(rows, liarGoals(p)...)
	}
	for i, name := range []string{"split-2", "split-3"} {
		if p, ok := all[name]; ok {
			rows = append(rows, splitGoals(p, i+2)...)
		}
	}
	below, thin, gives := 0, 0, 0
	for _, p := range all {
		o := p.ours()
		below, thin, gives = below+o.Below, thin+o.Thin, gives+o.Gives
	}
	if len(all) > 0 {
		rows = append(rows, simGoal{"copies let go of that left fewer than wanted, all scenarios", fmt.Sprintf("%d of %d (fewer live: %d)", below, gives, thin), "0", below == 0, ""})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "| measure\t| ours\t| goal\t|\t| best of the others\t|\n|---\t|---\t|---\t|---\t|---\t|\n")
	for _, r := range rows {
		verdict := "met"
		if !r.met {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.what, r.ours, r.goal, verdict, r.others)
	}
	w.Flush()
}

func yearGoals(p played) []simGoal {
	o := p.ours()
	least := func(f func(sim.Result) float64, format string) string {
		best := -1
		for i, c := range p.contenders[1:] {
			if best < 0 || f(c.Result) < f(p.contenders[best].Result) {
				best = i + 1
			}
		}
		return fmt.Sprintf(format, f(p.contenders[best].Result)) + ", " + p.contenders[best].name
	}
	return []simGoal{
		{"medium: sites at or above 99.99 %", percent(o.Nines(), 3), "≥ 99.95 %", o.Nines() >= 0.9995, bestNines(p)},
		{"medium: sites lost", fmt.Sprint(o.Lost), "0", o.Lost == 0, least(func(r sim.Result) float64 { return float64(r.Lost) }, "%.0f")},
		{"medium: repair bytes / oracle", fmt.Sprintf("%.2f", o.Cost()), "≤ 1.5", o.Cost() <= 1.5, least(sim.Result.Cost, "%.2f")},
		{"medium: mean copies", fmt.Sprintf("%.2f", o.Copies()), "≤ 5.0", o.Copies() <= 5, least(sim.Result.Copies, "%.2f")},
		{"medium: quota overruns", fmt.Sprint(o.Overruns), "0", o.Overruns == 0, ""},
	}
}

func percent(x float64, digits int) string { return fmt.Sprintf("%.*f %%", digits, 100*x) }

func bestNines(p played) string {
	best := p.contenders[1]
	for _, c := range p.contenders[2:] {
		if c.Nines() > best.Nines() || c.Nines() == best.Nines() && c.Moved < best.Moved {
			best = c
		}
	}
	return fmt.Sprintf("%s, %s (%.1f × site copied a year, %.1f copies)", percent(best.Nines(), 2), best.name, best.PerYear(), best.Copies())
}

// frontierGoals compares with the best of the others in two ways: with those that reach as much as we do, in bytes; and with
// those that copy no more than we do, in availability.
func frontierGoals(p played) []simGoal {
	o := p.ours()
	cheapest, surest := -1, -1
	for i, c := range p.contenders[1:] {
		if c.Nines() >= o.Nines() && (cheapest < 0 || c.PerYear() < p.contenders[cheapest].PerYear()) {
			cheapest = i + 1
		}
		if c.PerYear() <= o.PerYear() && (surest < 0 || c.Nines() > p.contenders[surest].Nines()) {
			surest = i + 1
		}
	}
	bytes := simGoal{what: p.Name + ": copied a year, × site, at equal availability", ours: fmt.Sprintf("%.2f at %s", o.PerYear(), percent(o.Nines(), 2)),
		goal: "less than the best", met: true, others: "nobody reaches that"}
	if cheapest > 0 {
		c := p.contenders[cheapest]
		bytes.met = o.PerYear() <= c.PerYear()
		bytes.others = fmt.Sprintf("%.2f, %s (%.1f copies to our %.1f)", c.PerYear(), c.name, c.Copies(), o.Copies())
	}
	nines := simGoal{what: p.Name + ": sites at 99.99 % at equal bytes", ours: percent(o.Nines(), 2), goal: "more than the best", met: true, others: "nobody copies so little"}
	if surest > 0 {
		c := p.contenders[surest]
		nines.met = o.Nines() >= c.Nines()
		nines.others = fmt.Sprintf("%s, %s (%.1f copies)", percent(c.Nines(), 2), c.name, c.Copies())
	}
	return []simGoal{bytes, nines}
}

func liarGoals(p played) []simGoal {
	o := p.ours()
	const audits = 1_000_000
	honest := sim.Honest(audits, 10)
	share := float64(o.Convicted) / float64(max(1, o.Liars))
	return []simGoal{
		{"liars: sites served, over the time", percent(o.Available(), 4), "≥ 99.9 %", o.Available() >= 0.999, bestNines(p)},
		{"liars: convicted by two within 7 days", percent(share, 1), "≥ 99 %", share >= 0.99, "never: nobody else asks"},
		{"honest hosts convicted in 1e6 audits, of which they miss 1 %", fmt.Sprint(honest), "0", honest == 0, ""},
	}
}

func splitGoals(p played, g int) []simGoal {
	o := p.ours()
	share := float64(o.After) / float64(max(1, o.Sites))
	return []simGoal{
		{p.Name + ": most copies, × wanted", fmt.Sprintf("%.2f", float64(o.Most)/100), fmt.Sprintf("≤ %d", g), o.Most <= 100*g, ""},
		{p.Name + ": sites above that 48 h after", percent(share, 2), "0", o.After <= o.Before, ""},
	}
}

// printAuditCost is what audits cost a holder in a day, for a hundred sites of 6 MB that five hold and eight stand by for.
func printAuditCost() {
	const sites, bytes, holders, standbys, perDay, leaf = 100, 6e6, 5, 8, 2, 100_000
	full := float64(sites * bytes * (holders - 1) * perDay)
	shown := float64(sites * standbys * perDay * replicate.RosterLeaves * leaf)
	fmt.Printf("\nAudits of 100 sites of 6 MB, 5 holders and 8 standbys, each asked every 12 h: a holder reads %.1f GB a day to prove and %.1f GB to check the others, and sends %.1f MB of answers;\n"+
		"random leaves, %d a sample, of 100 KB each, send %.1f GB a day\n",
		full/1e9, full/1e9, float64(sites*(holders-1)*perDay)*500/1e6, replicate.RosterLeaves, shown/1e9)
}

func surplus(d time.Duration) replicate.Times { return replicate.Times{Surplus: d} }

func fast(d time.Duration) replicate.Times { return replicate.Times{Fast: d} }
