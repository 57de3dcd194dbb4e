//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/holdfast-sites/holdfast/bench/engines"
)

// child is a piece of work that this program does in a process of its own, so
// that its memory, its processor time and its number of cores are its own.
// It is asked and answers in JSON; lines that come before the answer are its progress.
type child func(ctx context.Context, asked json.RawMessage) (answer any, err error)

// children are started as `bench child NAME JSON`.
var children = map[string]child{
	"record": func(ctx context.Context, asked json.RawMessage) (any, error) {
		var a struct{ Dir, File string }
		if err := json.Unmarshal(asked, &a); err != nil {
			return nil, err
		}
		return nil, engines.Record(ctx, a.Dir, a.File)
	},
	"engine": func(_ context.Context, asked json.RawMessage) (any, error) {
		var j engines.Job
		if err := json.Unmarshal(asked, &j); err != nil {
			return nil, err
		}
		return engines.Run(j, os.Stdout)
	},
	"walk":  walkChild,
	"fill":  fillChild,
	"reads": readsChild,
	"open":  openChild,
	"plan":  planChild,
	"load":  loadChild,
	"bare":  bareChild,
}

// runChild is main in a child.
func runChild(ctx context.Context, args []string) error {
	if len(args) != 2 || children[args[0]] == nil {
		return errors.New("child: it is started by the program itself")
	}
	answer, err := children[args[0]](ctx, json.RawMessage(args[1]))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}

// childCommand is the process, not yet started.
func (b *bench) childCommand(ctx context.Context, name string, ask any, env ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "child", name, string(asked))
	cmd.Env = append(b.env(), env...)
	return cmd, nil
}

// ask has a child work and reads its answer, unless into is nil.
func (b *bench) ask(ctx context.Context, into any, name string, ask any, env ...string) error {
	cmd, err := b.childCommand(ctx, name, ask, env...)
	if err != nil {
		return err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("child %s: %w: %s", name, err, errs.String())
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(&out).Decode(into)
}

// kill starts a child, waits for some lines of its progress, kills it in the
// middle of what it does next, and returns the last of them.
func (b *bench) kill(ctx context.Context, lines int, name string, ask any) (last string, err error) {
	cmd, err := b.childCommand(ctx, name, ask)
	if err != nil {
		return "", err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	for range lines {
		if _, err = fmt.Fscanln(out, &last); err != nil {
			break
		}
	}
	_ = cmd.Process.Kill()
	// What it said until then was acknowledged, too.
	rest, rerr := io.ReadAll(out)
	if more := bytes.Fields(rest); len(more) > 0 {
		last = string(more[len(more)-1])
	}
	_ = cmd.Wait() // it was killed
	if err := errors.Join(err, rerr); err != nil {
		return "", fmt.Errorf("child %s: %w: %s", name, err, errs.String())
	}
	return last, nil
}
