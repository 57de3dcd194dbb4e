package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/author/preflight"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/replicate"
)

func siteFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "site", Aliases: []string{"s"}, Usage: "the site's alias; its key is made at the first publish", DefaultText: "the folder's name"},
		&cli.StringFlag{Name: "symlinks", Usage: "follow those inside the folder, or keep them as links", Value: "follow"},
		&cli.BoolFlag{Name: "no-cache", Usage: "read every file, also those that seem unchanged since the last time"},
		inPlaceFlag(),
		&cli.BoolFlag{Name: "dry-run", Usage: "list what would be left out, publish nothing"},
		strictFlag(),
		watchFlag(),
		yesFlag(),
	}, releaseFlags()...)
}

// releaseFlags are for whatever makes a release: of a folder, or of what was published before.
func releaseFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "what is new in this release"},
		&cli.StringFlag{Name: "ttl", Usage: "how long readers may use the name without asking again", DefaultText: "1m"},
		&cli.StringFlag{Name: "grace", Usage: "how long the release before stays, for pages that are open in browsers", DefaultText: "24h"},
		&cli.BoolFlag{Name: "no-grace", Usage: "take back at once what was published before: holders keep this release only"},
		&cli.BoolFlag{Name: "rebase", Usage: "publish on top of the newest release, also where another machine made it"},
		&cli.StringFlag{Name: "if-root", Usage: "publish only if the newest release anybody knows has this root"},
		&cli.BoolFlag{Name: "force-offline", Usage: "publish though nobody can say what the newest release is"},
	}, wantFlags()...)
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "ask nothing"}
}

func strictFlag() cli.Flag {
	return &cli.BoolFlag{Name: "strict", Usage: "fail where there would be warnings about broken links and the like"}
}

// strict is what the flag or else the config says.
func strict(c *cli.Context, cfg node.PublishConfig) bool {
	if c.IsSet("strict") {
		return c.Bool("strict")
	}
	return cfg.Strict
}

func inPlaceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "in-place", Usage: "don't copy content into the store: read it from your files, for as long as they stay as they are"}
}

func (e *env) publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Usage: "make a folder the newest release of a site", ArgsUsage: "DIR",
		Description: "Builds the folder, has hosts copy it and prove every byte, and only then moves the name.\n" +
			"Example: holdfast publish public --site blog -m 'new year'",
		Flags: append(append(siteFlags(), networkFlags()...),
			&cli.BoolFlag{Name: "no-wait", Usage: "hand the work to the running node and return at once"}),
		Action: func(c *cli.Context) error { return e.runPublish(c.Context, c) },
	}
}

// publishRequest reads the flags that publish and up share.
func (e *env) publishRequest(c *cli.Context, cfg node.PublishConfig) (author.PublishRequest, error) {
	if err := exactly(c, "DIR"); err != nil {
		return author.PublishRequest{}, err
	}
	if c.Bool("watch") && (c.Bool("dry-run") || c.Bool("no-wait")) {
		return author.PublishRequest{}, usage("--watch publishes again and again: it goes with neither --dry-run nor --no-wait")
	}
	if c.Bool("yes") {
		e.person = nil // nobody is to be asked
	}
	dir, err := filepath.Abs(c.Args().First())
	if err != nil {
		return author.PublishRequest{}, err
	}
	req, err := releaseRequest(c, cfg)
	if err != nil {
		return req, err
	}
	req.Dir, req.Alias = dir, c.String("site")
	req.NoCache, req.InPlace, req.Strict = c.Bool("no-cache"), c.Bool("in-place"), strict(c, cfg)
	if req.Alias == "" {
		req.Alias = aliasFor(dir)
	}
	req.Symlinks, err = symlinks(c, cfg)
	return req, err
}

// releaseRequest reads releaseFlags.
func releaseRequest(c *cli.Context, cfg node.PublishConfig) (author.PublishRequest, error) {
	w, err := wants(c)
	if err != nil {
		return author.PublishRequest{}, err
	}
	req := author.PublishRequest{
		Message: c.String("message"), IfRoot: c.String("if-root"), Rebase: c.Bool("rebase"), NoGrace: c.Bool("no-grace"),
		ForceOffline: c.Bool("force-offline"), TTL: durationOf(cfg.TTL),
		Copies: w.Copies, MaxCopies: w.MaxCopies, Availability: w.Availability, Regions: w.Regions, BytesPerDay: w.BytesPerDay,
		Keep: w.Keep, Lifetime: w.Lifetime, Default: defaultWants(cfg),
	}
	if c.IsSet("ttl") {
		if req.TTL, err = durationFlag(c, "ttl"); err != nil {
			return req, err
		}
	}
	if c.IsSet("grace") {
		if req.NoGrace {
			return req, usage("--grace and --no-grace contradict each other")
		}
		d, err := durationFlag(c, "grace")
		if err != nil {
			return req, err
		}
		if d > replicate.MaxGrace || d%time.Second != 0 {
			return req, usage("--grace must be whole seconds, at most a year")
		}
		req.Grace = &d
	}
	return req, nil
}

func durationOf(d node.Duration) time.Duration { return time.Duration(d) }

// symlinks is what the flag or else the config says.
func symlinks(c *cli.Context, cfg node.PublishConfig) (merkle.SymlinkMode, error) {
	mode := merkle.SymlinkMode(c.String("symlinks"))
	if !c.IsSet("symlinks") && cfg.Symlinks != "" {
		mode = merkle.SymlinkMode(cfg.Symlinks)
	}
	if mode != merkle.SymlinksFollow && mode != merkle.SymlinksKeep {
		return "", usage("--symlinks must be follow or keep, not %q", string(mode))
	}
	return mode, nil
}

// aliasFor makes an alias of a folder's name.
func aliasFor(dir string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, filepath.Base(dir))
	s = strings.Trim(s, "-")
	if len(s) > 63 {
		s = strings.Trim(s[:63], "-")
	}
	if s == "" {
		return "site"
	}
	return s
}

func (e *env) runPublish(ctx context.Context, c *cli.Context) error {
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	req, err := e.publishRequest(c, cfg.Publish)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return e.dryRun(ctx, c, author.BuildRequest{Path: req.Dir, Symlinks: req.Symlinks, DryRun: true})
	}
	if c.Bool("watch") {
		return e.runWatch(ctx, cfg, req)
	}
	if c.Bool("no-wait") {
		client, err := e.running(ctx, cfg)
		if err != nil {
			return usage("--no-wait hands the work to a running node, and none runs on %s; start one with `holdfast serve`", e.home)
		}
		if err := e.unlockFirst(ctx, client, req.Alias); err != nil {
			return err
		}
		if err := client.HandOver(ctx, "publish", req); err != nil {
			return err
		}
		e.print(map[string]string{"alias": req.Alias, "state": author.Queued}, func() {
			e.printf("handed over; `holdfast status %s` tells how it goes\n", req.Alias)
		})
		return nil
	}
	var out author.Published
	err = ask(ctx, e, c, node.Connected, "publish", req, func(p author.Published) {
		out = p
		e.showPublished(p)
	})
	if err == nil {
		e.offerBackup(ctx, out, req.Dir)
	}
	return err
}

func (e *env) showPublished(p author.Published) {
	e.printf("%s  release %d  %s  %s\n", p.Alias, p.Number, counted(p.Files, "file"), size(p.Bytes))
	live := "not seen from outside"
	if p.Live {
		live = "live"
	}
	if len(p.Hosts) > 0 {
		e.printf("  %s, safe until %s\n", live, when(p.SafeUntil))
		e.printf("  %s\n", availabilityLine(p.Copies, p.Availability, p.Target))
	}
	e.printf("  name  %s\n  root  %s\n", p.Name, p.Root)
	e.showHosts(p.Hosts)
	for _, u := range p.URLs {
		e.printf("  open  %s\n", u)
	}
	for _, w := range warnings(p) {
		e.say(e.err, "warning: %s\n", w)
	}
	for _, n := range p.Notes {
		e.note(n)
	}
}

// availabilityLine is what so many copies are worth, and whether that is what was wanted.
func availabilityLine(n int, availability int64, target int) string {
	line := fmt.Sprintf("%s, about %s of the time (low estimate)", copies(n), percent(availability))
	if target > 0 && availability < int64(target)*1000 {
		line += fmt.Sprintf("; %s is wanted, and hosts count more the longer they were seen", millionths(target))
	}
	return line
}

// warnings is all that a person should know of a release, a line each.
func warnings(p author.Published) []string {
	return append(slices.Clone(p.Warnings), findings(p.Preflight)...)
}

// findings is the first of each kind of what a preflight found, a line each.
func findings(r *preflight.Report) (lines []string) {
	const shown = 10
	if r == nil || r.Total == 0 {
		return nil
	}
	lines = strings.Split(strings.TrimSuffix(r.Text(shown), "\n"), "\n")
	for _, n := range r.Counts {
		if n > shown {
			return append(lines, "--json lists more of these")
		}
	}
	return lines
}

func (e *env) showHosts(hosts []author.HostState) {
	for _, h := range hosts {
		line := fmt.Sprintf("%-16s %-11s", h.Name, h.State)
		if h.VerifiedAt != nil {
			line += " " + when(h.VerifiedAt)
		}
		if h.Error != "" {
			line += " " + h.Error
		}
		e.printf("  host  %s\n", strings.TrimSpace(line))
	}
}

func (e *env) buildCommand() *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "make the root of a folder or file; sign nothing", ArgsUsage: "PATH",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "profile", Usage: "unixfs-v1-2025 or unixfs-v0-2015", Value: string(merkle.V1_2025)},
			&cli.StringFlag{Name: "symlinks", Usage: "follow those inside the folder, or keep them as links", Value: "follow"},
			&cli.BoolFlag{Name: "no-cache", Usage: "read every file, also those that seem unchanged since the last time"},
			inPlaceFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "list what would be left out, build nothing"},
			&cli.BoolFlag{Name: "check", Usage: "warn of broken links and the like, as publish does"},
			strictFlag(),
		},
		Action: func(c *cli.Context) error { return e.runBuild(c.Context, c) },
	}
}

func (e *env) runBuild(ctx context.Context, c *cli.Context) error {
	if err := exactly(c, "PATH"); err != nil {
		return err
	}
	path, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	req := author.BuildRequest{
		Path: path, Profile: merkle.Profile(c.String("profile")), NoCache: c.Bool("no-cache"), InPlace: c.Bool("in-place"), Check: c.Bool("check"),
		Strict: c.Bool("strict") || c.Bool("check") && strict(c, cfg.Publish),
	}
	if req.Symlinks, err = symlinks(c, cfg.Publish); err != nil {
		return err
	}
	if req.Profile != merkle.V1_2025 && req.Profile != merkle.V0_2015 {
		return usage("--profile must be %s or %s, not %q", merkle.V1_2025, merkle.V0_2015, string(req.Profile))
	}
	if c.Bool("dry-run") {
		req.DryRun = true
		return e.dryRun(ctx, c, req)
	}
	return ask(ctx, e, c, node.Blocks, "build", req, func(b author.BuildResult) {
		e.printf("%s\n", b.Root)
		e.say(e.err, "%s, %s, %s (%d new)\n", counted(b.Files, "file"), size(b.Bytes), counted(b.Blocks, "block"), b.AddedBlocks)
		for _, w := range findings(b.Preflight) {
			e.say(e.err, "warning: %s\n", w)
		}
	})
}

func (e *env) dryRun(ctx context.Context, c *cli.Context, req author.BuildRequest) error {
	return ask(ctx, e, c, node.Records, "build", req, func(b author.BuildResult) {
		for _, p := range b.Ignored {
			e.printf("ignored  %s\n", p)
		}
		e.printf("%s, %s; %d left out\n", counted(b.Files, "file"), size(b.Bytes), len(b.Ignored))
	})
}
