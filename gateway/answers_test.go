package gateway

import (
	"fmt"
	"net/http"
	"testing"
)

func TestWhatIsAskedForOncePushesNothingOut(t *testing.T) {
	const most = 100 << 10
	a := newAnswers(most)
	put := func(name string) bool {
		k := answerKey{path: name}
		a.add(k, &answer{status: http.StatusOK, weight: 1 << 10})
		_, kept := a.GetIfPresent(k)
		return kept
	}
	kept := 0
	for kept < 1000 && put(fmt.Sprintf("/first/%d", kept)) {
		kept++
	}
	if kept == 0 || kept == 1000 {
		t.Fatalf("%d answers were kept while there was room", kept)
	}
	for i := range 1000 {
		if put(fmt.Sprintf("/once/%d", i)) {
			t.Fatalf("/once/%d was kept, though there was no room", i)
		}
	}
	if put("/again"); a.door.again(answerKey{path: "/never"}) || !a.door.again(answerKey{path: "/again"}) {
		t.Error("the doorkeeper takes one for the other")
	}
	if a.forget(); a.EstimatedSize() > 0 || !put("/new") {
		t.Error("after all was forgotten there was no room")
	}
}
