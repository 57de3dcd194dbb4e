package replicate

import "time"

// Trial is what a member's failures to prove that it holds one site say about it to one
// verifier, by Wald's sequential probability ratio test of a miss rate of 1 %
// against 10 %. Its zero value has heard nothing. It is a plain value whose
// JSON is how it is stored.
type Trial struct {
	Score int64     `json:"score"` // log-likelihood ratio of guilt, in millionths; from 0 on again once it is acquitted
	Miss  time.Time `json:"miss"`  // the last miss that counted
	Out   time.Time `json:"out"`   // since when its misses convict it; zero: they don't
	Wrong time.Time `json:"wrong"` // when it signed a false proof; zero: never. That is permanent
}

// MissSpacing is how far apart misses have to be to count each: one fault
// lasts a while, and is one fault.
const MissSpacing = 6 * time.Hour

// Wald, Sequential Analysis (1947), with p0 = 1 %, p1 = 10 %, alpha = 1e-6, beta = 1 %, in millionths of a nat.
const (
	missWeight  = 2_302_585  // ln(p1 / p0)
	proofWeight = -95_310    // ln((1-p1) / (1-p0))
	convictAt   = 13_805_460 // ln((1-beta) / alpha)
	acquitAt    = -4_605_169 // ln(beta / (1-alpha))
)

// Add takes in an audit of our own. Downtime, busy, refused and an honest "I
// don't hold it" say nothing about honesty.
func (t *Trial) Add(v Verdict, at time.Time) {
	switch v {
	case Wrong:
		if t.Wrong.IsZero() {
			t.Wrong = at
		}
	case Proved:
		t.Score += proofWeight
	case Missed:
		// A last miss that is yet to come was written by a clock that ran ahead.
		if since := at.Sub(t.Miss); !t.Miss.IsZero() && since >= 0 && since < MissSpacing {
			return
		}
		t.Miss = at
		t.Score += missWeight
	}
	switch {
	case t.Score >= convictAt:
		t.Score = convictAt
		if t.Out.IsZero() {
			t.Out = at
		}
	case t.Score <= acquitAt:
		t.Score, t.Out = 0, time.Time{}
	}
}

// Convicted tells whether this verifier calls the host a liar. A conviction for
// misses ends when as many proofs have come as acquit; one for a false proof never does.
func (t Trial) Convicted() bool { return !t.Wrong.IsZero() || !t.Out.IsZero() }
