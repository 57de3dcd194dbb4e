package author_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/naming"
)

// accepts has a record arrive that the key of alias has signed, wherever.
func (a *alone) accepts(alias string, s naming.Statement) naming.Record {
	a.t.Helper()
	signer, err := a.keys.Signer(alias)
	if err != nil {
		a.t.Fatal(err)
	}
	if s.ValidUntil.IsZero() {
		s.ValidUntil = a.now.Add(300 * day)
	}
	s.Recovery = signer.Recovery()
	rec, err := signer.Sign(s)
	if err == nil {
		err = a.state.Accept(a.t.Context(), rec)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.Resolver.Accepted(rec)
	return rec
}

func (a *alone) rotate() author.Rotated {
	a.t.Helper()
	out, err := a.Rotate(a.t.Context(), author.RotateRequest{RestateRequest: author.RestateRequest{Alias: "blog", Rebase: true}}, nil)
	if err != nil {
		a.t.Fatalf("rotating: %v", err)
	}
	return out
}

// wantMoved wants the alias to stand for the new name alone, with its seed, and the old name to lead there.
func (a *alone) wantMoved(old string, root string) {
	a.t.Helper()
	key, err := a.keys.Info("blog")
	if err != nil || key.Name.String() == old || !key.HasSeed {
		a.t.Fatalf("the key of blog is %+v, %v", key, err)
	}
	site, err := a.state.SiteByAlias(a.t.Context(), "blog")
	if err != nil || site.Name != key.Name {
		a.t.Errorf("blog is the site %s, %v; its key is that of %s", site.Name, err, key.Name)
	}
	was, err := naming.ParseName(old)
	if err != nil {
		a.t.Fatal(err)
	}
	chain, to, err := a.Resolver.Follow(a.t.Context(), was)
	if err != nil || len(chain) != 2 || !chain[0].Record.IsLast() || chain[1].Record.Name() != key.Name || to.String() != root {
		a.t.Errorf("the old name leads to %s by %d records, %v", to, len(chain), err)
	}
	keys, err := a.keys.List()
	if err != nil || len(keys) != 2 {
		a.t.Errorf("there are the keys %+v, %v; want the new one and the old one's archive", keys, err)
	}
}

func TestARotationWinsOverAThiefWhoSignedTheLastSequenceButOne(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	thiefs := a.accepts("blog", naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: naming.MaxSequence - 1})
	a.rotate()
	root, _ := thiefs.Root()
	a.wantMoved(p.Name, root.String())
}

func TestARotationAfterATheftShowsTheReleaseThatIsAskedFor(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	a.accepts("blog", naming.Statement{Value: "/ipfs/bafkqaaa", Sequence: 100}) // the thief's, without a release
	if _, err := a.Rotate(t.Context(), author.RotateRequest{RestateRequest: author.RestateRequest{Alias: "blog"}, Release: 1}, nil); err != nil {
		t.Fatalf("rotating: %v", err)
	}
	a.wantMoved(p.Name, p.Root)
}

func TestARotationLeavesASiteAloneThatOnlySoundsLikeTheNextKey(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	staging, err := a.Publish(t.Context(), author.PublishRequest{Root: p.Root, Alias: "blog-next", Alone: true, Message: "staging"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := a.rotate()
	if out.Name == staging.Name {
		t.Errorf("blog has moved to the name of another site")
	}
	site, err := a.state.SiteByAlias(t.Context(), "blog-next")
	if err != nil || site.Name.String() != staging.Name || site.Sequence != staging.Sequence {
		t.Errorf("blog-next is %+v, %v", site, err)
	}
	if key, err := a.keys.Info("blog-next"); err != nil || key.Name.String() != staging.Name {
		t.Errorf("the key of blog-next is %+v, %v", key, err)
	}
}

func TestASiteCanBeRotatedOnAMachineThatHasOnlyItsBackup(t *testing.T) {
	a, b := newAlone(t), newAlone(t)
	p := a.publish(0)
	backup, err := a.keys.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.keys.Restore("blog", backup, naming.Name{}); err != nil {
		t.Fatal(err)
	}
	name, err := naming.ParseName(p.Name)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := a.state.Best(t.Context(), name)
	if err == nil {
		err = b.state.Accept(t.Context(), rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	policy, err := a.Store.Get(t.Context(), rec.Policy())
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.Store.Begin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if _, err := session.Put(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	b.rotate()
	b.wantMoved(p.Name, p.Root)
}

// shown is a source that shows one record.
type shown struct{ naming.Record }

func (s shown) String() string { return "somebody" }

func (s shown) Fetch(context.Context, naming.Name) ([]byte, error) { return s.Bytes(), nil }

func TestAPublishOnANewMachineDoesNotGoOnFromAThiefsRecord(t *testing.T) {
	a, b := newAlone(t), newAlone(t)
	a.publish(0)
	backup, err := a.keys.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.keys.Restore("blog", backup, naming.Name{}); err != nil {
		t.Fatal(err)
	}
	signer, err := b.keys.Signer("blog")
	if err != nil {
		t.Fatal(err)
	}
	var sources []naming.Source
	for _, s := range []naming.Statement{{Sequence: 7, Recovery: signer.Recovery()}, {Sequence: 100, Recovery: naming.Commitment{1, 2, 3}}} {
		s.Value, s.ValidUntil = "/ipfs/bafkqaaa", b.now.Add(day)
		rec, err := signer.Sign(s)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, shown{rec})
	}
	b.Resolver = naming.NewResolver(naming.ResolverConfig{
		Records: b.state, Sources: func(naming.Name) []naming.Source { return sources },
		Committed: b.keys.Committed, Now: func() time.Time { return b.now },
	})
	t.Cleanup(b.Resolver.Close)
	if _, err := b.Renew(t.Context(), author.RestateRequest{Alias: "blog", Rebase: true}, nil); err != nil {
		t.Fatal(err)
	}
	rec, err := b.state.Best(t.Context(), signer.Name())
	if err != nil || rec.Sequence() != 8 || rec.Recovery() != signer.Recovery() {
		t.Errorf("it signed sequence %d with the commitment %s, %v", rec.Sequence(), rec.Recovery(), err)
	}
}

// cutter ends a context at the nth thing that happens.
type cutter struct {
	cancel context.CancelFunc
	left   int
}

func (c *cutter) step() {
	if c.left--; c.left == 0 {
		c.cancel()
	}
}

// toldSink is a place for records that remembers them.
type toldSink struct {
	cut  *cutter
	best map[naming.Name]naming.Record
}

func (s *toldSink) String() string { return "routing" }

func (s *toldSink) Put(ctx context.Context, r naming.Record) error {
	s.cut.step()
	if ctx.Err() == nil && r.Compare(s.best[r.Name()]) > 0 {
		s.best[r.Name()] = r
	}
	return ctx.Err()
}

func TestARotationGoesOnWhereverItWasCutOff(t *testing.T) {
	for step := 1; ; step++ {
		a := newAlone(t)
		p := a.publish(0)
		ctx, cancel := context.WithCancel(t.Context())
		cut := &cutter{cancel: cancel, left: step}
		sink := &toldSink{cut: cut, best: make(map[naming.Name]naming.Record)}
		a.Sinks = func(naming.Name) []naming.Sink { return []naming.Sink{sink} }
		a.Signed = func(naming.Record) { cut.step() }
		_, err := a.Rotate(ctx, author.RotateRequest{RestateRequest: author.RestateRequest{Alias: "blog"}}, func(author.Event) { cut.step() })
		cancel()
		whole := cut.left > 0
		if whole != (err == nil) && cut.left < 0 {
			t.Fatalf("cut off at step %d: %v", step, err)
		}
		if err != nil {
			cut.left = 0
			a.rotate()
		}
		a.wantMoved(p.Name, p.Root)
		name, err := naming.ParseName(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if told := sink.best[name]; told.IsZero() || !told.IsLast() {
			t.Errorf("cut off at step %d: routing was never told of the last record", step)
		}
		if whole {
			return
		}
	}
}

func TestARotationGoesOnWhenTheKeysCouldNotBeSwapped(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	inTheWay := "blog-was-" + p.Name[len(p.Name)-6:]
	if _, err := a.keys.New(inTheWay); err != nil {
		t.Fatal(err)
	}
	if out, err := a.Rotate(t.Context(), author.RotateRequest{RestateRequest: author.RestateRequest{Alias: "blog"}}, nil); !errors.Is(err, naming.ErrKeyExists) {
		t.Fatalf("%+v, %v", out, err)
	}
	if err := a.keys.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	a.rotate()
	a.wantMoved(p.Name, p.Root)
}

func TestARotationThatOnlyHadToTidyUpIsNotDoneTwice(t *testing.T) {
	a := newAlone(t)
	p := a.publish(0)
	moved := a.rotate()
	var key bytes.Buffer
	if err := a.keys.Export("blog", &key); err != nil {
		t.Fatal(err)
	}
	if _, err := a.keys.Import("blog-next-"+p.Name[len(p.Name)-6:], &key); err != nil {
		t.Fatal(err)
	}
	if again := a.rotate(); again.Name != moved.Name {
		t.Errorf("it has moved on to %s", again.Name)
	}
	a.wantMoved(p.Name, p.Root)
}
