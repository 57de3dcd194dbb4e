package main

import (
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "publish again what an earlier release showed, as a new release", ArgsUsage: "SITE [NUMBER]",
		Description: "NUMBER is from `holdfast history`; -1, which is also meant where there is none, is the release before the newest.\n" +
			"Nothing is uploaded to hosts that still keep that release.\n" +
			"Example: holdfast rollback blog 12",
		Flags:  append(releaseFlags(), networkFlags()...),
		Action: func(c *cli.Context) error { return e.runRollback(c) },
	}
}

func (e *env) runRollback(c *cli.Context) error {
	if c.NArg() < 1 || c.NArg() > 2 || c.Args().First() == "" {
		return usage("rollback needs SITE, and takes NUMBER; see `holdfast rollback --help`")
	}
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	req := author.RollbackRequest{}
	if req.PublishRequest, err = releaseRequest(c, cfg.Publish); err != nil {
		return err
	}
	req.Alias = c.Args().First()
	if c.NArg() == 2 {
		req.To, err = strconv.ParseInt(c.Args().Get(1), 10, 64)
		if err != nil || req.To == 0 {
			return usage("%q is no number of a release; `holdfast history %s` lists them", c.Args().Get(1), req.Alias)
		}
	}
	return ask(c.Context, e, c, node.Connected, "rollback", req, e.showPublished)
}
