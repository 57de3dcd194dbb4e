package replicate

import (
	"encoding/json"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/holdfast-sites/holdfast/merkle"
)

// envelope is JSON signed by a peer key: what hosts say of themselves, docs/formats.md.
type envelope struct {
	Payload   []byte  `json:"payload"`
	Peer      peer.ID `json:"peer"`
	Signature []byte  `json:"signature"`
}

// seal makes the envelope of v. context begins what the signature covers, so
// that it is good for one purpose.
func seal(context string, v any, key crypto.PrivKey) ([]byte, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	signature, err := key.Sign(append([]byte(context), payload...))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return json.Marshal(envelope{Payload: payload, Peer: id, Signature: signature})
}

// unseal is an envelope's payload and who signed it. Known are the payload's fields that its
// crit may name. merkle.ErrMalformed, ErrSignature, merkle.ErrUnsupported.
func unseal(context string, raw []byte, max int, known []string) ([]byte, peer.ID, error) {
	if len(raw) > max {
		return nil, "", fmt.Errorf("%w: %d bytes, more than %d", merkle.ErrMalformed, len(raw), max)
	}
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, "", fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	key, err := e.Peer.ExtractPublicKey()
	if err != nil {
		return nil, "", fmt.Errorf("%w: the key of %q is not in its id: %v", merkle.ErrUnsupported, e.Peer, err)
	}
	if ok, err := key.Verify(append([]byte(context), e.Payload...), e.Signature); err != nil || !ok {
		return nil, "", ErrSignature
	}
	var shared struct {
		Version int64    `json:"version"`
		Crit    []string `json:"crit"`
	}
	if err := json.Unmarshal(e.Payload, &shared); err != nil {
		return nil, "", fmt.Errorf("%w: %v", merkle.ErrMalformed, err)
	}
	if shared.Version != formatVersion {
		return nil, "", unknownVersion(shared.Version)
	}
	return e.Payload, e.Peer, checkCrit(shared.Crit, known)
}
