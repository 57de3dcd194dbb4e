package main

import (
	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/node"
)

func (e *env) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "look the configuration over for what works and is less safe than it seems",
		Description: "Reads config.toml, asks nobody and changes nothing. What it finds is advice: the exit code is 0 as long as the file can be read.",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return usage("doctor takes no arguments")
			}
			cfg, err := e.config(c)
			if err != nil {
				return err
			}
			found := node.Doctor(cfg)
			e.print(map[string]any{"checks": found}, func() { e.showDiagnoses(found) })
			return nil
		},
	}
}

func (e *env) showDiagnoses(found []node.Diagnosis) {
	if len(found) == 0 {
		e.note("config.toml of this home serves nothing to browsers ([gateway] listen is not set): nothing to look over. What the flags of `serve` say is not looked at")
	}
	for _, d := range found {
		state := "look"
		if d.Fine {
			state = "good"
		}
		e.printf("%s  %-8s %s: %s\n", state, d.Check, d.About, d.Message)
		if d.Advice != "" {
			e.printf("               %s\n", d.Advice)
		}
	}
}
