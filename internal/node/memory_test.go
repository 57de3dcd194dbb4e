package node

import "testing"

func TestMemoryIsGivenBackOnceTheNodeHasComeToRest(t *testing.T) {
	const mb = 1 << 20
	var r rest
	for i, step := range []struct {
		now  memoryUse
		want bool
		left uint64 // where it is given back
	}{
		{memoryUse{allocated: 500 * mb, held: 200 * mb, live: 60 * mb}, false, 0},       // at work
		{memoryUse{allocated: 900 * mb, held: 200 * mb, live: 60 * mb}, false, 0},       // still
		{memoryUse{allocated: 901 * mb, held: 200 * mb, live: 60 * mb}, true, 90 * mb},  // at rest
		{memoryUse{allocated: 902 * mb, held: 90 * mb, live: 60 * mb}, false, 0},        // what is left can't be had
		{memoryUse{allocated: 903 * mb, held: 90 * mb, live: 90 * mb}, true, 70 * mb},   // settled: what is no longer needed is known after a collection
		{memoryUse{allocated: 904 * mb, held: 71 * mb, live: 60 * mb}, false, 0},        // once
		{memoryUse{allocated: 911 * mb, held: 106 * mb, live: 60 * mb}, true, 70 * mb},  // garbage gathers slowly, too
		{memoryUse{allocated: 950 * mb, held: 130 * mb, live: 60 * mb}, false, 0},       // at work again
		{memoryUse{allocated: 951 * mb, held: 70 * mb, live: 60 * mb}, false, 0},        // nothing much to give
		{memoryUse{allocated: 952 * mb, held: 170 * mb, live: 110 * mb}, true, 60 * mb}, // there is
		{memoryUse{allocated: 1000 * mb, held: 130 * mb, live: 60 * mb}, false, 0},      // at work
	} {
		got := r.due(step.now)
		if got != step.want {
			t.Errorf("step %d: %t, want %t", i, got, step.want)
		}
		if got {
			r.gave(memoryUse{allocated: step.now.allocated, held: step.left, live: step.left})
		}
	}
	if m := readMemory(); m.allocated == 0 || m.held == 0 {
		t.Errorf("the runtime tells nothing: %+v", m)
	}
}
