package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

func (e *env) hostCommand() *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "the hosts that keep your sites",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a host by invite, or by URL and token", ArgsUsage: "INVITE | URL --token T [--pinning]",
				Flags: append(networkFlags(),
					&cli.StringFlag{Name: "token", Usage: "the token; - reads it from standard input; HOLDFAST_TOKEN does too"},
					&cli.StringFlag{Name: "name", Usage: "how to call the host", DefaultText: "what it calls itself"},
					&cli.StringSliceFlag{Name: "label", Usage: "what you know of it: operator=…, network=…, region=…; hosts of one operator count as one; may be repeated"},
					&cli.BoolFlag{Name: "pinning", Usage: "it is no host of this network but a pinning service (IPFS Cluster, a commercial one): it gets copies, which prove nothing and don't count"},
					&cli.StringSliceFlag{Name: "gateway", Usage: "with --pinning: base URL of a gateway at which random parts of the site are asked for; may be repeated"}),
				Action: func(c *cli.Context) error { return e.runHostAdd(c) },
			},
			{
				Name: "list", Usage: "list the hosts: room, how often they are up, what they hold",
				Action: func(c *cli.Context) error {
					return ask(c.Context, e, c, node.Records, "host list", struct{}{}, func(h node.Hosts) {
						if len(h.Hosts) == 0 {
							e.note("no hosts; add one with `holdfast host add`")
						}
						for _, i := range h.Hosts {
							e.showHost(i)
							e.printf("  %s\n", hostFacts(i))
						}
					})
				},
			},
			{
				Name: "label", Usage: "say what you know of a host: operator, network, region, software; hosts that share a value may fail together",
				ArgsUsage: "NAME KEY=VALUE… (KEY= takes one away)",
				Action:    func(c *cli.Context) error { return e.runHostLabel(c) },
			},
			{
				Name: "leave", Usage: "move what a host holds elsewhere, have it proved there, then forget the host", ArgsUsage: "NAME|ID|URL",
				Flags: append(networkFlags(), &cli.BoolFlag{Name: "stay", Usage: "take back a leave that was begun"}),
				Action: func(c *cli.Context) error {
					if err := exactly(c, "NAME"); err != nil {
						return err
					}
					req := author.LeaveRequest{Host: c.Args().First(), Stay: c.Bool("stay")}
					return ask(c.Context, e, c, node.Connected, "host leave", req, e.showLeft)
				},
			},
			{
				Name: "remove", Usage: "forget a host that is gone; what it holds stays there", ArgsUsage: "NAME|ID|URL",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "NAME"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "host remove", node.Address{Address: c.Args().First()}, func(h author.HostInfo) {
						e.printf("%s is forgotten (%s)\n", h.Name, cmp.Or(h.ID, h.URL))
						e.warnOf(h)
						e.note("what it holds stays there")
					})
				},
			},
		},
	}
}

func (e *env) showHost(h author.HostInfo) {
	id := h.ID
	if h.Kind == author.KindPinning {
		id = "(no peer)"
	}
	e.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-16s %s  %s  %s", h.Name, id, h.URL, labelPairs(h.Label)), " "))
	e.warnOf(h)
}

func (e *env) warnOf(h author.HostInfo) {
	for _, w := range append(slices.Clone(h.Warnings), h.Warning) {
		if w != "" {
			e.say(e.err, "warning: %s\n", w)
		}
	}
}

// hostFacts is a host in one line: room, uptime, what it holds, and what should keep one from using it.
func hostFacts(h author.HostInfo) string {
	if h.Kind == author.KindPinning {
		return serviceFacts(h)
	}
	facts := []string{"room " + size(h.Free)}
	switch {
	case h.Free < 0:
		facts[0] = "room not known"
	case h.Quota > 0:
		facts[0] += " of " + size(h.Quota)
	}
	facts = append(facts, strings.TrimSpace(upLine(h.Uptime)), "holds "+listOf(h.Holds))
	if len(h.StandsBy) > 0 {
		facts = append(facts, "stands by for "+listOf(h.StandsBy))
	}
	facts = append(facts, "last seen "+when(h.Seen))
	switch {
	case h.Until == nil:
	case h.Until.After(time.Now()):
		facts = append(facts, "ours until "+when(h.Until))
	default:
		facts = append(facts, "our token or its terms have ended ("+when(h.Until)+"): not used any more")
	}
	for _, f := range []struct {
		is   bool
		what string
	}{{h.Draining, "draining"}, {h.Leaving, "being left"}, {h.Out, "convicted of false proofs: not used any more"}} {
		if f.is {
			facts = append(facts, f.what)
		}
	}
	return strings.Join(facts, " · ")
}

// listOf names a few things, and counts many.
func listOf(names []string) string {
	switch n := len(names); {
	case n == 0:
		return "nothing"
	case n > 4:
		return fmt.Sprintf("%d sites", n)
	}
	return strings.Join(names, ", ")
}

func (e *env) runHostLabel(c *cli.Context) error {
	if c.NArg() < 2 {
		return usage("host label needs NAME and KEY=VALUE; see `holdfast host label --help`")
	}
	req := author.LabelRequest{Host: c.Args().First(), Labels: map[string]string{}}
	for _, l := range c.Args().Tail() {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return usage("a label is KEY=VALUE, or KEY= to take it away, not %q", l)
		}
		req.Labels[k] = v
	}
	return ask(c.Context, e, c, node.Records, "host label", req, func(h author.HostInfo) {
		e.showHost(h)
		for _, k := range slices.Sorted(maps.Keys(h.Label)) {
			if !slices.Contains(replicate.PlanLabels(), k) {
				e.note(fmt.Sprintf("%q is yours alone: plans go by %s", k, strings.Join(replicate.PlanLabels(), ", ")))
			}
		}
		if len(h.Holds) > 0 {
			e.note("it counts from the next publish on, or now: `holdfast plan`")
		}
	})
}

func (e *env) showLeft(l author.Left) {
	for _, s := range l.Sites {
		e.showAppliedSite(s)
	}
	if l.Gone {
		e.printf("%s is left and forgotten\n", l.Host.Name)
	} else {
		e.printf("%s stays\n", l.Host.Name)
	}
	for _, w := range l.Warnings {
		e.say(e.err, "warning: %s\n", w)
	}
}

func (e *env) runHostAdd(c *cli.Context) error {
	if err := exactly(c, "INVITE or URL"); err != nil {
		return err
	}
	req := author.HostRequest{Where: c.Args().First(), Name: c.String("name"), Pinning: c.Bool("pinning"), Gateways: c.StringSlice("gateway"), Labels: map[string]string{}}
	for _, l := range c.StringSlice("label") {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" || v == "" {
			return usage("--label is KEY=VALUE, not %q", l)
		}
		req.Labels[k] = v
	}
	if len(req.Gateways) > 0 && !req.Pinning {
		return usage("--gateway goes with --pinning: a host says itself where its gateways are")
	}
	if c.IsSet("token") || !strings.HasPrefix(req.Where, "hfi1") {
		var err error
		if req.Token, err = e.readSecret(c.String("token"), "HOLDFAST_TOKEN"); err != nil {
			return err
		}
	}
	return ask(c.Context, e, c, node.Connected, "host add", req, e.showHost)
}
