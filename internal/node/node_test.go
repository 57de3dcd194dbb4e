package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

// config is a node's on loopback, in a folder with a short name.
func config(t *testing.T) node.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return node.Config{
		Home: filepath.Join(dir, "home"), RuntimeDir: dir, Tool: "test", Network: "private",
		P2P: node.P2PConfig{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, AllowPrivate: true},
	}
}

func open(t *testing.T, cfg node.Config, scope node.Scope) *node.Node {
	t.Helper()
	n, err := node.Open(t.Context(), cfg, scope, "holdfast test")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// serve opens a node and serves it until the test, or stop, ends it.
func serve(t *testing.T, cfg node.Config) (n *node.Node, info node.Info, stop func()) {
	t.Helper()
	n = open(t, cfg, node.Connected)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan node.Info, 1), make(chan error, 1)
	go func() { done <- n.Serve(ctx, func(i node.Info) { ready <- i }) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err := errors.Join(err, n.Close()); err != nil {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Error("Serve does not end")
		}
	}
	t.Cleanup(stop)
	select {
	case info = <-ready:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("it does not become ready")
	}
	return n, info, stop
}

func TestAHomeHasOneWriterAndASecondIsToldWho(t *testing.T) {
	cfg := config(t)
	cfg.Network = "offline"
	first := open(t, cfg, node.Blocks)
	_, err := node.Open(t.Context(), cfg, node.Blocks, "second")
	var held *node.HeldError
	if !errors.As(err, &held) || !errors.Is(err, node.ErrHeld) {
		t.Fatalf("a second writer: %v", err)
	}
	if held.Holder.PID != os.Getpid() || held.Holder.Command != "holdfast test" || held.Holder.Since.IsZero() ||
		!strings.Contains(err.Error(), "`holdfast test`") {
		t.Errorf("%v", err)
	}
	// Who only needs records doesn't stand in anybody's way.
	records := open(t, cfg, node.Records)
	if err := control.InProcess(records.Methods()).Call(t.Context(), "token create", node.Address{Address: "anna"}, nil, nil); err != nil {
		t.Error(err)
	}
	if err := errors.Join(records.Close(), first.Close()); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg, node.Blocks)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnOpenThatFailsLetsGoOfTheHome(t *testing.T) {
	cfg := config(t)
	bad := cfg
	bad.Peers = []string{"nonsense"}
	if _, err := node.Open(t.Context(), bad, node.Connected, "x"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("%v", err)
	}
	bad = cfg
	bad.Gateway.Listen = "127.0.0.1:99999"
	if _, err := node.Open(t.Context(), bad, node.Connected, "x"); err == nil {
		t.Error("an impossible port was opened")
	}
	bad = cfg
	bad.P2P.PSKFile = filepath.Join(cfg.RuntimeDir, "psk")
	for _, text := range []string{"short", strings.Repeat("zz", 32)} {
		if err := os.WriteFile(bad.P2P.PSKFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := node.Open(t.Context(), bad, node.Connected, "x"); err == nil || !strings.Contains(err.Error(), "32 bytes") || strings.Contains(err.Error(), text) {
			t.Errorf("%v", err)
		}
	}
	if _, err := node.Open(t.Context(), node.Config{}, node.Records, "x"); err == nil {
		t.Error("no home")
	}
	if err := open(t, cfg, node.Connected).Close(); err != nil {
		t.Error(err)
	}
}

func TestServeIsReadyWhenItSaysSoAndLeavesNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for goroutines to end")
	}
	cycle := func() {
		cfg := config(t)
		cfg.Host, cfg.Gateway.Listen, cfg.Pins.Listen, cfg.Pins.Name = true, "127.0.0.1:0", "127.0.0.1:0", "alice"
		_, info, stop := serve(t, cfg)
		if len(info.Addrs) == 0 || !strings.HasSuffix(info.Addrs[0], "/p2p/"+info.Peer) || info.PID != os.Getpid() || info.Network != "private" {
			t.Errorf("%+v", info)
		}
		for _, u := range []string{info.Gateway + "/", info.Pins + "/holdfast/1/host"} {
			resp, err := http.Get(u)
			if err != nil {
				t.Errorf("it said that it was ready: %v", err)
				continue
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", u, resp.Status)
			}
		}
		path, err := control.SocketPath(cfg.RuntimeDir, cfg.Home)
		if err != nil {
			t.Fatal(err)
		}
		c, err := control.Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		var again node.Info
		if err := c.Node(t.Context(), &again); err != nil || again.Gateway != info.Gateway {
			t.Errorf("%+v, %v", again, err)
		}
		c.Close()
		http.DefaultClient.CloseIdleConnections()
		stop()
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error("the socket stays behind")
		}
		for _, u := range []string{info.Gateway, info.Pins} {
			if _, err := http.Get(u); err == nil {
				t.Errorf("%s still answers", u)
			}
		}
	}
	cycle() // libraries start things of their own once
	before := runtime.NumGoroutine()
	cycle()
	deadline := time.Now().Add(time.Minute)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestServeThatCannotBeginLeavesNothingRunning(t *testing.T) {
	cfg := config(t)
	cfg.Network = "offline"
	cfg.Gateway.Listen, cfg.Gateway.TrustedProxies = "127.0.0.1:0", []string{"everybody"}
	n := open(t, cfg, node.Connected)
	if err := n.Serve(t.Context(), func(node.Info) { t.Error("it said that it was ready") }); err == nil {
		t.Error("nonsense in trusted_proxies was taken")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	cfg.Gateway.TrustedProxies = nil
	if err := os.WriteFile(filepath.Join(cfg.RuntimeDir, "holdfast"), nil, 0o600); err != nil { // where the socket's folder would be
		t.Fatal(err)
	}
	n = open(t, cfg, node.Connected)
	if err := n.Serve(t.Context(), nil); err == nil {
		t.Error("it serves without its socket")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheGatewayServesASiteThatWasPublishedHereByItsAlias(t *testing.T) {
	cfg := config(t)
	cfg.Network = "offline"
	cfg.Gateway.Listen = "127.0.0.1:0"
	n, info, _ := serve(t, cfg)
	dir := filepath.Join(cfg.RuntimeDir, "site")
	write := func(text string) author.Published {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "index.html"), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		var out author.Published
		req := author.PublishRequest{Dir: dir, Alias: "blog", Alone: true}
		if err := control.InProcess(n.Methods()).Call(t.Context(), "publish", req, &out, func(json.RawMessage) {}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, text := range []string{"one", "two"} { // its own publish is seen at once
		out := write(text)
		for _, at := range []string{out.URLs[0], "http://" + out.Name + ".ipns.localhost/"} {
			u, err := url.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), "GET", info.Gateway+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = u.Host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != text {
				t.Errorf("%s: %s %q, want %q", at, resp.Status, body, text)
			}
		}
	}
}
