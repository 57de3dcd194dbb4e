package replicate

import "time"

// Trial is what a host's failures to prove itself say about it, by Wald's
// sequential test of a miss rate of 1 % against 10 %. Its zero value has heard nothing.
// It is a plain value whose JSON is how it is stored.
type Trial struct {
	Score int64     `json:"score"` // log-likelihood ratio, fixed point
	Miss  time.Time `json:"miss"`  // the last miss that counted
	Wrong time.Time `json:"wrong"` // when it signed a false proof; zero: never. That is permanent
}

// Add takes in an audit of our own. Downtime, busy and refused say nothing. TODO(skeleton)
func (t *Trial) Add(v Verdict, at time.Time) {}

// Convicted tells whether this verifier calls the host a liar. TODO(skeleton)
func (t Trial) Convicted() bool { return !t.Wrong.IsZero() }
