package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) hostCommand() *cli.Command {
	return &cli.Command{
		Name: "host", Usage: "the hosts that keep your sites",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a host by invite, or by URL and token", ArgsUsage: "INVITE | URL --token T",
				Flags: append(networkFlags(),
					&cli.StringFlag{Name: "token", Usage: "the token; - reads it from standard input; HOLDFAST_TOKEN does too"},
					&cli.StringFlag{Name: "name", Usage: "how to call the host", DefaultText: "what it calls itself"},
					&cli.StringSliceFlag{Name: "label", Usage: "what you know of it: operator=…, network=…, region=…; hosts of one operator count as one; may be repeated"}),
				Action: func(c *cli.Context) error { return e.runHostAdd(c) },
			},
			{
				Name: "list", Usage: "list the hosts",
				Action: func(c *cli.Context) error {
					return ask(c.Context, e, c, node.Records, "host list", struct{}{}, func(h node.Hosts) {
						if len(h.Hosts) == 0 {
							e.note("no hosts; add one with `holdfast host add`")
						}
						for _, i := range h.Hosts {
							e.showHost(i)
						}
					})
				},
			},
			{
				Name: "remove", Usage: "forget a host; what it holds stays there", ArgsUsage: "NAME|ID|URL",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "NAME"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "host remove", node.Address{Address: c.Args().First()}, e.showHost)
				},
			},
		},
	}
}

func (e *env) showHost(h author.HostInfo) {
	labels := make([]string, 0, len(h.Label))
	for k, v := range h.Label {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	e.printf("%-16s %s  %s  %s\n", h.Name, h.ID, h.URL, strings.Join(labels, " "))
	if h.Warning != "" {
		e.say(e.err, "warning: %s\n", h.Warning)
	}
}

func (e *env) runHostAdd(c *cli.Context) error {
	if err := exactly(c, "INVITE or URL"); err != nil {
		return err
	}
	req := author.HostRequest{Where: c.Args().First(), Name: c.String("name"), Labels: map[string]string{}}
	for _, l := range c.StringSlice("label") {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" || v == "" {
			return usage("--label is KEY=VALUE, not %q", l)
		}
		req.Labels[k] = v
	}
	if c.IsSet("token") || !strings.HasPrefix(req.Where, "hfi1") {
		var err error
		if req.Token, err = e.readSecret(c.String("token"), "HOLDFAST_TOKEN"); err != nil {
			return err
		}
	}
	return ask(c.Context, e, c, node.Connected, "host add", req, e.showHost)
}

func (e *env) operatorCommand() *cli.Command {
	return &cli.Command{
		Name: "operator", Usage: "for who runs a host",
		Subcommands: []*cli.Command{{
			Name: "invite", Usage: "one string with which an author can use this host; it carries a token", ArgsUsage: "LABEL",
			Action: func(c *cli.Context) error {
				if err := exactly(c, "LABEL"); err != nil {
					return err
				}
				// Records only: without a running host there is no address to invite to.
				return ask(c.Context, e, c, node.Records, "invite", node.Address{Address: c.Args().First()}, func(r node.InviteResult) {
					e.printf("%s\n", r.Invite)
				})
			},
		}, {
			Name: "usage", Usage: "what each tenant takes here",
			Action: func(c *cli.Context) error {
				if err := exactly(c); err != nil {
					return err
				}
				return ask(c.Context, e, c, node.Blocks, "usage", struct{}{}, e.showUsage)
			},
		}},
	}
}

func (e *env) showUsage(u node.HostUsage) {
	e.printf("%-20s %6s %10s %10s\n", "tenant", "pins", "kept", "alone")
	for _, t := range u.Tenants {
		name := t.Label
		if name == "" {
			name = t.ID
		}
		e.printf("%-20s %6d %10s %10s\n", name, t.Pins, size(t.Bytes), size(t.UniqueBytes))
	}
	e.printf("%s are kept in all, each block once; the store takes %s\n", size(u.Bytes), size(u.Disk))
}

func (e *env) tokenCommand() *cli.Command {
	show := func(t node.TokenInfo) { e.printf("%s  %-20s %s\n", t.ID, t.Label, t.Created) }
	return &cli.Command{
		Name: "token", Usage: "what lets an author use this host",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a token for a tenant; it is shown once", ArgsUsage: "LABEL",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "LABEL"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "token create", node.Address{Address: c.Args().First()}, func(t node.NewToken) {
						e.printf("%s\n", t.Token)
						e.say(e.err, "token %s for %s; it is not shown again\n", t.ID, t.Label)
					})
				},
			},
			{
				Name: "list", Usage: "list the tokens, without their secrets",
				Action: func(c *cli.Context) error {
					return ask(c.Context, e, c, node.Records, "token list", struct{}{}, func(t node.Tokens) {
						if len(t.Tokens) == 0 {
							e.note("no tokens; make one with `holdfast token create LABEL`")
						}
						for _, i := range t.Tokens {
							show(i)
						}
					})
				},
			},
			{
				Name: "revoke", Usage: "end a token at once; what it pinned stays", ArgsUsage: "ID|LABEL",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "ID"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "token revoke", node.Address{Address: c.Args().First()}, show)
				},
			},
		},
	}
}
