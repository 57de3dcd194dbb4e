package replicate

import "time"

// Presence is what one observer has seen of a host's comings and goings, in
// constant space. Its zero value has seen nothing. It is a plain value: copying it is
// safe, and its JSON is how it is stored.
type Presence struct {
	First time.Time `json:"first"` // the first look
	Last  time.Time `json:"last"`  // the last look
	Seen  time.Time `json:"seen"`  // when it last answered
	Up    int       `json:"up"`    // looks that count (they are spaced, since looks a minute apart say the same), and it answered
	Down  int       `json:"down"`  // likewise, and it didn't
}

// NewUptime is what a host counts that nobody has observed yet, in millionths.
const NewUptime = 500_000

// Observe takes in one look. TODO(skeleton)
func (p *Presence) Observe(at time.Time, up bool) {}

// Uptime is a low estimate, in millionths: the 5 % quantile of what the looks
// leave possible; NewUptime where there are too few. TODO(skeleton)
func (p Presence) Uptime() int { return NewUptime }

// Patience is after how long a silence the host is presumed gone: its own 99th
// percentile of downtimes, from 12 h to 14 days. TODO(skeleton)
func (p Presence) Patience() time.Duration { return 24 * time.Hour }
