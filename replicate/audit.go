package replicate

import (
	"context"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/holdfast-sites/holdfast/blockstore"
	"github.com/holdfast-sites/holdfast/naming"
)

// AuditProtocol is the libp2p protocol of the full audit, docs/formats.md.
const AuditProtocol protocol.ID = "/holdfast/audit/1"

// Limits of the audit. Epochs further off than MaxClockSkew are refused. Unless it is
// configured otherwise, a verifier may audit one root set AuditBurst times at
// once, and then once every AuditInterval.
const (
	MaxClockSkew  = 24 * time.Hour
	AuditBurst    = 6
	AuditInterval = time.Hour

	// DefaultAuditTimeout is how long a prover gets for its answer.
	DefaultAuditTimeout = 10 * time.Minute
	// maxAuditTime bounds the time that a challenge may ask a prover to spend.
	maxAuditTime = 12 * time.Hour
	// maxAuditRoots is the largest root set.
	maxAuditRoots = 64
	// defaultConcurrentAudits is how many proofs are computed at once: each reads a whole site from disk.
	defaultConcurrentAudits = 2
	// maxAuditStreams bounds challenges in hand, before it is known who asks.
	maxAuditStreams = 64
	// messageTime is how long one message may take on the wire.
	messageTime = 15 * time.Second
	// connectTime is how long it may take to reach a prover.
	connectTime = 20 * time.Second
	// pingTime is how long a live prover may take to answer a ping.
	pingTime = 8 * time.Second
	// concurrencyWait is when to ask again a prover that is computing other proofs.
	concurrencyWait = 10 * time.Second
)

// AuditorConfig is what an Auditor works with. Host, Key and Blocks are required.
type AuditorConfig struct {
	Host host.Host
	Key  crypto.PrivKey // of Host's identity
	// Blocks is the own store, and nothing behind it: a prover that fetched
	// what it lacks would prove nothing, a verifier neither. It may mend what it
	// holds and finds damaged, before it answers.
	Blocks blockstore.Getter
	// Holds says whether a root is kept whole. Nil: no root is.
	Holds func(ctx context.Context, root cid.Cid) (bool, error)
	// Allowed says whether the verifier may ask about these roots of that
	// site. Nil: nobody may.
	Allowed func(ctx context.Context, verifier peer.ID, site naming.Name, roots []cid.Cid) bool
	// Timeout is how long a prover gets; 0: DefaultAuditTimeout. It is rounded up to seconds.
	Timeout time.Duration
	// MaxConcurrent is how many proofs are computed at once; 0: 2.
	MaxConcurrent int
	Interval      time.Duration    // 0: AuditInterval
	Burst         int              // 0: AuditBurst
	BytesPerDay   int64            // read for audits in a day (UTC), on either side, of which a restart begins a new one; 0: no limit
	Now           func() time.Time // nil: time.Now
	Log           *slog.Logger     // nil: discard
}

// Verdict is the outcome of one audit.
type Verdict string

// The verdicts. Only Proved counts as a copy; only Wrong is permanent.
const (
	Proved      Verdict = "proved"      // every byte under the roots
	Wrong       Verdict = "wrong"       // a signed proof that is false; see CheckProof
	NotHeld     Verdict = "not_held"    // the prover says so itself
	Busy        Verdict = "busy"        // ask again at Until
	Refused     Verdict = "refused"     // the prover does not answer us
	Missed      Verdict = "missed"      // no valid answer in time from a host that lives
	Unreachable Verdict = "unreachable" // downtime
)

// AuditResult is one piece of evidence: what we saw ourselves, and when.
type AuditResult struct {
	Verdict  Verdict
	At       time.Time     // when the challenge was made
	Took     time.Duration // until the answer was there
	Prover   peer.ID
	Verifier peer.ID
	Site     naming.Name
	Roots    []cid.Cid
	Detail   string    // for people: why
	Until    time.Time // of Busy: when to ask again; else zero
	Missing  cid.Cid   // of NotHeld: the root; else undefined
	// Challenge and Answer are the signed messages; Answer is empty where no
	// valid one came. Anybody who has the blocks can check them: CheckProof.
	Challenge, Answer []byte
}

// Auditor is both sides of the full audit. It promises to answer only those it
// is told to, at a bounded cost, and to call nothing proved that it didn't
// compute itself from its own copy. Make it with NewAuditor.
type Auditor struct {
	cfg   AuditorConfig
	self  peer.ID // of the key
	rate  *auditRate
	spent *auditBudget
	slots chan struct{} // proofs being computed
}

// NewAuditor makes an auditor. It does nothing until Serve or Audit is called.
func NewAuditor(cfg AuditorConfig) *Auditor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultAuditTimeout
	}
	if cfg.MaxConcurrent <= 0 {
		cfg.MaxConcurrent = defaultConcurrentAudits
	}
	return &Auditor{
		cfg:   cfg,
		self:  cfg.Host.ID(),
		rate:  newAuditRate(cfg.Interval, cfg.Burst),
		spent: &auditBudget{limit: cfg.BytesPerDay},
		slots: make(chan struct{}, cfg.MaxConcurrent),
	}
}
