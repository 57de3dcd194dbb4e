package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) operatorCommand() *cli.Command {
	return &cli.Command{
		Name: "operator", Usage: "for who runs a host",
		Subcommands: []*cli.Command{
			{
				Name: "invite", Usage: "one string with which an author can use this host; it carries a token", ArgsUsage: "LABEL",
				Flags: append(scopeFlags(),
					&cli.StringFlag{Name: "reciprocal", Usage: "the invite that this one answers: their host becomes one of yours, and they get as much room here; - reads it from standard input"}),
				Action: func(c *cli.Context) error { return e.runInvite(c) },
			},
			{
				Name: "pins", Usage: "what all tenants have pinned here",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "failing", Usage: "only those that failed, or whose last try did"},
					&cli.StringFlag{Name: "tenant", Usage: "only this one's: the label or id of its token"},
				},
				Action: func(c *cli.Context) error {
					if err := exactly(c); err != nil {
						return err
					}
					req := node.PinsRequest{Failing: c.Bool("failing"), Tenant: c.String("tenant")}
					return ask(c.Context, e, c, node.Records, "pins", req, e.showPins)
				},
			},
			{
				Name: "usage", Usage: "what each tenant takes here, what is left, and what comes and goes today",
				Action: func(c *cli.Context) error {
					if err := exactly(c); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Blocks, "usage", struct{}{}, e.showUsage)
				},
			},
			{
				Name: "drain", Usage: "empty this host: it takes no new pins, and its authors move their sites elsewhere",
				Description: "What is pinned stays, and is served, until those who pinned it have moved it; authors do so with their next publish or\n" +
					"`holdfast apply`. The host says that it is being emptied until --undo, also after a restart.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "undo", Usage: "take pins again"},
					&cli.BoolFlag{Name: "show", Usage: "only say what is left"},
					&cli.BoolFlag{Name: "wait", Usage: "come back when nothing is left"},
				},
				Action: func(c *cli.Context) error {
					if err := exactly(c); err != nil {
						return err
					}
					if c.Bool("show") && (c.Bool("undo") || c.Bool("wait")) {
						return usage("--show changes nothing and waits for nothing: leave --undo and --wait out")
					}
					req := node.DrainRequest{Undo: c.Bool("undo"), Show: c.Bool("show"), Wait: c.Bool("wait")}
					return ask(c.Context, e, c, node.Records, "drain", req, e.showDrain)
				},
			},
		},
	}
}

func (e *env) runInvite(c *cli.Context) error {
	if c.IsSet("reciprocal") {
		return e.runReciprocal(c)
	}
	req, err := tokenRequest(c)
	if err != nil {
		return err
	}
	// Records only: without a running host there is no address to invite to.
	return ask(c.Context, e, c, node.Records, "invite", req, func(r node.InviteResult) { e.printf("%s\n", r.Invite) })
}

// tenantName is how to call a tenant: by its token's label where it has one.
func tenantName(label, id string) string {
	if label != "" {
		return label
	}
	return id
}

func (e *env) showPins(l node.PinList) {
	if len(l.Pins) == 0 {
		e.note("no pins")
	}
	for _, p := range l.Pins {
		e.showPin(p)
	}
}

func (e *env) showPin(p node.PinLine) {
	what := "/ipfs/" + p.CID
	if p.Site != "" && p.Role != "" {
		what = "/ipns/" + p.Site
	}
	e.printf("%-8s %-16s %10s  %s\n", p.Status, tenantName(p.Label, p.Tenant), size(p.Bytes), what)
	facts := []string{p.ID}
	add := func(is bool, format string, args ...any) {
		if is {
			facts = append(facts, fmt.Sprintf(format, args...))
		}
	}
	add(p.Name != "", "%q", p.Name)
	add(p.Role != "", "%s", p.Role)
	add(p.Reserved > 0, "%s reserved", size(p.Reserved))
	add(p.Status == "pinning" && p.Done > 0, "%s have come", size(p.Done))
	e.printf("  %s\n", strings.Join(facts, " · "))
	if p.Error == "" {
		return
	}
	e.printf("  %s\n", p.Error)
	if p.NextTry != nil {
		e.printf("  tried again %s\n", when(p.NextTry))
	}
	if p.Sources != "" {
		e.printf("  asked %s\n", p.Sources)
	}
}

func (e *env) showUsage(u node.HostUsage) {
	e.printf("%-20s %6s %10s %10s %10s %10s\n", "tenant", "pins", "kept", "alone", "reserved", "quota")
	for _, t := range u.Tenants {
		quota := "-"
		if t.Quota > 0 {
			quota = size(t.Quota)
		}
		e.printf("%-20s %6d %10s %10s %10s %10s%s\n", tenantName(t.Label, t.ID), t.Pins, size(t.Bytes), size(t.UniqueBytes), size(t.Reserved), quota, tenantNotes(t))
	}
	e.printf("%s are kept in all, each block once; the store takes %s\n", size(u.Bytes), size(u.Disk))
	e.printf("%s are reserved, %s are left for new pins", size(u.Reserved), size(u.Free))
	if u.Capacity > 0 {
		e.printf(" of %s", size(u.Capacity))
	}
	e.printf("\ntoday %s in, %s out\n", traffic(u.Ingress), traffic(u.Egress))
	if u.Draining != nil {
		e.printf("being emptied since %s: no new pins\n", when(u.Draining))
	}
	e.showBalance(u.Balance)
	for i, p := range u.Failing {
		if i == 0 {
			e.printf("failing pins:\n")
		}
		e.showPin(p)
	}
}

func tenantNotes(t node.TenantUsage) (notes string) {
	if t.Failing > 0 {
		notes += fmt.Sprintf("  %d failing", t.Failing)
	}
	if t.Revoked {
		notes += "  revoked"
	}
	return notes
}

func traffic(t node.DayTraffic) string {
	if t.Budget > 0 {
		return size(t.Bytes) + " of " + size(t.Budget)
	}
	return size(t.Bytes)
}

func pins(n int) string {
	if n == 1 {
		return "1 pin"
	}
	return fmt.Sprintf("%d pins", n)
}

func (e *env) showDrain(d node.Drain) {
	if d.Since == nil {
		e.printf("new pins are taken\n")
	} else {
		e.printf("being emptied since %s: no new pins\n", when(d.Since))
	}
	for _, t := range d.Tenants {
		about := ""
		if !t.Exact {
			about = "at most "
		}
		e.printf("  %-20s %10s  %s%s\n", tenantName(t.Label, t.ID), pins(t.Pins), about, size(t.Bytes))
	}
	switch {
	case d.Pins > 0:
		e.printf("%s %s left\n", pins(d.Pins), isAre(d.Pins))
	case d.Since != nil:
		e.printf("nothing is left: the host can be switched off\n")
	}
}
