package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) domainCommand() *cli.Command {
	return &cli.Command{
		Name: "domain", Usage: "domains of your own for your sites",
		Subcommands: []*cli.Command{{
			Name: "check", Usage: "what a domain has published, what it should have, and who sees it", ArgsUsage: "DOMAIN",
			Description: "Exit code 0: all is as it should be; 3: nothing is published; 4: it points to something else;\n" +
				"5: a resolver could not be asked; 6: what is published can't be followed (malformed, several, a loop).\n" +
				"Example: holdfast domain check www.example.org --site blog --gateway gw.example --resolver system",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "site", Usage: "alias or name of the site that the domain is for", DefaultText: "any"},
				&cli.StringSliceFlag{Name: "gateway", Usage: "host that the domain has to lead to; may be repeated", DefaultText: "the gateways of your hosts, as advice"},
				&cli.StringSliceFlag{Name: "resolver", Usage: "whom to ask: system, https://HOST/dns-query or udp://IP; may be repeated", DefaultText: "dns.resolvers of config.toml"},
			},
			Action: func(c *cli.Context) error { return e.runDomainCheck(c) },
		}},
	}
}

func (e *env) runDomainCheck(c *cli.Context) error {
	if err := exactly(c, "DOMAIN"); err != nil {
		return err
	}
	n, err := e.node(c.Context, c, node.Records)
	if err != nil {
		return err
	}
	defer n.close()
	req := author.DomainRequest{
		Domain: c.Args().First(), Site: c.String("site"), Gateways: c.StringSlice("gateway"), Resolvers: c.StringSlice("resolver"),
	}
	var out author.DomainReport
	if err := n.Call(c.Context, "domain check", req, &out, nil); err != nil {
		return err
	}
	failure := domainFailure(out)
	if failure != nil && e.json {
		return failure // carries the report
	}
	e.print(out, func() { e.showDomain(out) })
	return failure
}

// domainFailure is nil for a domain that is as it should be.
func domainFailure(d author.DomainReport) error {
	kinds := map[author.Verdict]control.Kind{
		author.DomainMissing: control.NotFound, author.DomainElsewhere: control.Conflict,
		author.DomainUnavailable: control.Unavailable, author.DomainMalformed: control.Corrupt,
	}
	kind, wrong := kinds[d.Verdict]
	if !wrong {
		return nil
	}
	err := control.Errorf(kind, "%s: %s", d.Domain, d.Message)
	err.Details = map[string]any{"domain": d}
	return err
}

func (e *env) showDomain(d author.DomainReport) {
	for _, v := range d.Resolvers {
		e.printf("%s  %s\n", v.Resolver, string(v.Verdict))
		if v.DNSLink != "" {
			e.printf("  points at  %s (for %d s)\n", v.DNSLink, int(v.TTL))
		}
		for _, t := range v.Texts {
			e.printf("  TXT        %s\n", strings.ReplaceAll(t, "\n", `\n`))
		}
		if leads := append(v.Aliases, v.Addresses...); len(leads) > 0 {
			e.printf("  leads to   %s\n", strings.Join(leads, ", "))
		}
		if v.Error != "" {
			e.printf("  %s\n", v.Error)
		}
	}
	if !d.Agree {
		e.printf("the resolvers differ: what was changed may take its TTL to be seen everywhere\n")
	}
	e.showDomainRecords(d.Records)
	e.printf("\na certificate\n")
	for _, s := range d.TLS {
		e.printf("  %s\n", s)
	}
	for _, s := range d.Notes {
		e.printf("note: %s\n", s)
	}
	if d.Verdict == author.DomainOK {
		e.printf("\n%s: %s\n", d.Domain, d.Message)
	}
}

// showDomainRecords shows what to paste: into a zone file, and into a provider's form.
func (e *env) showDomainRecords(records []author.DomainRecord) {
	if len(records) == 0 {
		return
	}
	e.printf("\nwhat it should have, for a zone file\n")
	for _, r := range records {
		either := ""
		if r.Choice > 0 {
			either = "    ; one of these"
		}
		e.printf("  %s%s\n", r.Line, either)
	}
	e.printf("for a form\n")
	for _, r := range records {
		e.printf("  name %s  type %s  value %s\n", r.Name, r.Type, r.Value)
	}
}
