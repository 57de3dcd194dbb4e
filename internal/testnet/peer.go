package testnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/node"
)

const (
	callTime  = 2 * time.Minute // for one call to a node
	startTime = 2 * time.Minute // until a node is ready
)

// Peer is one node of a net.
type Peer struct {
	Name string

	net *Net
	cfg node.Config

	mu     sync.Mutex
	node   *node.Node // nil while stopped
	info   node.Info  // of the last start
	end    context.CancelFunc
	served chan error // what Serve returned
}

// Info is where the node is, or was before it was stopped.
func (p *Peer) Info() node.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// Node is the running node; nil while it is stopped.
func (p *Peer) Node() *node.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// Call has the node do what the command of that name does. Errors are of type
// *control.Error.
func (p *Peer) Call(method string, params, result any) error {
	n := p.Node()
	if n == nil {
		return control.Errorf(control.Unavailable, "%s is stopped", p.Name)
	}
	// Not the test's own context: calls are made in its cleanup, too.
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	return control.InProcess(n.Methods()).Call(ctx, method, params, result, nil)
}

// start opens and serves the home, and returns when all of it answers.
func (p *Peer) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	n, err := node.Open(ctx, p.cfg, node.Connected, "testnet "+p.Name)
	if err != nil {
		cancel()
		return err
	}
	ready, served := make(chan node.Info, 1), make(chan error, 1)
	go func() { served <- n.Serve(ctx, func(i node.Info) { ready <- i }) }()
	p.mu.Lock()
	p.node, p.info, p.end, p.served = n, n.Info(), cancel, served
	p.mu.Unlock()
	select {
	case i := <-ready:
		p.mu.Lock()
		p.info = i
		p.mu.Unlock()
		return nil
	case err := <-served:
		served <- err
		return errors.Join(fmt.Errorf("it ended before it was ready: %w", err), p.stop())
	case <-time.After(startTime):
		return errors.Join(errors.New("it was not ready in time"), p.stop())
	}
}

// stop ends the node, if it runs, in good order.
func (p *Peer) stop() error {
	p.mu.Lock()
	n, end, served := p.node, p.end, p.served
	p.node = nil
	p.mu.Unlock()
	if n == nil {
		return nil
	}
	end()
	return errors.Join(<-served, n.Close())
}

// Stop ends the node as SIGTERM does. Its home stays.
func (p *Peer) Stop() {
	p.net.t.Helper()
	if err := p.stop(); err != nil {
		p.net.t.Errorf("%s: %v", p.Name, err)
	}
}

// Restart opens the home again, under the same identity and at the same
// addresses. A node that runs is stopped first.
func (p *Peer) Restart() {
	p.net.t.Helper()
	p.Stop()
	if err := p.start(); err != nil {
		p.net.t.Fatalf("%s starts again: %v", p.Name, err)
	}
}

// inner is where the node itself listens, as host:port; empty while it is stopped.
func (p *Peer) inner(service string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node == nil {
		return ""
	}
	if service == "pins" {
		return strings.TrimPrefix(p.info.Pins, "http://")
	}
	for _, a := range p.info.Listen {
		if parts := strings.Split(a, "/"); len(parts) == 5 && parts[3] == "tcp" { // /ip4/HOST/tcp/PORT
			return net.JoinHostPort(parts[2], parts[4])
		}
	}
	return ""
}

// Read gets a page of a site from the node's gateway as a browser does, from
// the origin LABEL.localhost ("k51….ipns", or an alias).
func (p *Peer) Read(ctx context.Context, label, path string) (status int, body []byte, err error) {
	gate, err := url.Parse(p.Info().Gateway)
	if err != nil || gate.Host == "" {
		return 0, nil, fmt.Errorf("%s has no gateway", p.Name)
	}
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, gate.Host)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+label+".localhost:"+gate.Port()+"/"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}
