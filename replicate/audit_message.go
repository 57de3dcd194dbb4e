package replicate

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-varint"

	"github.com/holdfast-sites/holdfast/merkle"
	"github.com/holdfast-sites/holdfast/naming"
)

// What the signatures cover begins with these, so that a signature over one
// kind of message can never pass for another's.
const (
	challengeContext = "holdfast-audit-challenge/1\n"
	answerContext    = "holdfast-audit-answer/1\n"
)

// maxSignature fits the largest RSA key that libp2p accepts.
const maxSignature = 1024

// ErrSignature says that a message was not signed by the peer it names.
var ErrSignature = fmt.Errorf("%w: the signature is not the peer's", merkle.ErrMalformed)

// AuditChallenge asks a prover to show that it holds everything under Roots.
type AuditChallenge struct {
	Site     naming.Name
	Roots    []cid.Cid // 1..64, no two equal, in the order in which they are hashed
	Epoch    time.Time // when it was made; whole seconds
	Nonce    [32]byte
	Verifier peer.ID
	Prover   peer.ID
	Deadline time.Time // whole seconds, by the verifier's clock
}

// auditAnswer is what a prover says.
type auditAnswer struct {
	challenge [32]byte // SHA2-256 of the challenge's bytes
	verdict   string
	digest    [32]byte  // of answerProof
	until     time.Time // of answerBusy
	missing   cid.Cid   // of answerNotHeld
}

// The verdicts on the wire.
const (
	answerProof   = "proof"
	answerNotHeld = "not_held"
	answerBusy    = "busy"
	answerRefused = "refused"
)

var (
	challengeFields = []string{"version", "site", "roots", "epoch", "nonce", "verifier", "prover", "deadline", "signature", "crit"}
	answerFields    = []string{"version", "challenge", "verdict", "digest", "until", "missing", "signature", "crit"}
)

// encode signs the challenge with the verifier's key.
func (c AuditChallenge) encode(key crypto.PrivKey) ([]byte, error) {
	return signMap(key, challengeContext, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "version", qp.Int(formatVersion))
		qp.MapEntry(m, "site", qp.String(c.Site.String()))
		qp.MapEntry(m, "roots", qp.List(int64(len(c.Roots)), func(l datamodel.ListAssembler) {
			for _, r := range c.Roots {
				qp.ListEntry(l, qp.Link(cidlink.Link{Cid: r}))
			}
		}))
		qp.MapEntry(m, "epoch", qp.Int(c.Epoch.Unix()))
		qp.MapEntry(m, "nonce", qp.Bytes(c.Nonce[:]))
		qp.MapEntry(m, "verifier", qp.String(c.Verifier.String()))
		qp.MapEntry(m, "prover", qp.String(c.Prover.String()))
		qp.MapEntry(m, "deadline", qp.Int(c.Deadline.Unix()))
	})
}

// ParseAuditChallenge reads a challenge and checks the verifier's signature.
// merkle.ErrMalformed, ErrSignature, merkle.ErrUnsupported.
func ParseAuditChallenge(raw []byte) (AuditChallenge, error) {
	c, err := parseChallenge(raw)
	if err != nil {
		return AuditChallenge{}, fmt.Errorf("audit challenge: %w", err)
	}
	return c, nil
}

func parseChallenge(raw []byte) (AuditChallenge, error) {
	var c AuditChallenge
	n, err := decodeMap(raw, maxMessage)
	if err != nil {
		return c, err
	}
	r := readObject(n, challengeFields)
	if r.err != nil {
		return c, r.err
	}
	site := r.text("site", maxPeerID)
	for _, root := range r.list("roots", 1, maxAuditRoots) {
		c.Roots = append(c.Roots, r.asLink("roots", root))
	}
	c.Epoch = time.Unix(r.integer("epoch", 0, maxUnix), 0).UTC()
	copy(c.Nonce[:], r.bytes("nonce", 32))
	c.Verifier = r.peerID("verifier")
	c.Prover = r.peerID("prover")
	c.Deadline = time.Unix(r.integer("deadline", 0, maxUnix), 0).UTC()
	signature := r.bytesUpTo("signature", maxSignature)
	if r.err != nil {
		return c, r.err
	}
	if c.Site, err = naming.ParseName(site); err != nil || c.Site.String() != site {
		return c, fmt.Errorf("%w: site %q is no name in base36", merkle.ErrMalformed, site)
	}
	if err := checkRoots(c.Roots); err != nil {
		return c, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if !c.Deadline.After(c.Epoch) {
		return c, fmt.Errorf("%w: the deadline is not after the epoch", merkle.ErrMalformed)
	}
	return c, verifyMap(n, challengeContext, signature, c.Verifier)
}

func checkRoots(roots []cid.Cid) error {
	if len(roots) == 0 || len(roots) > maxAuditRoots {
		return fmt.Errorf("%d roots, not 1..%d", len(roots), maxAuditRoots)
	}
	for i, r := range roots {
		if !r.Defined() {
			return errors.New("an undefined root")
		}
		if slices.Contains(roots[:i], r) {
			return fmt.Errorf("root %s twice", r)
		}
	}
	return nil
}

// encode signs the answer with the prover's key.
func (a auditAnswer) encode(key crypto.PrivKey) ([]byte, error) {
	return signMap(key, answerContext, func(m datamodel.MapAssembler) {
		digest, until := []byte{}, int64(0)
		missing := qp.Null()
		switch a.verdict {
		case answerProof:
			digest = a.digest[:]
		case answerBusy:
			until = a.until.Unix()
		case answerNotHeld:
			missing = qp.Link(cidlink.Link{Cid: a.missing})
		}
		qp.MapEntry(m, "version", qp.Int(formatVersion))
		qp.MapEntry(m, "challenge", qp.Bytes(a.challenge[:]))
		qp.MapEntry(m, "verdict", qp.String(a.verdict))
		qp.MapEntry(m, "digest", qp.Bytes(digest))
		qp.MapEntry(m, "until", qp.Int(until))
		qp.MapEntry(m, "missing", missing)
	})
}

// parseAnswer reads an answer to the challenge, whose bytes are given, and
// checks that it answers just that, that it is consistent, and who signed it.
func parseAnswer(raw []byte, c AuditChallenge, challenge []byte) (auditAnswer, error) {
	a, err := readAnswer(raw, c, challenge)
	if err != nil {
		return auditAnswer{}, fmt.Errorf("audit answer: %w", err)
	}
	return a, nil
}

func readAnswer(raw []byte, c AuditChallenge, challenge []byte) (auditAnswer, error) {
	var a auditAnswer
	n, err := decodeMap(raw, maxMessage)
	if err != nil {
		return a, err
	}
	r := readObject(n, answerFields)
	if r.err != nil {
		return a, r.err
	}
	copy(a.challenge[:], r.bytes("challenge", 32))
	a.verdict = r.text("verdict", maxName)
	digest := r.bytes("digest", 0, 32)
	copy(a.digest[:], digest)
	until := r.integer("until", 0, maxUnix)
	if m := r.field("missing"); m.Kind() != datamodel.Kind_Null {
		a.missing = r.asLink("missing", m)
	}
	signature := r.bytesUpTo("signature", maxSignature)
	if r.err != nil {
		return a, r.err
	}
	if until != 0 {
		a.until = time.Unix(until, 0).UTC()
	}
	if a.challenge != sha256.Sum256(challenge) {
		return a, fmt.Errorf("%w: it answers another challenge", merkle.ErrMalformed)
	}
	if err := a.consistent(len(digest), c.Roots); err != nil {
		return a, fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	return a, verifyMap(n, answerContext, signature, c.Prover)
}

// consistent wants each field exactly where the verdict calls for it, so that
// a signed answer means one thing.
func (a auditAnswer) consistent(digestLen int, roots []cid.Cid) error {
	switch a.verdict {
	case answerProof, answerNotHeld, answerBusy, answerRefused:
	default:
		return fmt.Errorf("verdict %q is not known", a.verdict)
	}
	if (digestLen != 0) != (a.verdict == answerProof) {
		return fmt.Errorf("%q with a digest of %d bytes", a.verdict, digestLen)
	}
	if a.until.IsZero() == (a.verdict == answerBusy) {
		return fmt.Errorf("%q until %v", a.verdict, a.until)
	}
	if a.missing.Defined() != (a.verdict == answerNotHeld) {
		return fmt.Errorf("%q with a missing root %v", a.verdict, a.missing)
	}
	if a.missing.Defined() && !slices.Contains(roots, a.missing) {
		return fmt.Errorf("missing %s was not asked for", a.missing)
	}
	return nil
}

// signMap encodes a map with a signature over itself, in which the signature
// is empty.
func signMap(key crypto.PrivKey, domain string, fill func(datamodel.MapAssembler)) ([]byte, error) {
	with := func(signature []byte) ([]byte, error) {
		return encodeMap(func(m datamodel.MapAssembler) {
			fill(m)
			qp.MapEntry(m, "signature", qp.Bytes(signature))
		})
	}
	unsigned, err := with([]byte{})
	if err != nil {
		return nil, err
	}
	signature, err := key.Sign(append([]byte(domain), unsigned...))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return with(signature)
}

// verifyMap checks the signature of a map by signer. Fields that are not known
// here are covered too, since all that came is encoded again.
func verifyMap(n datamodel.Node, domain string, signature []byte, signer peer.ID) error {
	key, err := signer.ExtractPublicKey()
	if err != nil {
		return fmt.Errorf("%w: the key of %s is not in its id: %v", merkle.ErrUnsupported, signer, err)
	}
	unsigned, err := encodeMap(func(m datamodel.MapAssembler) {
		for it := n.MapIterator(); !it.Done(); {
			k, v, err := it.Next()
			if err != nil {
				panic(err) // qp turns it into an error
			}
			name, err := k.AsString()
			if err != nil {
				panic(err)
			}
			if name == "signature" {
				v = basicnode.NewBytes(nil)
			}
			qp.MapEntry(m, name, qp.Node(v))
		}
	})
	if err != nil {
		return fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	ok, err := key.Verify(append([]byte(domain), unsigned...), signature)
	if err != nil || !ok {
		return ErrSignature
	}
	return nil
}

// readMessage reads one length-prefixed message. The length is checked before
// anything is allocated.
func readMessage(r *bufio.Reader) ([]byte, error) {
	n, err := varint.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > maxMessage {
		return nil, fmt.Errorf("%w: message of %d bytes, more than %d", merkle.ErrMalformed, n, maxMessage)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// writeMessage writes one message with its length in one write.
func writeMessage(w io.Writer, raw []byte) error {
	if len(raw) > maxMessage {
		return fmt.Errorf("message of %d bytes, more than %d", len(raw), maxMessage)
	}
	_, err := io.Copy(w, bytes.NewReader(append(varint.ToUvarint(uint64(len(raw))), raw...)))
	return err
}
