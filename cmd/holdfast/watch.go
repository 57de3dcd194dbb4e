package main

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

func watchFlag() cli.Flag {
	return &cli.BoolFlag{Name: "watch", Usage: "publish again whenever the folder changes, until Ctrl-C"}
}

// runWatch publishes through the running node, or through one of its own that
// stays open meanwhile: opening takes longer than publishing one changed file.
func (e *env) runWatch(ctx context.Context, cfg node.Config, req author.PublishRequest) error {
	if client, err := e.running(ctx, cfg); err == nil {
		defer client.Close()
		return e.watch(ctx, e.unlocking(client), req)
	}
	n, err := node.Open(ctx, cfg, node.Connected, "holdfast publish --watch")
	if err != nil {
		return err
	}
	return e.serveUntil(ctx, n, func(node.Info) {}, func(ctx context.Context, call control.Caller) error {
		return e.watch(ctx, call, req)
	})
}

// watch publishes a folder and follows its changes until ctx ends.
func (e *env) watch(ctx context.Context, call control.Caller, req author.PublishRequest) error {
	home, err := filepath.Abs(e.home)
	if err != nil {
		return err
	}
	// The publish would say so too, but only when all folders of a whole disk, perhaps, are watched.
	if err := author.Apart(req.Dir, home); err != nil {
		return err
	}
	w := &watching{env: e, call: call, req: req}
	return author.Watch(ctx, author.WatchOptions{Dir: req.Dir, Symlinks: req.Symlinks, Publish: w.publish, Note: e.note})
}

// watching is how far a watch has come.
type watching struct {
	*env
	call     control.Caller
	req      author.PublishRequest
	begun    bool     // the first publish is behind us
	failure  string   // told of the last publish; empty where it succeeded
	warnings []string // of the last release
}

// publish is one publish, and its line. What is wrong with the folder may be
// mended at any time; anything else that the first publish meets is wrong with
// the command, and ends it.
func (w *watching) publish(ctx context.Context) (author.Attempt, error) {
	first := !w.begun
	var out author.Published
	err := w.ask(ctx, &out)
	if ctx.Err() != nil {
		if first {
			return 0, ctx.Err()
		}
		return author.Succeeded, nil // the end of a watch is no failure, nor is what it cuts off
	}
	if err != nil {
		ce := control.Classify(err, node.KindOf)
		if first && ce.Kind != control.Failed {
			return 0, ce
		}
		return w.failed(ce), nil
	}
	w.begun, w.failure = true, ""
	// From here on the condition has been met, and only changes count.
	w.req.IfRoot, w.req.OnlyChanged = "", true
	if !out.Unchanged {
		w.print(out, func() { w.showRelease(out, first) })
		w.warnings = warnings(out)
		w.offerBackup(ctx, out, w.req.Dir)
	}
	return author.Succeeded, nil
}

// ask publishes, with progress only where the first publish of a large folder
// may leave a person wondering.
func (w *watching) ask(ctx context.Context, out *author.Published) error {
	if w.begun {
		return w.call.Call(ctx, "publish", w.req, out, nil)
	}
	p := w.progress()
	defer p.done()
	return w.call.Call(ctx, "publish", w.req, out, p.event)
}

// showRelease tells everything of the first release, and of each that follows
// what is new.
func (w *watching) showRelease(p author.Published, first bool) {
	if first {
		w.showPublished(p)
		if !w.quiet {
			w.say(w.err, "watching %s; Ctrl-C ends it\n", w.req.Dir)
		}
		return
	}
	w.printf("%s  release %d  %s  %s\n", time.Now().Format(time.TimeOnly), p.Number, changedFiles(p.Changed), p.Root)
	for _, warning := range warnings(p) {
		if !slices.Contains(w.warnings, warning) {
			w.say(w.err, "warning: %s\n", warning)
		}
	}
}

func changedFiles(n int64) string {
	switch n {
	case 0:
		return "changed"
	case 1:
		return "1 file changed"
	}
	return strconv.FormatInt(n, 10) + " files changed"
}

// failed tells of a publish that failed, once for as long as it fails in the
// same way, and decides when the next is worth a try.
func (w *watching) failed(err *control.Error) author.Attempt {
	if err.Message != w.failure {
		w.failure = err.Message
		if w.json {
			w.printFailure(err)
		} else {
			w.say(w.err, "%s  not published: %s\n", time.Now().Format(time.TimeOnly), err.Message)
		}
	}
	switch err.Kind {
	case control.Failed, control.Unavailable, control.NotFound:
		return author.FailedSoon
	}
	return author.FailedUntil
}
