package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

// wantFlags say what is wanted of a site's copies. What is given is remembered for the site.
func wantFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "copies", Usage: "hosts that must prove their copy before the name moves; 0: none", DefaultText: "3, or as many as there are hosts"},
		&cli.IntFlag{Name: "max-copies", Usage: "the most copies that the availability may ask for", DefaultText: strconv.Itoa(replicate.DefaultMost)},
		&cli.StringFlag{Name: "availability", Usage: "the percentage of time that the site is to be there, for which more copies are made; none: no more than --copies", DefaultText: "99.99"},
		&cli.StringSliceFlag{Name: "region", Usage: "only hosts with this region label may hold it; any: all of them again; may be repeated"},
		&cli.StringFlag{Name: "budget", Usage: "how much a day may be copied beyond what --copies needs, such as 2GB/d; none: any", DefaultText: "any"},
		&cli.IntFlag{Name: "keep", Usage: "releases that holders keep", DefaultText: "2"},
		&cli.StringFlag{Name: "lifetime", Usage: "how long the signed name lives without you, such as 90d or 2y", DefaultText: "one year"},
	}
}

// wants reads wantFlags.
func wants(c *cli.Context) (w author.Wants, err error) {
	if c.IsSet("copies") {
		n := c.Int("copies")
		w.Copies = &n
	}
	if c.IsSet("max-copies") {
		if w.MaxCopies = c.Int("max-copies"); w.MaxCopies <= 0 {
			w.MaxCopies = -1 // back to the default
		}
	}
	if c.IsSet("availability") {
		n, err := parsePercent(c.String("availability"))
		if err != nil {
			return w, err
		}
		w.Availability = &n
	}
	if c.IsSet("budget") {
		if w.BytesPerDay, err = parseBudget(c.String("budget")); err != nil {
			return w, err
		}
	}
	if w.Regions = c.StringSlice("region"); slices.Contains(w.Regions, "") {
		return w, usage("--region is the value of a region label, such as EU; --region any allows all of them again")
	}
	if c.IsSet("keep") {
		if w.Keep = c.Int("keep"); w.Keep < 1 || w.Keep > replicate.MaxKeep {
			return w, usage("--keep must be 1 to %d", replicate.MaxKeep)
		}
	}
	w.Lifetime, err = lifetime(c)
	return w, err
}

// lifetime is 0 where the flag isn't given.
func lifetime(c *cli.Context) (time.Duration, error) {
	d, err := durationFlag(c, "lifetime")
	if err == nil && d == 0 && c.IsSet("lifetime") {
		err = usage("--lifetime must be more than nothing")
	}
	return d, err
}

// durationFlag is 0 where the flag isn't given.
func durationFlag(c *cli.Context, name string) (time.Duration, error) {
	if !c.IsSet(name) {
		return 0, nil
	}
	d, err := node.ParseDuration(c.String(name))
	if err != nil {
		return 0, usage("--%s: %v", name, err)
	}
	return time.Duration(d), nil
}

// defaultWants is what the configuration says of every site.
func defaultWants(cfg node.PublishConfig) author.Wants {
	return author.Wants{Copies: cfg.Copies, Keep: cfg.Keep, Lifetime: durationOf(cfg.Lifetime)}
}

// parsePercent reads a percentage of up to four decimals into millionths. "none" is 0.
func parsePercent(text string) (int, error) {
	if text == "none" {
		return 0, nil
	}
	wrong := usage("an availability is a percentage below 100, such as 99.99, and not %q", text)
	whole, decimals, _ := strings.Cut(strings.TrimSuffix(text, "%"), ".")
	n, err := strconv.ParseUint(whole, 10, 8)
	if err != nil || n > 99 || len(decimals) > 4 {
		return 0, wrong
	}
	d, err := strconv.ParseUint((decimals + "0000")[:4], 10, 16)
	if err != nil || n == 0 && d == 0 {
		return 0, wrong
	}
	return int(n*10_000 + d), nil
}

// parseBudget reads bytes a day. "none" is author.NoBudget.
func parseBudget(given string) (int64, error) {
	text := given
	if text == "none" {
		return author.NoBudget, nil
	}
	for _, day := range []string{"/d", "/day"} {
		text = strings.TrimSuffix(text, day)
	}
	n, err := parseSize("--budget", text)
	switch {
	case err != nil:
		return 0, usage("--budget is a size a day, like 500MB/d or 2GB/d, not %q", given)
	case n == 0:
		return 0, usage("--budget 0 would let nothing be copied; --budget none lets anything")
	}
	return n, nil
}

// percent writes billionths for people, never better than they are: to the first digit in which it differs from always.
func percent(billionths int64) string {
	const all = 1_000_000_000
	if billionths >= all {
		return "100 %"
	}
	decimals, unit := 1, int64(1_000_000)
	for unit > 100 && all-billionths < unit {
		decimals, unit = decimals+1, unit/10
	}
	n := max(billionths, 0) / unit
	scale := int64(1)
	for range decimals {
		scale *= 10
	}
	return fmt.Sprintf("%d.%0*d %%", n/scale, decimals, n%scale)
}

// millionths is percent for what is known less exactly.
func millionths(n int) string { return percent(int64(n) * 1000) }
