package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "what lets an author use this host",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a token for a tenant; it is shown once", ArgsUsage: "LABEL",
				Description: "Example: holdfast token create anna --site k51… --quota 5GB --max-pin 1GB --rate 600/m --expires 90d",
				Flags:       scopeFlags(),
				Action: func(c *cli.Context) error {
					req, err := tokenRequest(c)
					if err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "token create", req, func(t node.NewToken) {
						e.printf("%s\n", t.Token)
						e.say(e.err, "token %s for %s; it is not shown again\n", t.ID, t.Label)
					})
				},
			},
			{
				Name: "list", Usage: "list the tokens: what they are good for and when they were last used, without their secrets",
				Action: func(c *cli.Context) error {
					return ask(c.Context, e, c, node.Records, "token list", struct{}{}, func(t node.Tokens) {
						if len(t.Tokens) == 0 {
							e.note("no tokens; make one with `holdfast token create LABEL`")
						}
						for _, i := range t.Tokens {
							e.showToken(i)
						}
					})
				},
			},
			{
				Name: "revoke", Usage: "end a token at once", ArgsUsage: "ID|LABEL",
				Description: "No request with it is answered from now on, not even one that is being sent. What it pinned stays, also what is\n" +
					"still being fetched, and goes on following its names: `holdfast operator pins --tenant ID` shows it.",
				Action: func(c *cli.Context) error {
					if err := exactly(c, "ID"); err != nil {
						return err
					}
					return ask(c.Context, e, c, node.Records, "token revoke", node.Address{Address: c.Args().First()}, func(t node.TokenInfo) {
						e.printf("the token of %s is revoked (%s)\n", t.Label, t.ID)
						e.note("what it pinned stays: `holdfast operator pins --tenant " + t.ID + "`")
					})
				},
			},
		},
	}
}

// scopeFlags say what a token is good for.
func scopeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "site", Usage: "only pins of this site: name, alias or domain; may be repeated", DefaultText: "any"},
		&cli.StringFlag{Name: "quota", Usage: "unique bytes over all pins, like 5GB", DefaultText: "no limit"},
		&cli.StringFlag{Name: "max-pin", Usage: "unique bytes of one pin, like 1GB", DefaultText: "the host's limit"},
		&cli.StringFlag{Name: "rate", Usage: "requests a minute, like 600/m", DefaultText: "no limit"},
		&cli.StringFlag{Name: "expires", Usage: "when it ends: 90d, 12h, 2027-12-31", DefaultText: "never"},
		&cli.StringFlag{Name: "for-peer", Usage: "peer id of the host that gives you room in return", DefaultText: "nobody"},
	}
}

// tokenRequest reads scopeFlags and the LABEL.
func tokenRequest(c *cli.Context) (req node.TokenRequest, err error) {
	if err := exactly(c, "LABEL"); err != nil {
		return req, err
	}
	req = node.TokenRequest{Label: c.Args().First(), Sites: c.StringSlice("site"), Peer: c.String("for-peer")}
	for flag, to := range map[string]*int64{"quota": &req.Quota, "max-pin": &req.MaxPinBytes} {
		if !c.IsSet(flag) {
			continue
		}
		if *to, err = parseSize("--"+flag, c.String(flag)); err != nil {
			return req, err
		}
		if *to == 0 { // which would be kept as no limit
			return req, usage("--%s 0 would let nothing be pinned; without the flag there is no limit", flag)
		}
	}
	if c.IsSet("rate") {
		if req.Rate, err = parseRequests(c.String("rate")); err != nil {
			return req, err
		}
	}
	if c.IsSet("expires") {
		at, err := parseEnd(c.String("expires"), time.Now())
		if err != nil {
			return req, err
		}
		req.Expires = &at
	}
	return req, nil
}

// parseRequests reads requests a minute: 600, 600/m, 10/s, 36000/h.
func parseRequests(text string) (int, error) {
	number, per, _ := strings.Cut(strings.TrimSpace(text), "/")
	n, err := strconv.Atoi(number)
	switch per {
	case "", "m", "min":
	case "s":
		n *= 60
	case "h":
		n = (n + 59) / 60
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || n < 1 || n > math.MaxInt32 {
		return 0, usage("--rate is a number of requests like 600/m, 10/s or 36000/h, not %q", text)
	}
	return n, nil
}

// parseEnd reads when something ends: after so many days or hours, or at the end of a day (UTC), or at a time.
func parseEnd(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 100_000 {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, usage("--expires is like 90d, 12h, 2027-12-31 (to the end of that day, UTC) or 2027-12-31T12:00:00Z, not %q", text)
}

func (e *env) showToken(t node.TokenInfo) {
	e.printf("%s  %-20s %s\n", t.ID, t.Label, t.Created)
	e.printf("  %s\n", strings.Join(scopeFacts(t), " · "))
}

// scopeFacts is what a token is good for, and whether it is used.
func scopeFacts(t node.TokenInfo) []string {
	facts := []string{"any site"}
	if len(t.Sites) > 0 {
		facts[0] = strings.Join(t.Sites, ", ")
	}
	if t.Quota > 0 {
		facts = append(facts, size(t.Quota)+" in all")
	}
	if t.MaxPinBytes > 0 {
		facts = append(facts, size(t.MaxPinBytes)+" a pin")
	}
	if t.Rate > 0 {
		facts = append(facts, fmt.Sprintf("%d requests a minute", t.Rate))
	}
	switch {
	case t.Expired:
		facts = append(facts, "expired "+when(t.Expires))
	case t.Expires != nil:
		facts = append(facts, "until "+when(t.Expires))
	}
	if t.Peer != "" {
		facts = append(facts, "in return for room at "+t.Peer)
	}
	if t.Used == nil {
		return append(facts, "never used")
	}
	return append(facts, "last used "+when(t.Used))
}
