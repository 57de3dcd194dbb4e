package author

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-sites/holdfast/naming"
)

// NameResult is a resolved name.
type NameResult struct {
	Domain     string       `json:"domain,omitempty"`  // whose DNSLink led here
	DNSLink    string       `json:"dnslink,omitempty"` // where it points, perhaps with a path behind
	Name       string       `json:"name"`              // empty where a domain points at content
	Root       string       `json:"root"`
	Value      string       `json:"value"`
	Sequence   uint64       `json:"sequence"`
	ValidUntil *time.Time   `json:"valid_until"`
	TTL        float64      `json:"ttl_seconds"`
	Release    string       `json:"release,omitempty"`
	Policy     string       `json:"policy,omitempty"`
	Source     string       `json:"source"`
	Answers    []NameAnswer `json:"answers,omitempty"`
}

// NameAnswer is what one source said.
type NameAnswer struct {
	Source   string `json:"source"`
	Sequence uint64 `json:"sequence,omitempty"`
	Error    string `json:"error,omitempty"`
}

// ResolveName finds the best valid record of an alias or name, following
// indirections to the root, or of the site that a domain points at.
func (a *Author) ResolveName(ctx context.Context, s string) (NameResult, error) {
	n, err := a.nameOf(ctx, trimIPNS(s))
	if errors.Is(err, ErrNoSite) && a.isDomain(trimIPNS(s)) {
		return a.resolveDomain(ctx, trimIPNS(s))
	}
	if err != nil {
		return NameResult{}, err
	}
	asked, _, _ := a.Resolver.ResolveFresh(ctx, n) // a person wants the best, not the first; what fails fails again
	chain, root, err := a.Resolver.Follow(ctx, n)
	if err != nil {
		return NameResult{}, err
	}
	outer, inner := chain[0], chain[len(chain)-1]
	outer.Answers = asked.Answers
	if asked.Source != "" {
		outer.Source = asked.Source
	}
	out := NameResult{
		Name: n.String(), Root: root.String(), Value: outer.Record.Value(), Sequence: outer.Record.Sequence(),
		ValidUntil: timePtr(outer.Record.ValidUntil()), TTL: outer.Record.TTL().Seconds(),
		Release: cidString(inner.Record.Release()), Policy: cidString(naming.Governing(chain).Policy()), Source: outer.Source,
	}
	for _, an := range outer.Answers {
		na := NameAnswer{Source: an.Source, Sequence: an.Sequence}
		if an.Err != nil {
			na.Error = an.Err.Error()
		}
		out.Answers = append(out.Answers, na)
	}
	return out, nil
}

// NameOf is the name that an alias, a name in any spelling, or an /ipns/ path stands for.
func (a *Author) NameOf(ctx context.Context, s string) (naming.Name, error) {
	return a.nameOf(ctx, trimIPNS(s))
}

func trimIPNS(s string) string {
	kind, first, _, err := splitAddress(s)
	if err != nil || kind != "ipns" {
		return s
	}
	return first
}

// NameRecord is the raw record of a name.
type NameRecord struct {
	Name   string `json:"name"`
	Record []byte `json:"record"`
	Source string `json:"source"`
}

// GetRecord finds the best valid record of a name and gives its bytes.
func (a *Author) GetRecord(ctx context.Context, s string) (NameRecord, error) {
	n, err := a.nameOf(ctx, trimIPNS(s))
	if err != nil {
		return NameRecord{}, err
	}
	res, err := a.Resolver.Resolve(ctx, n)
	if err != nil {
		return NameRecord{}, err
	}
	return NameRecord{Name: n.String(), Record: res.Record.Bytes(), Source: res.Source}, nil
}

// PutRequest carries somebody's signed record.
type PutRequest struct {
	Name   string `json:"name"`
	Record []byte `json:"record"`
}

// PutResult says where a record went.
type PutResult struct {
	Name     string       `json:"name"`
	Value    string       `json:"value"` // where the record leads
	Sequence uint64       `json:"sequence"`
	Put      []NameAnswer `json:"put"`
}

// PutRecord checks a record, keeps it if it is the best, and hands it to
// routing and to the hosts.
func (a *Author) PutRecord(ctx context.Context, req PutRequest) (PutResult, error) {
	n, err := a.nameOf(ctx, trimIPNS(req.Name))
	if err != nil {
		return PutResult{}, usagef("--name is needed with the record's name")
	}
	rec, err := naming.OpenRecord(n, req.Record, a.Now())
	if err != nil {
		return PutResult{}, err
	}
	if err := a.State.Accept(ctx, rec); err != nil {
		return PutResult{}, err
	}
	a.Resolver.Accepted(rec)
	a.Signed(rec)
	out := PutResult{Name: n.String(), Value: rec.Value(), Sequence: rec.Sequence(), Put: []NameAnswer{}}
	hosts, err := a.keepers(ctx, &publication{name: n})
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
	defer cancel()
	sinks := a.Sinks(n)
	out.Put = make([]NameAnswer, len(sinks)+len(hosts))
	var wg sync.WaitGroup
	put := func(i int, sink string, err error) {
		out.Put[i] = NameAnswer{Source: sink, Sequence: rec.Sequence()}
		if err != nil {
			out.Put[i].Sequence, out.Put[i].Error = 0, err.Error()
		}
	}
	for i, s := range sinks {
		wg.Go(func() { put(i, s.String(), s.Put(ctx, rec)) })
	}
	for i, h := range hosts {
		wg.Go(func() {
			_, err := a.tell(ctx, h, rec)
			put(len(sinks)+i, h.Name, err)
		})
	}
	wg.Wait()
	return out, nil
}
