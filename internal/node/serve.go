package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-sites/holdfast/gateway"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Serve runs what the node was opened for until ctx ends, and returns when all
// of it has ended. ready is called once everything answers; it may be nil.
func (n *Node) Serve(ctx context.Context, ready func(Info)) error {
	if n.store == nil {
		return errors.New("a node serves only with its blocks open")
	}
	// What can fail comes first: from the first goroutine on, only ctx ends them.
	if n.p2p != nil && n.service == nil {
		if err := n.openService(); err != nil { // of a node that is no host, for the copies that its operator wants
			return err
		}
	}
	n.serves = true
	routing, err := n.mount()
	if err != nil {
		return err
	}
	var reader http.Handler
	if n.gatewayLn != nil || n.secureLn != nil {
		if reader, err = n.gatewayHandler(routing); err != nil {
			return err
		}
	}
	local, err := n.listenControl()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return local.Serve(ctx, n.controlLn) })
	g.Go(func() error { return n.care.Serve(ctx) })
	g.Go(func() error { return n.watchDenied(ctx) })
	g.Go(func() error { return tendMemory(ctx) })
	if n.gatewayLn != nil {
		h := counted(reader, n.traffic)
		if n.certs != nil {
			port, _ := portOf(n.secureLn)
			h = n.certs.plain(h, port)
		}
		g.Go(func() error { return gateway.Serve(ctx, n.gatewayLn, h, n.log) })
	}
	if n.certs != nil {
		h := counted(reader, n.traffic)
		if n.secureUDP != nil {
			over3, port := h, n.secureUDP.LocalAddr().(*net.UDPAddr).Port
			g.Go(func() error { return gateway.ServeQUIC(ctx, n.secureUDP, n.certs.tlsConfig(), over3, n.log) })
			h = gateway.WithAltSvc(h, port)
		}
		g.Go(func() error { return gateway.ServeTLS(ctx, n.secureLn, n.certs.tlsConfig(), h, n.log) })
		g.Go(func() error { return n.certs.manage(ctx) })
	}
	if n.service != nil {
		g.Go(func() error { return n.service.Serve(ctx) })
		g.Go(func() error { return n.provideFresh(ctx) })
		g.Go(func() error { return n.traffic.Serve(ctx) })
		if n.keeper != nil && !n.cfg.Repair.Off {
			g.Go(func() error { return n.keeper.Serve(ctx) })
		}
		if n.pinsLn != nil && n.cfg.Host {
			h := n.hostServices(routing)
			g.Go(func() error { return gateway.Serve(ctx, n.pinsLn, h, n.log) })
		}
	}
	if n.p2p != nil {
		g.Go(func() error { return n.p2p.Serve(ctx) })
		g.Go(func() error { return n.auditor.Serve(ctx) })
		g.Go(func() error { return n.relay.Serve(ctx) })
		g.Go(func() error { return n.publisher.Serve(ctx) })
		g.Go(func() error { return n.watcher.Serve(ctx) })
		g.Go(func() error { return n.serveFollows(ctx) })
		g.Go(func() error { return n.author.ObserveNames(ctx) })
		n.trustHosts(ctx)
	}
	if ready != nil {
		ready(n.Info())
	}
	return ended(g.Wait())
}

// ServeBriefly runs the network side while a command works: connections to the peers that
// are known, and answers to those who pull from us. It returns a function that ends it.
func (n *Node) ServeBriefly(ctx context.Context) (stop func(), err error) {
	if n.p2p == nil {
		return func() {}, nil
	}
	if _, err := n.mount(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(ctx)
	n.trustHosts(ctx)
	g.Go(func() error { return n.p2p.Serve(gctx) })
	g.Go(func() error { return n.auditor.Serve(gctx) })
	if err := n.p2p.Bootstrap(ctx); err != nil {
		// Not fatal: each flow says for itself whom it could not ask.
		n.log.Warn("network", "err", err)
	}
	return func() {
		cancel()
		if err := ended(g.Wait()); err != nil {
			n.log.Warn("network", "err", err)
		}
	}, nil
}

func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// mount puts together what peers can ask of this node over libp2p: its blocks,
// and, of a host, its services. It returns the routing handler.
func (n *Node) mount() (http.Handler, error) {
	if n.p2p == nil {
		return nil, nil
	}
	if n.cfg.Host && n.service == nil {
		if err := n.openService(); err != nil {
			return nil, err
		}
	}
	routing := n.p2p.RoutingHandler(p2p.RoutingOptions{
		Accept: n.followed, Accepted: n.recordArrived, Confirm: n.confirm, Lookup: n.askDHT,
	})
	mux := http.NewServeMux()
	// Only what is here: a node is nobody's proxy.
	mux.Handle("/ipfs/", n.forPeers(replicate.IfKept(n.store, gateway.NewTrustless(n.care.Mending(), n.denied, n.log), n.log)))
	mux.Handle("/routing/v1/", routing)
	if n.cfg.Host {
		services := n.hostServices(routing)
		mux.Handle("/pins", services)
		mux.Handle("/pins/", services)
		mux.Handle("/holdfast/", services)
	}
	n.p2p.SetHTTP(mux)
	n.friends.ready.Store(true)
	return routing, nil
}

// openService is what makes a node keep sites: for tenants, if it is a host, and for itself.
func (n *Node) openService() (err error) {
	n.service, err = replicate.NewService(replicate.ServiceConfig{
		Pins: n.state, Tokens: n.state, Blocks: n.store, Fetcher: n.p2p, Names: n.resolver,
		TenantAddrs: n.p2p.TenantAddrs, Delegates: n.p2p.Addrs, MaxPinBytes: n.maxPinBytes(),
		Capacity: n.cfg.Pins.Capacity, FreeDisk: n.freeDisk, Admission: n.admission, Draining: n.draining, Traffic: n.traffic,
		OnPinned: n.pinned, NamePut: n.lastPut, OnTakenBack: n.care.CollectSoon, Log: n.log,
	})
	if err != nil || !n.cfg.Host {
		return err
	}
	if err := n.metrics.Register(hostMetrics{n}); err != nil {
		return err
	}
	return n.openKeeper()
}

// pinned takes note of what was just pinned. Nothing is lost where the queue
// is full: all kept roots are provided again and again.
func (n *Node) pinned(_ context.Context, row replicate.PinRow) {
	select {
	case n.fresh <- row:
	default:
	}
}

// provideFresh tells the DHT about new pins, behind their back.
func (n *Node) provideFresh(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case row := <-n.fresh:
			var cids []cid.Cid
			for _, c := range append(row.Kept, row.Release, row.Policy) {
				if c.Defined() {
					cids = append(cids, c)
				}
			}
			pctx, cancel := context.WithTimeout(ctx, time.Minute)
			if err := n.p2p.Provide(pctx, cids...); err != nil {
				n.log.Info("provide", "err", err)
			}
			cancel()
		}
	}
}

// askDHT is what the routing API looks up for others: never other hosts'
// routing APIs, which might ask us in turn.
func (n *Node) askDHT(ctx context.Context, name naming.Name) (naming.Record, error) {
	raw, err := n.p2p.NameRouting().Fetch(ctx, name)
	if err != nil {
		return naming.Record{}, err
	}
	return naming.OpenRecord(name, raw, time.Now())
}

// trustHosts lets the node dial the hosts that its own operator added, private
// addresses or not.
func (n *Node) trustHosts(ctx context.Context) {
	infos, err := n.author.HostAddrs(ctx)
	if err != nil {
		n.log.Warn("list hosts", "err", err)
		return
	}
	n.p2p.Trust(infos...)
}

// gatewayHandler is what the gateway's port serves.
func (n *Node) gatewayHandler(routing http.Handler) (http.Handler, error) {
	cfg := gateway.Config{
		Blocks: n.store, Denied: n.denied, Names: follower{n}, Sites: siteInfo{n}, Routing: routing,
		RetrievalTimeout: time.Duration(n.cfg.Gateway.RetrievalTimeout), ReadyBytes: n.cfg.Gateway.ReadyBytes, Metrics: n.metrics, Log: n.log,
	}
	if n.p2p != nil {
		cfg.Blocks, cfg.Local = n.p2p.Blocks(), n.p2p.Here()
	}
	n.earlier = &earlier{blocks: cfg.Blocks, now: time.Now}
	cfg.Earlier = n.earlier
	if links := n.domains.forReaders(); links != nil {
		cfg.DNSLinks = links
	}
	if err := n.cfg.Gateway.guard(&cfg); err != nil {
		return nil, err
	}
	if file := n.cfg.Gateway.AccessLog.File; file != "" {
		var err error
		if n.accessLog, err = openLogFile(file); err != nil {
			return nil, fmt.Errorf("gateway.access_log.file: %w", err)
		}
		cfg.AccessLog.Out = n.accessLog
	}
	for name, h := range n.cfg.Gateway.Hosts {
		if cfg.Hosts == nil {
			cfg.Hosts = make(map[string]gateway.HostConfig)
		}
		cfg.Hosts[name] = gateway.HostConfig{
			Paths: h.Paths, Subdomains: h.Subdomains, InlineDNSLink: h.InlineDNSLink, TrustlessOnly: h.trustless(),
			Aliases: name == "localhost", // they mean something on this machine only
		}
	}
	return gateway.New(cfg)
}

// listenControl opens the home's socket, on which commands find the node.
func (n *Node) listenControl() (*control.Server, error) {
	path, err := control.SocketPath(n.cfg.RuntimeDir, n.cfg.Home)
	if err != nil {
		return nil, err
	}
	if n.controlLn, err = control.Listen(path); err != nil {
		return nil, err
	}
	srv := control.NewServer(n.Methods(), func() any { return n.Info() }, n.log)
	srv.Handle("GET /v1/metrics", promhttp.HandlerFor(n.metrics, promhttp.HandlerOpts{}))
	srv.Handle("GET /debug/pprof/", http.HandlerFunc(pprof.Index))
	for name, h := range map[string]http.HandlerFunc{"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		srv.Handle("GET /debug/pprof/"+name, h)
	}
	return srv, nil
}

// follower resolves names for readers, and makes the acquaintance of a site's
// holders on the way.
type follower struct{ n *Node }

func (f follower) Follow(ctx context.Context, name naming.Name) ([]naming.Resolution, cid.Cid, error) {
	chain, root, err := f.n.followConfirmed(ctx, name)
	if err == nil && f.n.earlier != nil {
		f.n.earlier.saw(name, chain)
	}
	if err != nil || f.n.meet == nil {
		return chain, root, err
	}
	if infos, serr := f.n.store.Stat(ctx, []cid.Cid{root}); serr == nil && !infos[0].Present {
		policy := naming.Governing(chain).Policy()
		f.n.meet.meetRoster(ctx, policy)
		f.n.p2p.Believe(root, f.n.holders.of(ctx, policy))
	}
	f.n.watch(chain)
	return chain, root, nil
}

// Changes implements gateway.Changing.
func (f follower) Changes() uint64 { return f.n.resolver.Changes() }
