package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look for what is broken, soon will be, or is less safe than it seems", ArgsUsage: "[DOMAIN...]",
		Description: "Looks at config.toml, addresses, certificates, the disk, and how long sites and their names are good for; asks your own\n" +
			"hosts whether they are there and what time it is, and DNS for the DNSLinks of the domains named. It changes nothing.\n" +
			"Each line that isn't good says what to do. Exit code 0: nothing is broken (advice there may be); 1: something is; 2: config.toml can't be read.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "here", Usage: "look at this machine only; ask nobody"}},
		Action: e.runDoctor,
	}
}

func (e *env) runDoctor(c *cli.Context) error {
	cfg, err := e.config(c)
	if err != nil {
		return err
	}
	if c.Bool("here") && c.NArg() > 0 {
		return usage("--here asks nobody, and domains need DNS: leave one of them out")
	}
	out := node.Examination{Checks: node.Doctor(cfg)}
	if node.HasHome(cfg.Home) {
		n, err := e.node(c.Context, c, node.Records)
		if err != nil {
			return err
		}
		defer n.close()
		if err := n.Call(c.Context, "doctor", node.ExamineRequest{Here: c.Bool("here"), Domains: c.Args().Slice()}, &out, nil); err != nil {
			return err
		}
	} else {
		out.Checks = append(out.Checks, node.ExamineMachine(cfg, false)...)
	}
	failure := doctorFailure(out)
	if failure != nil && e.json {
		return failure // carries the checks
	}
	e.print(out, func() { e.showDiagnoses(out.Checks) })
	if cfg.Gateway.Listen == "" {
		e.note("config.toml of this home serves nothing to browsers ([gateway] listen is not set). What the flags of `serve` say is not looked at")
	}
	return failure
}

// doctorFailure is nil where nothing is broken.
func doctorFailure(x node.Examination) error {
	count := 0
	for _, d := range x.Checks {
		if d.Broken {
			count++
		}
	}
	if count == 0 {
		return nil
	}
	things := fmt.Sprintf("%d things are", count)
	if count == 1 {
		things = "one thing is"
	}
	err := control.Errorf(control.Failed, "%s broken", things)
	err.Details = map[string]any{"checks": x.Checks}
	return err
}

func (e *env) showDiagnoses(found []node.Diagnosis) {
	for _, d := range found {
		state := "look"
		switch {
		case d.Broken:
			state = "bad "
		case d.Fine:
			state = "good"
		}
		e.printf("%s  %-11s %s: %s\n", state, d.Check, d.About, d.Message)
		if d.Advice != "" {
			e.printf("                  %s\n", d.Advice)
		}
	}
}
