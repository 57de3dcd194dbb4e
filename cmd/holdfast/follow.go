package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) followCommand() *cli.Command {
	return &cli.Command{
		Name: "follow", Usage: "help a site that you like: keep its name alive, and with --keep its content too", ArgsUsage: "[NAME]",
		Description: "NAME is a name, an alias or a domain. A node that serves does the work (`holdfast serve`), as a host or not: it hears of the\n" +
			"site's records at once and puts them back where readers look; with --keep it fetches each new release, checks\n" +
			"it, and hands it to whoever asks. Its author sees it as a volunteer. Without NAME, lists what is followed.\n" +
			"Example: holdfast follow k51… --keep 2 --quota 500MB",
		Flags: append(networkFlags(),
			&cli.IntFlag{Name: "keep", Usage: "keep the content of so many releases, the newest first; 0: only the name", DefaultText: "as before; 2 with --quota"},
			&cli.StringFlag{Name: "quota", Usage: "the most that this may take, like 500MB: what is larger isn't taken, and what is here stays", DefaultText: "as before, or what the node lets one pin take"},
			&cli.BoolFlag{Name: "no-wait", Usage: "don't wait for the content"},
			&cli.BoolFlag{Name: "stop", Usage: "follow the name no longer, and give the space back"}),
		Action: func(c *cli.Context) error { return e.runFollow(c) },
	}
}

func (e *env) runFollow(c *cli.Context) error {
	if c.NArg() == 0 {
		if c.IsSet("stop") || c.IsSet("keep") || c.IsSet("quota") {
			return usage("follow needs NAME; without any flags it lists what is followed")
		}
		return ask(c.Context, e, c, node.Records, "follows", struct{}{}, e.showFollows)
	}
	if err := exactly(c, "NAME"); err != nil {
		return err
	}
	if c.Bool("stop") {
		if c.IsSet("keep") || c.IsSet("quota") {
			return usage("--stop ends all of it; --keep 0 ends the copy and goes on following the name")
		}
		return ask(c.Context, e, c, node.Blocks, "unfollow", node.Address{Address: c.Args().First()}, func(f node.Follow) {
			e.printf("%s is followed no longer\n", f.Name)
		})
	}
	req := node.FollowRequest{Address: c.Args().First(), NoWait: c.Bool("no-wait")}
	if c.IsSet("keep") {
		keep := c.Int("keep")
		req.Keep = &keep
	}
	if c.IsSet("quota") {
		quota, err := parseSize("--quota", c.String("quota"))
		if err != nil {
			return err
		}
		req.Quota = &quota
	}
	return ask(c.Context, e, c, node.Connected, "follow", req, e.showFollow)
}

// showFollow tells what a new follow has led to.
func (e *env) showFollow(f node.Follow) {
	e.printf("%s\n", f.Name)
	switch {
	case f.Root == "":
		e.note("nobody who could be asked knows a record of it yet; it is looked for again while a node serves")
	case f.Keep == 0:
		e.printf("  leads to /ipfs/%s\n", f.Root)
	default:
		e.printf("  leads to /ipfs/%s\n  %s\n", f.Root, copyText(f))
	}
	if f.State == node.FollowWaiting && f.LastError == "" {
		e.note("the content comes while a node serves: `holdfast serve`")
	}
}

func (e *env) showFollows(f node.Follows) {
	if len(f.Follows) == 0 {
		e.note("no name is followed; `holdfast follow NAME` begins")
	}
	for _, one := range f.Follows {
		e.printf("%s  %s\n", one.Name, one.Root)
		if one.Keep > 0 {
			e.printf("  %s\n", copyText(one))
		}
	}
}

// copyText is how a copy stands, in a line.
func copyText(f node.Follow) string {
	text := fmt.Sprintf("%-8s %s", f.State, size(f.Bytes))
	if f.Quota > 0 {
		text += " of " + size(f.Quota)
	}
	switch f.State {
	case node.FollowBehind:
		text += ", holds /ipfs/" + f.Held
	case node.FollowWaiting:
		if f.Done > 0 {
			text += ", " + size(f.Done) + " have come"
		}
	}
	if f.LastError != "" {
		text += "; " + f.LastError
		if f.NextTry != nil {
			text += "; tried again " + when(f.NextTry)
		}
	}
	return text
}
