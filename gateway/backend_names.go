package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	boxogw "github.com/ipfs/boxo/gateway"
	boxopath "github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"

	"github.com/holdfast-sites/holdfast/naming"
)

// resolve finds the root that a name or domain leads to, and the path under it
// ("" or "/a/b") at which its site begins. It fails where the operator denies
// what is at rest (which begins with a slash) there, by whichever way.
func (b *backend) resolve(ctx context.Context, id, rest string) (root cid.Cid, base string, ttl time.Duration, err error) {
	if !b.denied.Empty() {
		if err := b.mayServe(ctx, "/ipns/"+id+rest); err != nil {
			return cid.Undef, "", 0, err
		}
	}
	began := b.now()
	t := traceOf(ctx)
	root, link, ttl, err := b.resolveName(ctx, id)
	t.spend(StepName, b.now().Sub(began))
	if err != nil {
		return cid.Undef, "", 0, err
	}
	var via []naming.Name
	t.set(func(t *trace) {
		base = t.below + link
		t.root, t.base = root, base
		via = t.via
	})
	if b.denied.Empty() {
		return root, base, ttl, nil
	}
	for _, n := range via { // what is denied of a name is denied of all that lead to it
		if err := b.mayServe(ctx, "/ipns/"+b.spelled.text(n)+link+rest); err != nil {
			return cid.Undef, "", 0, err
		}
	}
	return root, base, ttl, b.mayServe(ctx, "/ipfs/"+root.String()+base+rest)
}

// resolveName resolves a name or domain to a root and, for a DNSLink with a
// path, the path under it ("" or "/a/b").
func (b *backend) resolveName(ctx context.Context, id string) (root cid.Cid, base string, ttl time.Duration, err error) {
	n, _, err := b.spelled.parse(id)
	if err == nil {
		root, ttl, err = b.follow(ctx, n)
		return root, "", ttl, err
	}
	if b.dns == nil || !strings.Contains(id, ".") {
		return cid.Undef, "", 0, b.fail(ctx, StepName, fmt.Errorf("%w: %q", naming.ErrInvalidName, id))
	}
	traceOf(ctx).set(func(t *trace) { t.domain = id })
	value, dnsTTL, err := b.dns.Resolve(ctx, id)
	if err != nil {
		return cid.Undef, "", 0, b.fail(ctx, StepName, err)
	}
	p, err := boxopath.NewPath(value)
	if err != nil || p.Namespace() == boxopath.IPLDNamespace {
		return cid.Undef, "", 0, b.fail(ctx, StepName, fmt.Errorf("DNSLink of %s: %w: %.100q", id, naming.ErrDNSLink, value))
	}
	segments := p.Segments()
	if len(segments) > 2 {
		base = "/" + strings.Join(segments[2:], "/")
	}
	now := b.now()
	if p.Namespace() == boxopath.IPFSNamespace {
		traceOf(ctx).set(func(t *trace) { t.until, t.fresh = now.Add(min(dnsTTL, bindingTime)), now.Add(dnsTTL) })
		root, err = cid.Decode(segments[1])
		return root, base, dnsTTL, err
	}
	if n, _, err = b.spelled.parse(segments[1]); err != nil {
		return cid.Undef, "", 0, b.fail(ctx, StepName, fmt.Errorf("DNSLink of %s: %w", id, err))
	}
	root, nameTTL, err := b.follow(ctx, n)
	traceOf(ctx).set(func(t *trace) {
		if end := now.Add(dnsTTL); end.Before(t.fresh) {
			t.fresh = end
		}
	})
	return root, base, min(dnsTTL, nameTTL), err
}

func (b *backend) follow(ctx context.Context, n naming.Name) (cid.Cid, time.Duration, error) {
	t := traceOf(ctx)
	changing, known := b.names.(Changing)
	var f followed
	if known {
		f.changes, f.denials = changing.Changes(), b.denied.Generation()
		if was, ok := b.followed.GetIfPresent(n); ok && was.changes == f.changes && was.denials == f.denials && b.now().Before(was.until) {
			t.set(func(t *trace) { t.name = n; was.note(t) })
			return was.root, max(was.fresh.Sub(b.now()), 0), nil
		}
	}
	chain, root, err := b.chain(ctx, n)
	if err != nil {
		return cid.Undef, 0, err
	}
	now := b.now()
	ttl := chainTTL(chain, now)
	f.via = []naming.Name{n}
	for _, r := range chain {
		if next := r.Record.Name(); next != n {
			f.via = append(f.via, next)
		}
	}
	f.root, f.below, f.until, f.fresh = root, t.snapshot().below, chainUntil(chain, ttl, now), now.Add(ttl)
	if len(chain) > 0 { // else whoever resolves knows without records
		f.record = chain[0]
	}
	if known {
		b.followed.Set(n, f)
	}
	t.set(f.note)
	return root, ttl, nil
}

// chain is the records through which a name leads to its root, outermost first.
func (b *backend) chain(ctx context.Context, n naming.Name) ([]naming.Resolution, cid.Cid, error) {
	t := traceOf(ctx)
	t.set(func(t *trace) { t.name = n })
	if b.names == nil {
		return nil, cid.Undef, boxogw.NewErrorStatusCode(errors.New("this gateway serves no names"), http.StatusNotImplemented)
	}
	// A deadline of its own, after which a resolver may fall back to what it has.
	ctx, cancel := context.WithTimeoutCause(ctx, b.nameTime, errTimeout)
	defer cancel()
	chain, root, err := followBelow(ctx, b.names, n)
	for i, r := range chain {
		if i == 0 && t.snapshot().domain == "" {
			continue // it is what was asked for, and was looked at with its path
		}
		if err := b.denied.Name(r.Record.Name()); err != nil {
			return nil, cid.Undef, b.fail(ctx, StepName, err)
		}
	}
	if len(chain) > 0 {
		t.set(func(t *trace) { t.record = chain[0] })
	}
	if err != nil {
		return nil, cid.Undef, b.fail(ctx, StepRecord, err)
	}
	return chain, root, nil
}

// followed is where a name led a moment ago.
type followed struct {
	root         cid.Cid
	below        string
	record       naming.Resolution
	via          []naming.Name // it and those that it led through
	until, fresh time.Time     // as in the trace
	changes      uint64
	denials      uint64 // generation of what is denied
}

func (f followed) note(t *trace) {
	t.via, t.record, t.below, t.until, t.fresh, t.changes = f.via, f.record, f.below, f.until, f.fresh, f.changes
}
