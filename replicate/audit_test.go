package replicate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-varint"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

func TestAuditProvesAHostThatHoldsEveryByte(t *testing.T) {
	s := newAuditScene(t)
	res := s.audit(t, s.first, s.second)
	wantVerdict(t, res, Proved)
	if res.Prover != s.proverHost.ID() || res.Site != s.site || !res.At.Equal(testTime) || len(res.Roots) != 2 {
		t.Fatalf("the evidence is about something else: %+v", res)
	}
	again, err := CheckProof(t.Context(), s.ours, res.Challenge, res.Answer)
	if err != nil || again.Verdict != Proved {
		t.Fatalf("a third party sees %q, %v", again.Verdict, err)
	}
}

func TestAuditCatchesAMissingOrCorruptBlockAndNamesTheRoot(t *testing.T) {
	for name, kind := range map[string]error{"missing": blockstore.ErrNotFound, "corrupt": blockstore.ErrCorrupt, "unreadable": blockstore.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			s := newAuditScene(t)
			s.theirs.breakBlock(s.leaf["d"], kind)
			res := s.audit(t, s.first, s.second)
			wantVerdict(t, res, NotHeld)
			if res.Missing != s.second {
				t.Fatalf("it names %s, want the second root", res.Missing)
			}
			again, err := CheckProof(t.Context(), s.ours, res.Challenge, res.Answer)
			if err != nil || again.Verdict != NotHeld || again.Missing != s.second {
				t.Fatalf("a third party sees %+v, %v", again, err)
			}
		})
	}
}

func TestAuditOfARootThatWasReleasedIsNoLie(t *testing.T) {
	s := newAuditScene(t)
	s.held[s.second] = false   // every block is still there
	for range AuditBurst + 1 { // and asking costs the verifier nothing
		res := s.audit(t, s.first, s.second)
		wantVerdict(t, res, NotHeld)
		if res.Missing != s.second {
			t.Fatalf("it names %s", res.Missing)
		}
	}
}

// liar answers each challenge with a signed proof of its own making.
func liar(s *auditScene, digest func(AuditChallenge) [32]byte) {
	s.proverHost.SetStreamHandler(AuditProtocol, func(st network.Stream) {
		defer st.Close()
		raw, err := readMessage(bufio.NewReader(st))
		if err != nil {
			return
		}
		c, err := ParseAuditChallenge(raw)
		if err != nil {
			return
		}
		signed, err := auditAnswer{challenge: challengeHash(raw), verdict: answerProof, digest: digest(c)}.encode(keyNumber(2))
		if err != nil {
			return
		}
		writeMessage(st, signed)
	})
}

func TestAuditConvictsAHostThatHasOneByteWrong(t *testing.T) {
	s := newAuditScene(t)
	liar(s, func(c AuditChallenge) [32]byte {
		return plainDigest(t, s.tree, c, func(c cid.Cid, data []byte) []byte {
			if c == s.leaf["c"] {
				data = bytes.Clone(data)
				data[777] ^= 1
			}
			return data
		})
	})
	res := s.audit(t, s.first)
	wantVerdict(t, res, Wrong)

	again, err := CheckProof(t.Context(), s.theirs, res.Challenge, res.Answer)
	if err != nil || again.Verdict != Wrong || again.Prover != s.proverHost.ID() {
		t.Fatalf("a third party sees %+v, %v", again, err)
	}
	for name, forged := range map[string][2][]byte{
		"challenge": {flip(res.Challenge, len(res.Challenge)/2), res.Answer},
		"answer":    {res.Challenge, flip(res.Answer, len(res.Answer)/2)},
	} {
		if res, err := CheckProof(t.Context(), s.theirs, forged[0], forged[1]); err == nil {
			t.Fatalf("a changed %s still gives %q", name, res.Verdict)
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestAProofCanNotBeRelayedFromAnotherHost(t *testing.T) {
	// The prover asked has nothing, and asks the real holder (key 3) in turn.
	s := newAuditScene(t)
	holder := newHost(t, 3)
	introduce(s.proverHost, holder)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	real := NewAuditor(AuditorConfig{
		Host: holder, Key: keyNumber(3), Blocks: s.theirs, Now: s.clock.Now,
		Holds:   func(context.Context, cid.Cid) (bool, error) { return true, nil },
		Allowed: func(context.Context, peer.ID, naming.Name, []cid.Cid) bool { return true },
	})
	go func() { done <- real.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	waitFor(t, "the holder listens", func() bool { return speaksAudit(holder) })

	var forwarded error
	liar(s, func(c AuditChallenge) [32]byte {
		raw, _ := c.encode(keyNumber(1)) // as if it had kept the bytes as they came
		relay := &Auditor{cfg: AuditorConfig{Host: s.proverHost}}
		asHolder := c
		asHolder.Prover = holder.ID()
		_, _, forwarded = relay.ask(ctx, asHolder, raw)

		own := c
		own.Verifier, own.Prover = s.proverHost.ID(), holder.ID()
		raw, _ = own.encode(keyNumber(2))
		answer, _, err := relay.ask(ctx, own, raw)
		if err != nil || answer.verdict != answerProof {
			t.Errorf("the holder gave the relay no proof: %+v, %v", answer, err)
		}
		return answer.digest
	})
	wantVerdict(t, s.audit(t, s.first), Wrong)
	if forwarded == nil {
		t.Fatal("the holder answered a challenge that was made for another")
	}
}

func TestAuditRefusesStrangers(t *testing.T) {
	s := newAuditScene(t)
	h := newHost(t, 9)
	introduce(h, s.proverHost)
	stranger := NewAuditor(AuditorConfig{Host: h, Key: keyNumber(9), Blocks: s.ours, Now: s.clock.Now})
	res, err := stranger.Audit(t.Context(), s.proverHost.ID(), s.site, []cid.Cid{s.first})
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, res, Refused)

	res, err = s.verifier.Audit(t.Context(), s.proverHost.ID(), siteNumber(101), []cid.Cid{s.first})
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, res, Refused)
}

func TestAuditRefusesWhenTheClocksAreADayApart(t *testing.T) {
	s := newAuditScene(t)
	s.proverClock.advance(MaxClockSkew)
	wantVerdict(t, s.audit(t, s.first), Proved)
	s.proverClock.advance(time.Second)
	wantVerdict(t, s.audit(t, s.first), Refused)
}

func TestAuditIsBusyAfterSixAndThenOnceAnHour(t *testing.T) {
	s := newAuditScene(t)
	for range AuditBurst {
		wantVerdict(t, s.audit(t, s.first, s.second), Proved)
	}
	res := s.audit(t, s.second, s.first) // the same set in another order
	wantVerdict(t, res, Busy)
	if want := testTime.Add(AuditInterval); !res.Until.Equal(want) {
		t.Fatalf("busy until %v, want %v", res.Until, want)
	}
	wantVerdict(t, s.audit(t, s.first), Proved) // another set
	s.clock.advance(AuditInterval)
	s.proverClock.advance(AuditInterval)
	wantVerdict(t, s.audit(t, s.first, s.second), Proved)
	wantVerdict(t, s.audit(t, s.first, s.second), Busy)
}

func TestAuditIsBusyWhileOtherProofsAreComputed(t *testing.T) {
	s := newAuditScene(t, func(cfg *AuditorConfig) { cfg.MaxConcurrent = 1 })
	entered, release := make(chan struct{}, 100), make(chan struct{})
	s.theirs.wait = func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	first := make(chan AuditResult, 1)
	go func() {
		res, err := s.verifier.Audit(context.Background(), s.proverHost.ID(), s.site, []cid.Cid{s.first})
		if err != nil {
			t.Error(err)
		}
		first <- res
	}()
	<-entered
	res := s.audit(t, s.second)
	wantVerdict(t, res, Busy)
	if !res.Until.After(testTime) {
		t.Fatalf("busy until %v", res.Until)
	}
	close(release)
	wantVerdict(t, <-first, Proved)
}

func TestSilenceOfALivingHostIsAMiss(t *testing.T) {
	s := newAuditScene(t)
	s.verifier.cfg.Timeout = time.Second
	ended := make(chan struct{})
	s.proverHost.SetStreamHandler(AuditProtocol, func(st network.Stream) {
		defer close(ended)
		io.Copy(io.Discard, st)
	})
	res := s.audit(t, s.first)
	wantVerdict(t, res, Missed)
	if res.Took < 500*time.Millisecond {
		t.Fatalf("it took %v to notice", res.Took)
	}
	if len(res.Answer) != 0 {
		t.Fatal("silence has bytes")
	}
	<-ended // the stream was closed
}

func TestAnAnswerThatIsNotValidIsAMiss(t *testing.T) {
	s := newAuditScene(t)
	valid := func(st network.Stream, key byte, change func(*auditAnswer)) []byte {
		raw, err := readMessage(bufio.NewReader(st))
		if err != nil {
			return nil
		}
		a := auditAnswer{challenge: challengeHash(raw), verdict: answerRefused}
		change(&a)
		signed, err := a.encode(keyNumber(key))
		if err != nil {
			t.Error(err)
		}
		return signed
	}
	same := func(*auditAnswer) {}
	for name, answer := range map[string]func(network.Stream){
		"hangs up":          func(network.Stream) {},
		"garbage":           func(st network.Stream) { writeMessage(st, []byte("garbage")) },
		"huge":              func(st network.Stream) { st.Write(varint.ToUvarint(1 << 62)) },
		"one byte too long": func(st network.Stream) { st.Write(varint.ToUvarint(maxMessage + 1)) },
		"cut":               func(st network.Stream) { st.Write([]byte{100, 1, 2}) },
		"another's key":     func(st network.Stream) { writeMessage(st, valid(st, 3, same)) },
		"another challenge": func(st network.Stream) {
			writeMessage(st, valid(st, 2, func(a *auditAnswer) { a.challenge[0] ^= 1 }))
		},
		"a root not asked for": func(st network.Stream) {
			writeMessage(st, valid(st, 2, func(a *auditAnswer) { a.verdict, a.missing = answerNotHeld, s.second }))
		},
		"an unknown verdict": func(st network.Stream) {
			writeMessage(st, valid(st, 2, func(a *auditAnswer) { a.verdict = "maybe" }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.proverHost.SetStreamHandler(AuditProtocol, func(st network.Stream) {
				defer st.Close()
				answer(st)
			})
			wantVerdict(t, s.audit(t, s.first), Missed)
		})
	}
	t.Run("does not speak it", func(t *testing.T) {
		s.proverHost.RemoveStreamHandler(AuditProtocol)
		wantVerdict(t, s.audit(t, s.first), Missed)
	})
}

func TestAHostWithoutRoomForAPingIsAlive(t *testing.T) {
	s := newAuditScene(t)
	s.proverHost.SetStreamHandler(AuditProtocol, func(st network.Stream) { st.Reset() })
	const most = 2 // pings of one peer that libp2p takes at a time
	for range most {
		st, err := s.verifierHost.NewStream(t.Context(), s.proverHost.ID(), ping.ID)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Reset()
		if _, err := st.Write(make([]byte, ping.PingSize)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(st, make([]byte, ping.PingSize)); err != nil {
			t.Fatal(err)
		}
	}
	wantVerdict(t, s.audit(t, s.first), Missed)
}

func TestAnUnreachableHostIsDownNotAtFault(t *testing.T) {
	s := newAuditScene(t)
	wantVerdict(t, s.audit(t, s.first), Proved)
	s.proverHost.Close()
	wantVerdict(t, s.audit(t, s.first), Unreachable)

	stranger := newHost(t, 4)
	res, err := s.verifier.Audit(t.Context(), stranger.ID(), s.site, []cid.Cid{s.first}) // no address known
	if err != nil {
		t.Fatal(err)
	}
	wantVerdict(t, res, Unreachable)
}

func TestAHostThatGoesDownInMidProofIsUnreachable(t *testing.T) {
	s := newAuditScene(t)
	s.proverHost.SetStreamHandler(AuditProtocol, func(st network.Stream) {
		readMessage(bufio.NewReader(st))
		s.proverHost.Close()
	})
	wantVerdict(t, s.audit(t, s.first), Unreachable)
}

func TestAuditFailsOnOurSideWhenTheOwnCopyIsNotWhole(t *testing.T) {
	s := newAuditScene(t)
	s.ours.breakBlock(s.leaf["b"], blockstore.ErrCorrupt)
	res, err := s.verifier.Audit(t.Context(), s.proverHost.ID(), s.site, []cid.Cid{s.first})
	if !errors.Is(err, blockstore.ErrCorrupt) {
		t.Fatalf("got %q, %v; a verifier without the bytes can't judge", res.Verdict, err)
	}
	if _, err := CheckProof(t.Context(), s.ours, nil, nil); !errors.Is(err, merkle.ErrMalformed) {
		t.Fatal(err)
	}
}

func TestAProverStopsReadingWhenTheVerifierGoesAway(t *testing.T) {
	s := newAuditScene(t)
	entered, stopped := make(chan struct{}, 100), make(chan struct{}, 100)
	s.theirs.wait = func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		stopped <- struct{}{}
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() {
		_, err := s.verifier.Audit(ctx, s.proverHost.ID(), s.site, []cid.Cid{s.first})
		errs <- err
	}()
	<-entered
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-stopped
}

func TestServeEndsItsStreamsAndStopsListening(t *testing.T) {
	s := newAuditScene(t)
	entered := make(chan struct{}, 100)
	s.theirs.wait = func(ctx context.Context) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	result := make(chan AuditResult, 1)
	go func() {
		res, err := s.verifier.Audit(context.Background(), s.proverHost.ID(), s.site, []cid.Cid{s.first})
		if err != nil {
			t.Error(err)
		}
		result <- res
	}()
	<-entered
	s.stopProver()
	<-s.proverFinished
	if speaksAudit(s.proverHost) {
		t.Fatal("it still listens")
	}
	wantVerdict(t, <-result, Missed)
}

// A verifier of another make closes its side as soon as it has asked.
func TestAVerifierMayCloseItsSideAfterTheChallenge(t *testing.T) {
	s := newAuditScene(t)
	if err := s.verifier.connect(t.Context(), s.proverHost.ID()); err != nil {
		t.Fatal(err)
	}
	c := sampleChallenge(s)
	raw, err := c.encode(keyNumber(1))
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.verifierHost.NewStream(t.Context(), s.proverHost.ID(), AuditProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Reset()
	if err := writeMessage(st, raw); err != nil {
		t.Fatal(err)
	}
	st.CloseWrite()
	signed, err := readMessage(bufio.NewReader(st))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := parseAnswer(signed, c, raw); err != nil || a.verdict != answerProof {
		t.Fatalf("%+v, %v", a, err)
	}
}

func TestAuditChecksItsArguments(t *testing.T) {
	s := newAuditScene(t)
	many := make([]cid.Cid, maxAuditRoots+1)
	for i := range many {
		many[i] = numberedCID(t, i)
	}
	for name, roots := range map[string][]cid.Cid{
		"none": nil, "twice": {s.first, s.first}, "undefined": {cid.Undef}, "too many": many,
	} {
		if _, err := s.verifier.Audit(t.Context(), s.proverHost.ID(), s.site, roots); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.verifier.Audit(t.Context(), s.verifierHost.ID(), s.site, []cid.Cid{s.first}); !errors.Is(err, ErrInvalid) {
		t.Errorf("oneself: %v", err)
	}
	other := NewAuditor(AuditorConfig{Host: s.verifierHost, Key: keyNumber(5), Blocks: s.ours})
	if err := other.Serve(t.Context()); !errors.Is(err, ErrInvalid) {
		t.Errorf("another's key: %v", err)
	}
}
