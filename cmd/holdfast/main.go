// Holdfast publishes a folder so that it stays online when the author's machine
// is off. See README.md and `holdfast help`.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	golog "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/gologshim"
)

func main() {
	// The libraries below log on standard error by themselves; what matters of
	// it reaches our own log as errors.
	golog.SetAllLoggers(golog.LevelFatal)
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process whatever it waits for
	code := run(ctx, os.Args[1:], processEnv())
	stop()
	os.Exit(code)
}
