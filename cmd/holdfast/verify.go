package main

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "read every block again, and name what is damaged or missing",
		Description: "Exit code 6 where damage remains. Interrupted, the next one goes on from there. It works beside a running node, through it.\n" +
			"--fix brings what is damaged or missing from those who hold a copy, and makes a damaged index anew, for which no node may run.",
		Flags: append(networkFlags(),
			&cli.BoolFlag{Name: "fix", Usage: "mend what can be mended"},
			&cli.StringFlag{Name: "rate", Usage: "read no more than so much a second, such as 50MB/s"},
			&cli.BoolFlag{Name: "restart", Usage: "begin at the beginning, also where the last one was interrupted"},
		),
		Action: func(c *cli.Context) error { return e.runVerify(c.Context, c) },
	}
}

func (e *env) runVerify(ctx context.Context, c *cli.Context) error {
	if c.NArg() > 0 {
		return usage("verify takes no arguments: it looks at everything")
	}
	rate, err := parseRate(c.String("rate"))
	if err != nil {
		return err
	}
	req := node.VerifyRequest{Fix: c.Bool("fix"), Restart: c.Bool("restart"), Rate: rate}
	out, err := e.verify(ctx, c, req)
	if req.Fix && indexDamaged(err) {
		out, err = e.verifyRebuilt(ctx, c, req)
	}
	if err != nil {
		return err
	}
	if !e.json {
		e.showVerified(out, req.Fix)
	}
	if err := remains(out); err != nil {
		return err
	}
	e.print(out, func() {})
	return nil
}

// verify asks a node to verify, and says how far it came where it is interrupted.
func (e *env) verify(ctx context.Context, c *cli.Context, req node.VerifyRequest) (out node.Verified, err error) {
	scope := node.Blocks
	if req.Fix {
		scope = node.Connected // where the replicas are
	}
	n, err := e.node(ctx, c, scope)
	if err != nil {
		return out, err
	}
	defer n.close()
	p := e.progress()
	var far author.Event
	err = n.Call(ctx, "verify", req, &out, func(raw json.RawMessage) {
		var ev author.Event
		if json.Unmarshal(raw, &ev) == nil && ev.Step == "verify" {
			far = ev
		}
		p.event(raw)
	})
	p.done()
	if err != nil && ctx.Err() != nil && far.Total > 0 {
		e.note(size(far.Done) + " of " + size(far.Total) + " are verified; the next verify goes on there")
	}
	return out, err
}

// verifyRebuilt makes the index anew, and verifies then.
func (e *env) verifyRebuilt(ctx context.Context, c *cli.Context, req node.VerifyRequest) (node.Verified, error) {
	cfg, err := e.config(c)
	if err != nil {
		return node.Verified{}, err
	}
	e.note("the index of the blocks is damaged; it is made anew from the blocks")
	made, err := node.RebuildIndex(ctx, cfg, "holdfast "+commandName(c))
	if err != nil {
		return node.Verified{}, err
	}
	out, err := e.verify(ctx, c, req)
	out.Rebuilt = &made
	return out, err
}

func indexDamaged(err error) bool {
	var ce *control.Error
	return errors.As(err, &ce) && ce.Details["index"] != nil
}

// remains is the failure that says that not all is well, with what was found.
func remains(v node.Verified) error {
	if v.Left == 0 {
		return nil
	}
	err := control.Errorf(control.Corrupt, "%d blocks or roots are damaged or missing", v.Left)
	err.Details = map[string]any{"verify": v}
	return err
}

// maxShown bounds what people are told one by one; --json has more.
const maxShown = 20

func (e *env) showVerified(v node.Verified, fix bool) {
	if r := v.Rebuilt; r != nil {
		e.printf("the index was damaged and is made anew: %d blocks, %d roots; the old one is in %s\n", r.Blocks, r.Roots, r.Old)
	}
	e.printf("%s read, %s\n", counted(v.Blocks, "block"), size(v.Bytes))
	e.showFindings("damaged", v.Damaged)
	e.showFindings("missing", v.Missing)
	for i, u := range v.Unlisted {
		if i == maxShown {
			e.printf("… and %d more\n", len(v.Unlisted)-i)
			break
		}
		e.printf("unlisted %s  of %s: which blocks it consists of was lost with the index%s\n", u.Root, u.For, fate(u.Fixed, "kept again", u.Why))
	}
	for _, l := range v.Caches {
		e.printf("what was remembered of %s (site %s) was not so, and is forgotten: %s\n", l.Dir, l.Site, strings.Join(l.Paths[:min(len(l.Paths), maxShown)], ", "))
	}
	switch {
	case v.Left == 0 && v.Fixed == 0:
		e.printf("all is well\n")
	case v.Left == 0:
		e.printf("mended: %d; all is well now\n", v.Fixed)
	case !fix:
		e.printf("`holdfast verify --fix` mends what others still have\n")
	default:
		e.printf("mended: %d; not mended: %d. What nobody has any more has to come from where it came from:\n", v.Fixed, v.Left)
		for _, a := range v.Advice[:min(len(v.Advice), maxShown)] {
			e.printf("  %s\n", a)
		}
	}
}

func (e *env) showFindings(what string, found []*node.Finding) {
	for i, f := range found {
		if i == maxShown {
			e.printf("… and %d more %s\n", len(found)-i, what)
			return
		}
		e.printf("%s  %s%s\n", what, f.CID, fate(f.Fixed, "mended", f.Why))
		if len(f.Needed) == 0 {
			e.printf("         nobody is known to need it\n")
		}
		for _, n := range f.Needed {
			e.printf("         needed by %s, root %s\n", n.For, n.Root)
		}
	}
}

func fate(fixed bool, done, why string) string {
	switch {
	case fixed:
		return ": " + done
	case why != "":
		return ": " + why
	}
	return ""
}

// parseRate reads a number of bytes a second, such as "50MB/s", "1.5GiB" or "800k". Empty is 0: no bound.
func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	t := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), "/s"))
	t = strings.TrimSpace(strings.TrimSuffix(t, "b"))
	base := 1000.0
	if s, ok := strings.CutSuffix(t, "i"); ok {
		t, base = s, 1024
	}
	power := 0
	if n := len(t); n > 0 {
		if power = strings.IndexByte("kmgt", t[n-1]) + 1; power > 0 {
			t = strings.TrimSpace(t[:n-1])
		}
	}
	v, err := strconv.ParseFloat(t, 64)
	if v *= math.Pow(base, float64(power)); err != nil || !(v >= 1 && v < 1e18) || base == 1024 && power == 0 {
		return 0, usage("--rate is a number of bytes a second such as 50MB/s, not %q", text)
	}
	return int64(v), nil
}
