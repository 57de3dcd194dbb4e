package replicate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
)

// Serve answers challenges until ctx ends, then waits for those in hand. An
// error only where the key is not the host's.
func (a *Auditor) Serve(ctx context.Context) error {
	if err := a.checkKey(); err != nil {
		return err
	}
	var (
		mu     sync.Mutex // orders wg.Add before wg.Wait
		ended  bool
		inHand sync.WaitGroup
	)
	room := make(chan struct{}, maxAuditStreams)
	a.cfg.Host.SetStreamHandler(AuditProtocol, func(s network.Stream) {
		mu.Lock()
		if ended {
			mu.Unlock()
			s.Reset()
			return
		}
		inHand.Add(1)
		mu.Unlock()
		defer inHand.Done()
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
			a.handle(ctx, s)
		default:
			s.Reset()
		}
	})
	<-ctx.Done()
	a.cfg.Host.RemoveStreamHandler(AuditProtocol)
	mu.Lock()
	ended = true
	mu.Unlock()
	inHand.Wait()
	return nil
}

func (a *Auditor) checkKey() error {
	if !a.self.MatchesPrivateKey(a.cfg.Key) {
		return fmt.Errorf("%w: the audit key is not that of %s", ErrInvalid, a.self)
	}
	return nil
}

// handle reads one challenge and writes one answer. Who can't be answered in
// a way that means anything gets a reset.
func (a *Auditor) handle(ctx context.Context, s network.Stream) {
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	verifier := s.Conn().RemotePeer()
	if err := a.answer(ctx, s); err != nil {
		s.Reset()
		a.cfg.Log.Info("audit not answered", "verifier", verifier, "err", err)
		return
	}
	s.Close()
}

func (a *Auditor) answer(ctx context.Context, s network.Stream) error {
	s.SetDeadline(time.Now().Add(messageTime))
	raw, err := readMessage(bufio.NewReader(s))
	if err != nil {
		return fmt.Errorf("read the challenge: %w", err)
	}
	c, err := ParseAuditChallenge(raw)
	if err != nil {
		return err
	}
	if c.Verifier != s.Conn().RemotePeer() || c.Prover != a.self {
		return fmt.Errorf("the challenge is from %s to %s", c.Verifier, c.Prover)
	}
	defer a.protect(c)()
	// The verifier's clock may be off, so only the time between counts.
	limit := min(c.Deadline.Sub(c.Epoch), maxAuditTime)
	pctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s.SetReadDeadline(time.Time{})
	unwatch := watch(s, cancel)
	answer, err := a.prove(pctx, c)
	unwatch()
	if err != nil {
		return err
	}
	answer.challenge = challengeHash(raw)
	signed, err := answer.encode(a.cfg.Key)
	if err != nil {
		return err
	}
	s.SetWriteDeadline(time.Now().Add(messageTime))
	return writeMessage(s, signed)
}

// watch calls gone when the verifier hangs up, so that nobody reads a site for
// nothing. That it has said all it has to say (EOF) is no hanging up. The
// result ends the watching.
func watch(s network.Stream, gone func()) (end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var more [1]byte
		if _, err := s.Read(more[:]); err != nil && !errors.Is(err, io.EOF) {
			gone()
		}
	}()
	return func() {
		s.SetReadDeadline(time.Now())
		<-done
	}
}

// prove decides what to say: who may not ask is refused, what is not held is
// said, what would cost too much is put off, and the rest is computed.
func (a *Auditor) prove(ctx context.Context, c AuditChallenge) (auditAnswer, error) {
	log := a.cfg.Log.With("verifier", c.Verifier, "site", c.Site)
	now := a.cfg.Now()
	if skew := now.Sub(c.Epoch).Abs(); skew > MaxClockSkew {
		log.Warn("audit refused: the clocks are too far apart", "theirs", c.Epoch, "ours", now.UTC())
		return auditAnswer{verdict: answerRefused}, nil
	}
	if a.cfg.Allowed == nil || !a.cfg.Allowed(ctx, c.Verifier, c.Site, c.Roots) {
		log.Info("audit refused: not in the roster, nor named by a pin")
		return auditAnswer{verdict: answerRefused}, nil
	}
	for _, root := range c.Roots {
		held, err := a.holds(ctx, root)
		if err != nil {
			return auditAnswer{}, fmt.Errorf("is %s held: %w", root, err)
		}
		if !held {
			return auditAnswer{verdict: answerNotHeld, missing: root}, nil
		}
	}
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return auditAnswer{verdict: answerBusy, until: now.Add(concurrencyWait)}, nil
	}
	if until, ok := a.spent.left(now); !ok {
		return auditAnswer{verdict: answerBusy, until: until}, nil
	}
	if until, ok := a.rate.take(keyOf(c.Verifier, c.Roots), now); !ok {
		return auditAnswer{verdict: answerBusy, until: until}, nil
	}
	digest, count, err := AuditDigest(ctx, a.cfg.Blocks, c)
	a.spent.spend(now, count.Bytes)
	switch {
	case err == nil:
		log.Debug("audit answered", "blocks", count.Blocks, "bytes", count.Bytes, "took", a.cfg.Now().Sub(now))
		return auditAnswer{verdict: answerProof, digest: digest}, nil
	case ctx.Err() == nil && isBlockError(err):
		root := brokenRoot(ctx, a.cfg.Blocks, c.Roots)
		log.Error("a root that is kept has a broken block", "root", root, "err", err)
		return auditAnswer{verdict: answerNotHeld, missing: root}, nil
	default:
		return auditAnswer{}, fmt.Errorf("compute the proof: %w", err)
	}
}

func (a *Auditor) holds(ctx context.Context, root cid.Cid) (bool, error) {
	if a.cfg.Holds == nil {
		return false, nil
	}
	return a.cfg.Holds(ctx, root)
}
