package gateway

import (
	"net/http"
	"regexp"
	"testing"
	"time"
)

func TestServerTimingTellsDurationsAndNothingElse(t *testing.T) {
	tr := &trace{}
	h := make(http.Header)
	tr.timing(h)
	if len(h) > 0 {
		t.Errorf("before anything took time: %v", h)
	}
	tr.spend(StepBlock, 2*time.Millisecond)
	tr.spend(StepRecord, 1500*time.Microsecond)
	tr.spend(StepRoot, time.Second)
	tr.spend(StepBlock, time.Millisecond)
	tr.spend(StepRules, time.Hour)
	tr.timing(h)
	if got := h.Get("Server-Timing"); got != "name;dur=1.5, path;dur=1000, block;dur=3" {
		t.Errorf("Server-Timing: %q", got)
	}

	w := newWorld(t, nil)
	root := w.build(blog)
	w.publish("blog", root)
	form := regexp.MustCompile(`^(name|path|block);dur=[0-9.]+(, (path|block);dur=[0-9.]+)*$`)
	for _, url := range []string{"http://blog.localhost/", "http://127.0.0.1/ipfs/" + root.String() + "/?format=raw", "http://blog.localhost/nothing"} {
		if got := w.get(url).Header.Get("Server-Timing"); got != "" && !form.MatchString(got) {
			t.Errorf("%s: %q", url, got)
		}
	}
}
