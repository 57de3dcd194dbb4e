package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/control"
	"github.com/holdfast-sites/holdfast/internal/dns"
	"github.com/holdfast-sites/holdfast/internal/p2p"
	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
	"github.com/holdfast-sites/holdfast/replicate"
)

// Address is the parameter of methods that take one ADDRESS, name or label.
type Address struct {
	Address string `json:"address"`
}

// InviteResult is an invite, which carries a token.
type InviteResult struct {
	ID     string `json:"id"`
	Label  string `json:"label"`
	Invite string `json:"invite"`
}

// The lists, as objects: `--json` prints one object for every command.
type (
	Sites struct {
		Sites []author.SiteStatus `json:"sites"`
	}
	Releases = author.Releases
	Hosts    struct {
		Hosts []author.HostInfo `json:"hosts"`
	}
)

// call adapts a flow that has no progress to tell.
func call[P, R any](f func(context.Context, P) (R, error)) control.Method {
	return control.Typed(func(ctx context.Context, p P, _ func(any)) (R, error) { return f(ctx, p) })
}

// told adapts a flow that reports events.
func told[P, R any](f func(context.Context, P, func(author.Event)) (R, error)) control.Method {
	return control.Typed(func(ctx context.Context, p P, progress func(any)) (R, error) {
		return f(ctx, p, func(e author.Event) { progress(e) })
	})
}

// Methods is everything that a node can be asked to do, here or over its
// socket. The names are those of the commands.
func (n *Node) Methods() control.Methods {
	a := n.author
	return control.Methods{
		Kind: KindOf,
		Calls: map[string]control.Method{
			"publish":           told(a.Publish),
			"build":             told(a.Build),
			"status":            told(n.sites),
			"history":           call(a.History),
			"history verify":    told(a.VerifyHistory),
			"diff":              told(a.Diff),
			"rollback":          told(a.Rollback),
			"get":               told(a.Get),
			"export":            told(a.Export),
			"import":            call(func(ctx context.Context, p Address) (author.ImportResult, error) { return a.Import(ctx, p.Address) }),
			"name resolve":      call(func(ctx context.Context, p Address) (author.NameResult, error) { return a.ResolveName(ctx, p.Address) }),
			"name get":          call(func(ctx context.Context, p Address) (author.NameRecord, error) { return a.GetRecord(ctx, p.Address) }),
			"domain check":      call(a.CheckDomain),
			"doctor":            call(n.examine),
			"name put":          call(a.PutRecord),
			"name renew":        told(a.Renew),
			"name delegate":     told(a.Delegate),
			"name revoke":       told(a.Revoke),
			"key rotate":        told(a.Rotate),
			"follow":            told(n.followName),
			"unfollow":          call(n.unfollowName),
			"follows":           call(n.listFollows),
			"plan":              told(a.Plan),
			"apply":             told(a.Apply),
			"host label":        call(a.LabelHost),
			"host leave":        told(a.LeaveHost),
			"history events":    call(a.Events),
			"key unlock":        call(n.unlockKey),
			"host add":          call(n.addHost),
			"host list":         call(n.hosts),
			"host remove":       call(func(ctx context.Context, p Address) (author.HostInfo, error) { return a.RemoveHost(ctx, p.Address) }),
			"token create":      call(n.createToken),
			"token list":        call(n.listTokens),
			"token revoke":      call(n.revokeToken),
			"invite":            call(n.invite),
			"invite reciprocal": call(n.inviteReciprocal),
			"usage":             call(n.usage),
			"pins":              call(n.operatorPins),
			"drain":             told(n.drain),
			"deny add":          call(n.denyAdd),
			"deny remove":       call(n.denyRemove),
			"deny check":        call(n.denyCheck),
			"deny list":         call(n.denyList),
			"gc":                told(n.collect),
			"verify":            told(n.verify),
		},
		Streams: map[string]control.Stream{
			"cat":    control.TypedStream(func(ctx context.Context, p Address, w io.Writer) error { return a.Cat(ctx, p.Address, w) }),
			"export": control.TypedStream(func(ctx context.Context, p Address, w io.Writer) error { return a.ExportTo(ctx, p.Address, w) }),
		},
	}
}

// Passphrase is the parameter of "key unlock".
type Passphrase struct {
	Alias      string `json:"alias"`
	Passphrase string `json:"passphrase"`
}

// Format keeps the passphrase out of whatever prints it.
func (p Passphrase) Format(s fmt.State, _ rune) { io.WriteString(s, "passphrase of "+p.Alias) }

// unlockKey opens an encrypted key for as long as the node runs, or says what one that is still to be made is encrypted with.
func (n *Node) unlockKey(_ context.Context, p Passphrase) (struct{}, error) {
	return struct{}{}, n.keys.Unlock(p.Alias, p.Passphrase)
}

// addHost lets the node dial the new host from now on.
func (n *Node) addHost(ctx context.Context, req author.HostRequest) (author.HostInfo, error) {
	info, err := n.author.AddHost(ctx, req)
	if err == nil && n.p2p != nil {
		n.trustHosts(ctx)
	}
	if err == nil {
		err = n.linkAnswer(ctx, req, &info)
	}
	return info, err
}

func (n *Node) sites(ctx context.Context, req author.StatusRequest, report func(author.Event)) (Sites, error) {
	s, err := n.author.Status(ctx, req, report)
	return Sites{s}, err
}

func (n *Node) hosts(ctx context.Context, _ struct{}) (Hosts, error) {
	h, err := n.author.ListHosts(ctx)
	return Hosts{h}, err
}

// invite makes a token and wraps it with where this host is.
func (n *Node) invite(ctx context.Context, p TokenRequest) (InviteResult, error) {
	scope, err := n.scope(ctx, p)
	if err != nil {
		return InviteResult{}, err
	}
	return n.inviteTo(ctx, p.Label, scope, nil)
}

// mayInvite tells whether there is a host here to invite to.
func (n *Node) mayInvite() error {
	if n.p2p == nil || n.service == nil || !n.cfg.Host {
		return control.Errorf(control.Unavailable, "an invite says where the host is: start it first with `holdfast serve --host`")
	}
	return nil
}

// inviteTo makes a token of that scope and wraps it with where this host is. change, which may be nil, adds to the invite.
func (n *Node) inviteTo(ctx context.Context, label string, scope replicate.Scope, change func(*replicate.Invite)) (InviteResult, error) {
	if err := n.mayInvite(); err != nil {
		return InviteResult{}, err
	}
	t, secret, err := replicate.CreateToken(ctx, n.state, label, scope)
	if err != nil {
		return InviteResult{}, err
	}
	inv := replicate.Invite{Peer: n.p2p.ID(), Token: secret, Name: n.cfg.Pins.Name, Base: n.cfg.Pins.URL, Quota: scope.Quota}
	if inv.Base == "" && n.pinsLn != nil && !unspecified(n.pinsLn.Addr()) {
		inv.Base = reachable(n.pinsLn.Addr())
	}
	if inv.Base == "" {
		addrs := n.p2p.Addrs()
		if len(addrs) == 0 {
			return InviteResult{}, control.Errorf(control.Unavailable, "this host listens nowhere")
		}
		inv.Base = addrs[len(addrs)-1]
	}
	if change != nil {
		change(&inv)
	}
	text, err := inv.Encode()
	return InviteResult{ID: t.ID, Label: t.Label, Invite: text}, err
}

func unspecified(a net.Addr) bool {
	host, _, err := net.SplitHostPort(a.String())
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsUnspecified()
}

// KindOf maps every room's errors to the kinds of the command line, once.
func KindOf(err error) control.Kind {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var conflict *author.ConflictError
	var delegated *author.DelegatedError
	var short *author.ShortError
	var netErr net.Error
	switch {
	case is(replicate.ErrClock): // neither the host nor what it sent is to blame
		return control.Failed
	case errors.As(err, &conflict), errors.As(err, &delegated), is(author.ErrPlanChanged):
		return control.Conflict
	case errors.As(err, &short):
		return control.Unavailable
	case is(naming.ErrDNSLink, naming.ErrLoop):
		return control.Corrupt
	case is(author.ErrUsage, naming.ErrInvalidName, naming.ErrInvalidAlias, naming.ErrKeyExists, naming.ErrPassphrase, replicate.ErrInvalid,
		state.ErrConflict, p2p.ErrConfig, p2p.ErrAddress, dns.ErrResolver, os.ErrExist):
		return control.Usage
	case is(ErrHeld, author.ErrUnreachable, naming.ErrUnavailable, blockstore.ErrUnavailable, blockstore.ErrLocked,
		replicate.ErrUnavailable, replicate.ErrTooFewHosts, p2p.ErrOffline, p2p.ErrListen, context.DeadlineExceeded):
		return control.Unavailable
	case is(naming.ErrOlder):
		return control.Conflict
	case is(blockstore.ErrCorrupt, blockstore.ErrRefused, merkle.ErrMalformed, naming.ErrInvalidRecord,
		naming.ErrInvalidKey, naming.ErrInvalidBackup, state.ErrCorrupt, p2p.ErrIdentity):
		return control.Corrupt
	case is(author.ErrNoSite, naming.ErrNotFound, naming.ErrNoKey, naming.ErrNoSeed, blockstore.ErrNotFound, merkle.ErrNoPath,
		state.ErrNotFound, replicate.ErrNotFound, replicate.ErrNoToken, os.ErrNotExist):
		return control.NotFound
	case errors.As(err, &netErr) || is(syscall.ECONNREFUSED):
		return control.Unavailable
	}
	return control.Failed
}
