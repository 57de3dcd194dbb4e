package author

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-sites/holdfast/internal/state"
	"github.com/holdfast-sites/holdfast/naming"
)

// NameResult is a resolved name.
type NameResult struct {
	Name       string       `json:"name"`
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
// indirections to the root.
func (a *Author) ResolveName(ctx context.Context, s string) (NameResult, error) {
	n, err := a.nameOf(ctx, trimIPNS(s))
	if err != nil {
		return NameResult{}, err
	}
	chain, root, err := a.Resolver.Follow(ctx, n)
	if err != nil {
		return NameResult{}, err
	}
	outer, inner := chain[0], chain[len(chain)-1]
	out := NameResult{
		Name: n.String(), Root: root.String(), Value: outer.Record.Value(), Sequence: outer.Record.Sequence(),
		ValidUntil: timePtr(outer.Record.ValidUntil()), TTL: outer.Record.TTL().Seconds(),
		Release: cidString(inner.Record.Release()), Policy: cidString(outer.Record.Policy()), Source: outer.Source,
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
	Sequence uint64       `json:"sequence"`
	Put      []NameAnswer `json:"put"`
}

// holders are the hosts that we gave a site to, as places to put its record.
func (a *Author) holders(ctx context.Context, n naming.Name) (out []naming.Sink, err error) {
	holdings, err := a.State.Holdings(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, h := range holdings {
		host, err := a.State.Host(ctx, h.Host)
		if errors.Is(err, state.ErrNotFound) || h.NamePin == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		base, hc := a.face(host)
		out = append(out, naming.NewRoutingClient(host.Name, base, hc))
	}
	return out, nil
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
	out := PutResult{Name: n.String(), Sequence: rec.Sequence(), Put: []NameAnswer{}}
	holders, err := a.holders(ctx, n)
	if err != nil {
		return out, err
	}
	for _, sink := range append(a.Sinks(), holders...) {
		ctx, cancel := context.WithTimeout(ctx, a.requestTime(putDeadline))
		an := NameAnswer{Source: sink.String(), Sequence: rec.Sequence()}
		if err := sink.Put(ctx, rec); err != nil {
			an.Sequence, an.Error = 0, err.Error()
		}
		cancel()
		out.Put = append(out.Put, an)
	}
	return out, nil
}
