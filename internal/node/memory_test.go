package node

import "testing"

func TestMemoryIsGivenBackOnceTheNodeHasComeToRest(t *testing.T) {
	const mb = 1 << 20
	var r rest
	for i, step := range []struct {
		now  memoryUse
		want bool
	}{
		{memoryUse{allocated: 500 * mb, held: 200 * mb, live: 60 * mb}, false},  // at work
		{memoryUse{allocated: 900 * mb, held: 200 * mb, live: 60 * mb}, false},  // still
		{memoryUse{allocated: 901 * mb, held: 200 * mb, live: 60 * mb}, true},   // at rest
		{memoryUse{allocated: 902 * mb, held: 90 * mb, live: 60 * mb}, false},   // what is left is not worth another collection
		{memoryUse{allocated: 903 * mb, held: 90 * mb, live: 90 * mb}, true},    // settled: what is no longer needed is known after a collection
		{memoryUse{allocated: 904 * mb, held: 90 * mb, live: 60 * mb}, false},   // once
		{memoryUse{allocated: 905 * mb, held: 130 * mb, live: 60 * mb}, false},  // until
		{memoryUse{allocated: 950 * mb, held: 130 * mb, live: 60 * mb}, false},  // it is at work again
		{memoryUse{allocated: 951 * mb, held: 70 * mb, live: 60 * mb}, false},   // nothing much to give
		{memoryUse{allocated: 952 * mb, held: 130 * mb, live: 110 * mb}, true},  // there is
		{memoryUse{allocated: 1000 * mb, held: 130 * mb, live: 60 * mb}, false}, // at work
	} {
		if got := r.due(step.now); got != step.want {
			t.Errorf("step %d: %t, want %t", i, got, step.want)
		}
	}
	if m := readMemory(); m.allocated == 0 || m.held == 0 {
		t.Errorf("the runtime tells nothing: %+v", m)
	}
}
