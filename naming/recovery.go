package naming

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// What is hashed, signed and derived for rotation is told apart by these words (docs/formats.md).
const (
	commitmentWords = "holdfast-recovery-key/1\n"
	lastRecordWords = "holdfast-last-record/1\n"
	siteKeyInfo     = "holdfast site key v1"
	recoveryKeyInfo = "holdfast recovery key v1"
)

// endOfTime is how long a last record lives: as long as a record can say.
var endOfTime = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)

// Commitment is the hash of a site's recovery key, which each record of the site carries. The zero value is none.
type Commitment [sha256.Size]byte

// IsZero tells whether there is none.
func (c Commitment) IsZero() bool { return c == Commitment{} }

// String is the commitment in hex; "" for none.
func (c Commitment) String() string {
	if c.IsZero() {
		return ""
	}
	return hex.EncodeToString(c[:])
}

// Seed is what a site is born from, and all that a backup needs: the site's key and its recovery key follow from it. Whoever
// has it is the site for good. The zero value is none.
type Seed [32]byte

// NewSeed makes one by chance.
func NewSeed() (Seed, error) {
	var s Seed
	_, err := rand.Read(s[:])
	return s, err
}

// String and GoString keep a seed out of what is printed.
func (s Seed) String() string   { return "seed" }
func (s Seed) GoString() string { return "seed" }

// MarshalText keeps it out of JSON, and so of structured logs.
func (s Seed) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// IsZero tells whether there is none.
func (s Seed) IsZero() bool { return s == Seed{} }

// siteKey is the key that signs the site's records.
func (s Seed) siteKey() (crypto.PrivKey, error) {
	key, err := s.derive(siteKeyInfo)
	if err != nil {
		return nil, err
	}
	return crypto.UnmarshalEd25519PrivateKey(key)
}

// Recovery is the key that can move the site to another name.
func (s Seed) Recovery() (RecoveryKey, error) {
	key, err := s.derive(recoveryKeyInfo)
	return RecoveryKey{key}, err
}

func (s Seed) derive(info string) (ed25519.PrivateKey, error) {
	sub, err := hkdf.Key(sha256.New, s[:], nil, info, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return ed25519.NewKeyFromSeed(sub), nil
}

// RecoveryKey signs a site's last record beside the site's own key. Seed.Recovery makes one.
type RecoveryKey struct{ key ed25519.PrivateKey }

// String and GoString keep the key out of what is printed.
func (k RecoveryKey) String() string   { return "recovery key" }
func (k RecoveryKey) GoString() string { return "recovery key" }

// Commitment is what the site's records say of the key.
func (k RecoveryKey) Commitment() Commitment {
	return commitmentTo(k.key.Public().(ed25519.PublicKey))
}

func commitmentTo(key ed25519.PublicKey) Commitment {
	return sha256.Sum256(append([]byte(commitmentWords), key...))
}

// lastProof is what a last record carries beside what every record has.
type lastProof struct {
	key ed25519.PublicKey
	sig []byte
}

// check tells whether the proof moves the site from one name to the other.
func (p lastProof) check(c Commitment, from, to Name) error {
	switch {
	case len(p.key) != ed25519.PublicKeySize || len(p.sig) != ed25519.SignatureSize:
		return fmt.Errorf("%w: its recovery key or signature is missing", ErrRecovery)
	case commitmentTo(p.key) != c:
		return fmt.Errorf("%w: its recovery key is not the one that the site has committed to", ErrRecovery)
	case !ed25519.Verify(p.key, lastMessage(from, to), p.sig):
		return fmt.Errorf("%w: the recovery key's signature is wrong", ErrRecovery)
	}
	return nil
}

// lastMessage is what the recovery key signs.
func lastMessage(from, to Name) []byte {
	m := []byte(lastRecordWords)
	for _, n := range []Name{from, to} {
		m = binary.AppendUvarint(m, uint64(len(n.id)))
		m = append(m, n.id...)
	}
	return m
}

// SignLast makes the last record of a site, which leads to another name for ever: nothing can follow it. best is the best
// record seen by self and network. It carries the commitment to the recovery key, or none where the site's key does: who
// stole that may have left it out. ErrRecovery otherwise; ErrInvalidRecord where the site has a last record already, or
// would lead to itself.
func SignLast(site Signer, recovery RecoveryKey, best Record, to Name) (Record, error) {
	switch {
	case best.IsZero() || best.Name() != site.Name():
		return Record{}, fmt.Errorf("%w: nothing was published under %s yet", ErrInvalidRecord, site.Name())
	case best.Sequence() == MaxSequence:
		return Record{}, fmt.Errorf("%w: %s has its last record already, which leads to %s", ErrInvalidRecord, best.Name(), best.Value())
	case best.Recovery() != recovery.Commitment() && !(best.Recovery().IsZero() && site.Recovery() == recovery.Commitment()):
		return Record{}, fmt.Errorf("%w: this recovery key is not the one that %s has committed to", ErrRecovery, best.Name())
	case to == site.Name() || to.IsZero():
		return Record{}, fmt.Errorf("%w: a site can't lead to itself", ErrInvalidRecord)
	}
	return site.Sign(Statement{
		Value: Namespace + to.String(), Sequence: MaxSequence, ValidUntil: endOfTime, Recovery: recovery.Commitment(),
		last: lastProof{recovery.key.Public().(ed25519.PublicKey), ed25519.Sign(recovery.key, lastMessage(site.Name(), to))},
	})
}

// checkLast is what a record owes to the commitment that it carries itself.
func (s *recordState) checkLast() error {
	if s.sequence != MaxSequence || s.recovery.IsZero() {
		return nil
	}
	if s.value.target.IsZero() || !s.value.bare {
		return fmt.Errorf("%w: a last record leads to another name", ErrRecovery)
	}
	return s.last.check(s.recovery, s.name, s.value.target)
}

// IsLast tells whether r is a site's last record, which leads to its new name with the recovery key's word. A record of the
// last sequence of a name without a commitment is none.
func (r Record) IsLast() bool { return r.s.sequence == MaxSequence && !r.s.recovery.IsZero() }

// MayFollow tells whether r may take the place of best, whatever their order: it carries the same commitment where best
// carries one. ErrRecovery otherwise.
func (r Record) MayFollow(best Record) error {
	if r.IsZero() || best.IsZero() || best.Recovery().IsZero() || r.Recovery() == best.Recovery() {
		return nil
	}
	return breach(r)
}

func breach(r Record) error {
	return fmt.Errorf("%w: sequence %d of %s breaks with it", ErrRecovery, r.Sequence(), r.Name())
}

// keepsFaith refuses a record that breaks with the site's recovery key, as far as that is known here: by what was kept
// when the asking began, or else by the site's own key.
func (a *asking) keepsFaith(rec Record) error {
	if !a.floor.IsZero() && !a.floor.Recovery().IsZero() || rec.Recovery().IsZero() {
		return rec.MayFollow(a.floor)
	}
	if own := a.r.cfg.Committed(a.name); !own.IsZero() && own != rec.Recovery() {
		return breach(rec)
	}
	return nil
}
