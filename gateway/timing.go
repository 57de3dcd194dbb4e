package gateway

import (
	"net/http"
	"strconv"
	"time"
)

// timed are the steps of which Server-Timing tells how long they took.
var timed = []Step{StepName, StepPath, StepBlock}

// spend adds to what a step took. What is awaited at the same time counts each
// for itself.
func (t *trace) spend(step Step, d time.Duration) {
	switch step {
	case StepRecord:
		step = StepName
	case StepRoot:
		step = StepPath
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range timed {
		if s == step {
			t.spent[i] += d
		}
	}
}

// timing sets Server-Timing to how long name, path and content were waited for
// until the header goes out; nothing where none of them was. Durations only: what
// was asked, and of whom, is nobody's business.
//
// Source: https://www.w3.org/TR/server-timing/
func (t *trace) timing(h http.Header) {
	t.mu.Lock()
	spent := t.spent
	t.mu.Unlock()
	var b []byte
	for i, d := range spent {
		if d <= 0 {
			continue
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(b, timed[i]...)
		b = append(b, ";dur="...)
		b = strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', -1, 64)
	}
	if len(b) > 0 {
		h["Server-Timing"] = []string{string(b)}
	}
}
