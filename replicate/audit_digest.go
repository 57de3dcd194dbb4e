package replicate

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-varint"
	"lukechampine.com/blake3"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/merkle"
)

// auditKeyContext is the context string of BLAKE3's key derivation.
const auditKeyContext = "holdfast 2026 audit key v1"

// key binds the digest to this one challenge and to both identities, so that
// an answer can be neither kept for later nor passed on.
func (c AuditChallenge) key() [32]byte {
	var material []byte
	add := func(b []byte) {
		material = append(material, varint.ToUvarint(uint64(len(b)))...)
		material = append(material, b...)
	}
	var roots []byte
	for _, r := range c.Roots {
		roots = append(roots, r.Bytes()...)
	}
	add(c.Nonce[:])
	add([]byte(c.Verifier.String()))
	add([]byte(c.Prover.String()))
	add([]byte(c.Site.String()))
	add(roots)
	add(binary.BigEndian.AppendUint64(nil, uint64(c.Epoch.Unix())))
	var key [32]byte
	blake3.DeriveKey(key[:], auditKeyContext, material)
	return key
}

// AuditDigest hashes all blocks under the challenge's roots, each once, in
// depth-first pre-order, keyed for this challenge; docs/formats.md. It is
// the same on every machine. Errors: those of merkle.Walk, for the first
// block that g can't give.
func AuditDigest(ctx context.Context, g blockstore.Getter, c AuditChallenge) ([32]byte, merkle.Count, error) {
	var digest [32]byte
	var count merkle.Count
	key := c.key()
	h := blake3.New(32, key[:])
	var length [varint.MaxLenUvarint63]byte
	for b, err := range merkle.Walk(ctx, g, c.Roots, merkle.WalkOptions{}) {
		if err != nil {
			return digest, count, err
		}
		for _, part := range [2][]byte{b.Cid().Bytes(), b.RawData()} {
			h.Write(length[:varint.PutUvarint(length[:], uint64(len(part)))])
			h.Write(part)
		}
		count.Blocks++
		count.Bytes += int64(b.Size())
	}
	h.Sum(digest[:0])
	return digest, count, nil
}

// brokenRoot finds the first root under which g lacks something.
func brokenRoot(ctx context.Context, g blockstore.Getter, roots []cid.Cid) cid.Cid {
	if len(roots) == 1 {
		return roots[0]
	}
	for _, root := range roots {
		for _, err := range merkle.Walk(ctx, g, []cid.Cid{root}, merkle.WalkOptions{}) {
			if err != nil {
				return root
			}
		}
	}
	return roots[0] // it was whole this time
}

// CheckProof judges signed messages that somebody else may have collected: a
// challenge and the answer to it. The digest of a proof is computed again from g, which must
// have everything under the roots. The result's Verdict is what the prover
// can be held to: Wrong is evidence against it that holds for ever.
//
// ErrSignature, merkle.ErrMalformed and merkle.ErrUnsupported say that the
// messages prove nothing; any other error that g could not give the blocks.
func CheckProof(ctx context.Context, g blockstore.Getter, challenge, answer []byte) (AuditResult, error) {
	c, err := ParseAuditChallenge(challenge)
	if err != nil {
		return AuditResult{}, err
	}
	a, err := parseAnswer(answer, c, challenge)
	if err != nil {
		return AuditResult{}, err
	}
	res := newResult(c, challenge)
	if a.verdict != answerProof {
		res.judge(a, answer, [32]byte{})
		return res, nil
	}
	want, _, err := AuditDigest(ctx, g, c)
	if err != nil {
		return AuditResult{}, fmt.Errorf("check a proof of %s: %w", c.Prover, err)
	}
	res.judge(a, answer, want)
	return res, nil
}

func newResult(c AuditChallenge, raw []byte) AuditResult {
	return AuditResult{
		At: c.Epoch, Prover: c.Prover, Verifier: c.Verifier, Site: c.Site, Roots: c.Roots, Challenge: raw,
	}
}

// judge fills in what a valid answer means; want matters for a proof only.
func (res *AuditResult) judge(a auditAnswer, raw []byte, want [32]byte) {
	res.Answer = raw
	switch a.verdict {
	case answerProof:
		res.Verdict = Proved
		if a.digest != want {
			res.Verdict = Wrong
			res.Detail = "it signed a proof that is false"
		}
	case answerNotHeld:
		res.Verdict, res.Missing = NotHeld, a.missing
		res.Detail = fmt.Sprintf("it does not hold all of %s", a.missing)
	case answerBusy:
		res.Verdict, res.Until = Busy, a.until
		res.Detail = "it asks to come back later"
	case answerRefused:
		res.Verdict = Refused
		res.Detail = "it does not answer this verifier about these roots"
	}
}

// challengeHash is what an answer names its challenge by.
func challengeHash(raw []byte) [32]byte { return sha256.Sum256(raw) }

// isBlockError tells a fault of the blocks from one of the audit itself.
func isBlockError(err error) bool {
	for _, kind := range []error{
		blockstore.ErrNotFound, blockstore.ErrUnavailable, blockstore.ErrCorrupt, blockstore.ErrRefused,
		merkle.ErrMalformed, merkle.ErrLimit, merkle.ErrUnsupported,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
