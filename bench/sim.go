//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-sites/holdfast/replicate/sim"
)

// simulation is one run of `bench sim`: the shipped planner and rule of repair and what others do, in
// the same worlds.
type simulation struct {
	seeds int
	quick bool
	only  string
	svg   string
}

// played is what came of one scenario, all seeds together.
type played struct {
	sim.Scenario
	contenders []entrant // ours first
}

type entrant struct {
	name string
	sim.Result
}

func (p played) ours() sim.Result { return p.contenders[0].Result }

// runSim is `bench sim [flags]`.
func runSim(ctx context.Context, args []string) error {
	var s simulation
	flags := flag.NewFlagSet("bench sim", flag.ContinueOnError)
	flags.IntVar(&s.seeds, "seeds", 10, "worlds of each scenario")
	flags.StringVar(&s.only, "scenario", "", "these alone, with commas between them: "+strings.Join(scenarioNames(), ", "))
	flags.BoolVar(&s.quick, "quick", false, "two seeds of small worlds, in half a minute")
	flags.StringVar(&s.svg, "svg", "", "a folder for a plot of each scenario; it has to exist")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.quick {
		s.seeds = min(s.seeds, 2)
	}
	if s.seeds < 1 || flags.NArg() > 0 {
		return fmt.Errorf("usage: go run ./bench sim [-seeds N] [-scenario NAMES] [-quick] [-svg DIR]")
	}
	// Little is alive at a time and much is made: without this half of the time goes to collecting it.
	debug.SetGCPercent(800)
	return s.run(ctx)
}

func scenarioNames() []string {
	var names []string
	for _, sc := range sim.Scenarios {
		names = append(names, sc.Name)
	}
	return append(names, "large", "frontier")
}

func (s simulation) wants(name string) bool {
	if s.only == "" {
		return true
	}
	for _, n := range strings.Split(s.only, ",") {
		if n == name {
			return true
		}
	}
	return false
}

func (s simulation) run(ctx context.Context) error {
	fmt.Printf("seeds 0 to %d; %s/%s, %s\n", s.seeds-1, runtime.GOOS, runtime.GOARCH, runtime.Version())
	if s.quick {
		fmt.Println("quick: small worlds; the goals are those of the large ones")
	}
	all := make(map[string]played)
	for _, sc := range sim.Scenarios {
		if !s.wants(sc.Name) {
			continue
		}
		began := time.Now()
		p, err := s.play(ctx, sc)
		if err != nil {
			return err
		}
		all[sc.Name] = p
		fmt.Fprintf(os.Stderr, "%s: %v\n", sc.Name, time.Since(began).Round(time.Second))
		fmt.Printf("\n## %s: %s\n\n", sc.Name, sc.About)
		printPlayed(p)
		if s.svg != "" {
			if err := os.WriteFile(filepath.Join(s.svg, sc.Name+".svg"), []byte(plotDays(p)), 0o644); err != nil {
				return err
			}
		}
	}
	if s.wants("frontier") {
		if err := s.frontier(ctx); err != nil {
			return err
		}
	}
	var large *planDone
	if s.wants("large") {
		hosts, sites := planHosts, planSites
		if s.quick {
			hosts, sites = hosts/10, sites/10
		}
		done, err := newPlanWorld(hosts, sites).ours()
		if err != nil {
			return err
		}
		large = &done
	}
	fmt.Print("\n## Goals\n\n")
	printSimGoals(all, large)
	printAuditCost()
	return nil
}

// play has all contenders meet the same worlds. Where there are many sites the others play with a quarter of
// them: theirs is a ratio, and no site hangs on another.
func (s simulation) play(ctx context.Context, sc sim.Scenario) (played, error) {
	contenders := append([]sim.Contender{sim.Ours("ours, as shipped", sim.Settings{})}, sim.Baselines()...)
	switch sc.Name {
	case "home-only", "ipfs": // where goals are set by the best of these
		for _, k := range []int{3, 5, 6, 7, 8} {
			contenders = append(contenders, sim.Carbonite(k))
		}
	}
	p := played{Scenario: sc, contenders: make([]entrant, len(contenders))}
	for seed := range s.seeds {
		w := sc.Build(uint64(seed), s.quick)
		for i, c := range contenders {
			if err := ctx.Err(); err != nil {
				return p, err
			}
			in := w
			if i > 0 && len(w.Sites) > 10_000 {
				in = w.Part(4)
			}
			p.contenders[i].name = c.Name
			p.contenders[i].Add(c.Run(in))
		}
	}
	return p, nil
}

func printPlayed(p played) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "| \t| sites at 99.99 %\t| available\t| lost\t| bytes / oracle\t| copied a year, × site\t| copies\t| most live beyond\t|\n")
	fmt.Fprint(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	for _, c := range p.contenders {
		fmt.Fprintf(w, "| %s\t| %.2f %%\t| %.4f %%\t| %d\t| %s\t| %.2f\t| %.2f\t| %d\t|\n", c.name, 100*c.Nines(), 100*c.Available(), c.Lost,
			cost(c.Result), c.PerYear(), c.Copies(), c.MostExtra)
	}
	w.Flush()
	if o := p.ours(); o.Most > 0 {
		fmt.Printf("\nours: at most %.2f times the copies wanted while split and for 48 h after; sites with too many live copies %d as it began, %d 48 h after it ended, of %d\n",
			float64(o.Most)/100, o.Before, o.After, o.Sites)
	}
	if o := p.ours(); o.Liars > 0 {
		fmt.Printf("\nours: of %d seats of liars %d convicted by two members within 7 days\n", o.Liars, o.Convicted)
	}
}

func cost(r sim.Result) string {
	if r.Oracle == 0 {
		return fmt.Sprintf("%.1f GB / 0", float64(r.Moved)/1e9)
	}
	return fmt.Sprintf("%.2f", r.Cost())
}

// frontier is bytes against availability for several settings, in small worlds of the medium kind.
func (s simulation) frontier(ctx context.Context) error {
	day := 24 * time.Hour
	tries := []sim.Contender{
		sim.Ours("shipped: 3..5 copies, patience 14 to 30 days", sim.Settings{}),
		sim.Ours("patience 1 day", sim.Settings{PatienceMax: day}),
		sim.Ours("patience 3 days", sim.Settings{PatienceMax: 3 * day}),
		sim.Ours("patience 7 days", sim.Settings{PatienceMax: 7 * day}),
		sim.Ours("patience 30 days", sim.Settings{PatienceMin: 30 * day}),
		sim.Ours("3 copies", sim.Settings{Copies: 3, Most: 3}),
		sim.Ours("3..4 copies", sim.Settings{Copies: 3, Most: 4}),
		sim.Ours("4..5 copies", sim.Settings{Copies: 4, Most: 5}),
		sim.Ours("3..8 copies", sim.Settings{Copies: 3, Most: 8}),
		sim.Ours("no target, 3 copies", sim.Settings{Copies: 3, Most: 3, Availability: 1}),
		sim.Ours("surplus 24 h", sim.Settings{Times: surplus(day)}),
		sim.Ours("surplus 30 days (returning copies kept)", sim.Settings{Times: surplus(30 * day)}),
		sim.Ours("fast clock after 1 h", sim.Settings{Times: fast(time.Hour)}),
		sim.Ours("fast clock after 6 h", sim.Settings{Times: fast(6 * time.Hour)}),
	}
	for k := 3; k <= 7; k++ {
		tries = append(tries, sim.Carbonite(k))
	}
	p := played{contenders: make([]entrant, len(tries))}
	for _, sc := range sim.Scenarios {
		if sc.Name != "medium" {
			continue
		}
		for seed := range min(s.seeds, 3) {
			w := sc.Build(uint64(seed), true)
			if s.quick {
				w = w.Part(10)
			}
			for i, c := range tries {
				if err := ctx.Err(); err != nil {
					return err
				}
				p.contenders[i].name = c.Name
				p.contenders[i].Add(c.Run(w))
			}
		}
	}
	fmt.Print("\n## Frontier: 300 hosts of the medium kind, 1500 sites, a year, up to three seeds\n\n")
	printPlayed(p)
	if s.svg != "" {
		return os.WriteFile(filepath.Join(s.svg, "frontier.svg"), []byte(plotFrontier(p)), 0o644)
	}
	return nil
}
