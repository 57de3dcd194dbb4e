package replicate

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// Audit makes prover show that it holds every byte under roots, and compares
// with the own copy, which is read meanwhile. The host must know an address of
// the prover, or be connected. A deadline of ctx that is nearer than
// the configured Timeout is the one that the prover is told.
//
// What the prover does or fails to do is the result's Verdict. Errors are
// faults on this side: ErrInvalid for the arguments, a blockstore error where the
// own copy is not whole, the context's error where it was cancelled.
func (a *Auditor) Audit(ctx context.Context, prover peer.ID, site naming.Name, roots []cid.Cid) (AuditResult, error) {
	if err := a.checkAudit(prover, site, roots); err != nil {
		return AuditResult{}, err
	}
	timeout := a.answerTime(ctx)
	epoch := a.cfg.Now().UTC().Truncate(time.Second)
	c := AuditChallenge{
		Site: site, Roots: slices.Clone(roots), Epoch: epoch,
		Verifier: a.self, Prover: prover, Deadline: epoch.Add(timeout),
	}
	rand.Read(c.Nonce[:])
	raw, err := c.encode(a.cfg.Key)
	if err != nil {
		return AuditResult{}, fmt.Errorf("audit %s: %w", prover, err)
	}
	res := newResult(c, raw)
	if err := a.connect(ctx, prover); err != nil {
		if canceled(ctx) {
			return AuditResult{}, ctx.Err()
		}
		res.Verdict, res.Detail = Unreachable, err.Error()
		return res, nil
	}
	defer a.protect(c)()
	if err := a.run(ctx, &res, c, timeout); err != nil {
		return AuditResult{}, err
	}
	a.cfg.Log.Info("audited", "prover", prover, "site", site, "verdict", res.Verdict, "took", res.Took, "detail", res.Detail)
	return res, nil
}

func (a *Auditor) checkAudit(prover peer.ID, site naming.Name, roots []cid.Cid) error {
	if err := a.checkKey(); err != nil {
		return err
	}
	if err := prover.Validate(); err != nil {
		return fmt.Errorf("%w: prover: %v", ErrInvalid, err)
	}
	if prover == a.self {
		return fmt.Errorf("%w: an audit of oneself proves nothing", ErrInvalid)
	}
	if site.IsZero() {
		return fmt.Errorf("%w: an audit names its site", ErrInvalid)
	}
	if err := checkRoots(roots); err != nil {
		return fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return nil
}

// answerTime is what the prover gets, in whole seconds. Of a deadline of ctx it leaves a
// part for finding out whether a silent prover lives.
func (a *Auditor) answerTime(ctx context.Context) time.Duration {
	timeout := min(a.cfg.Timeout, maxAuditTime)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		timeout = min(timeout, left-min(left/4, pingTime))
	}
	return max(time.Second, (timeout + time.Second - 1).Truncate(time.Second))
}

func (a *Auditor) connect(ctx context.Context, prover peer.ID) error {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "audit"), connectTime)
	defer cancel()
	return a.cfg.Host.Connect(ctx, peer.AddrInfo{ID: prover})
}

// protect keeps the connection to the other side from being trimmed while it
// is silent over a long computation.
func (a *Auditor) protect(c AuditChallenge) (end func()) {
	other := c.Prover
	if other == a.self {
		other = c.Verifier
	}
	tag := "audit-" + hex.EncodeToString(c.Nonce[:8])
	a.cfg.Host.ConnManager().Protect(other, tag)
	return func() { a.cfg.Host.ConnManager().Unprotect(other, tag) }
}

// run asks the prover and computes the same digest meanwhile.
func (a *Auditor) run(ctx context.Context, res *AuditResult, c AuditChallenge, timeout time.Duration) error {
	askCtx, stopAsking := context.WithTimeout(ctx, timeout)
	defer stopAsking()
	ownCtx, stopOwn := context.WithCancel(ctx)
	defer stopOwn()
	var want [32]byte
	var ownErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		var read merkle.Count
		want, read, ownErr = AuditDigest(ownCtx, a.cfg.Blocks, c)
		a.spent.spend(a.cfg.Now(), read.Bytes)
		if ownErr != nil {
			stopAsking() // nothing to compare with
		}
	}()

	started := time.Now()
	answer, raw, err := a.ask(askCtx, c, res.Challenge)
	res.Took = time.Since(started)
	if err != nil || answer.verdict != answerProof {
		stopOwn()
	}
	<-done
	switch {
	case canceled(ctx):
		return ctx.Err()
	case ownErr != nil && !errors.Is(ownErr, context.Canceled):
		return fmt.Errorf("audit %s: the own copy: %w", c.Prover, ownErr)
	case err != nil:
		res.Verdict, res.Detail = a.silence(ctx, c.Prover, err)
	default:
		res.judge(answer, raw, want)
	}
	return nil
}

// ask sends the challenge and waits for a valid answer.
func (a *Auditor) ask(ctx context.Context, c AuditChallenge, challenge []byte) (auditAnswer, []byte, error) {
	s, err := a.cfg.Host.NewStream(network.WithAllowLimitedConn(ctx, "audit"), c.Prover, AuditProtocol)
	if err != nil {
		return auditAnswer{}, nil, err
	}
	// Our side stays open until the answer is there: by that the prover sees that somebody still waits.
	defer s.Reset()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	s.SetWriteDeadline(time.Now().Add(messageTime))
	if err := writeMessage(s, challenge); err != nil {
		return auditAnswer{}, nil, fmt.Errorf("send the challenge: %w", err)
	}
	raw, err := readMessage(bufio.NewReader(s))
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return auditAnswer{}, nil, fmt.Errorf("no answer: %w", err)
	}
	answer, err := parseAnswer(raw, c, challenge)
	return answer, raw, err
}

// silence tells a host that lives and has no valid answer from one that is
// down: only the former is held against it.
func (a *Auditor) silence(ctx context.Context, prover peer.ID, why error) (Verdict, string) {
	if err := a.alive(ctx, prover); err != nil {
		return Unreachable, fmt.Sprintf("%v; and it does not answer a ping: %v", why, err)
	}
	return Missed, why.Error()
}

// alive is nil when prover answers anything at all just now.
func (a *Auditor) alive(ctx context.Context, prover peer.ID) error {
	if err := a.connect(ctx, prover); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return Alive(ctx, a.cfg.Host, prover)
}

// canceled tells a caller that went away from one whose time is up.
func canceled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
