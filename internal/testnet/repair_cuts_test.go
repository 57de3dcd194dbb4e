package testnet

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-sites/holdfast/internal/author"
	"github.com/holdfast-sites/holdfast/internal/node"
	"github.com/holdfast-sites/holdfast/replicate"
)

// settled waits until each standby has seen each holder prove itself.
func (o *orphaned) settled() {
	o.t.Helper()
	o.until("the standbys have seen the holders", o.standbysSee)
}

// took is how often the standbys have taken over.
func (o *orphaned) took() (n int) {
	for _, h := range o.hosts[3:] {
		for _, e := range o.report(h).Events {
			if e.Kind == replicate.EventTookOver {
				n++
			}
		}
	}
	return n
}

func TestAHostThatIsUpAndDownAllTheTimeIsReplacedOnceAtMost(t *testing.T) {
	t.Parallel()
	// The second standby leaves the first one time enough on any machine.
	o := orphan(t, func(c *node.Config) { c.Repair.Delta = soon(20 * time.Second) })
	h := o.hosts
	o.settled()
	tick := time.NewTicker(1500 * time.Millisecond) // three calls
	defer tick.Stop()
	for i := range 12 {
		if i%2 == 0 {
			o.Around(h[0]).Cut()
		} else {
			o.Around(h[0]).Mend()
		}
		<-tick.C
	}
	o.until("there are three copies and no more", func() bool {
		return !o.holds(h[3]) && !o.holds(h[4]) && o.info(h[3]) != nil && o.info(h[4]) != nil
	})
	if n := o.took(); n > 1 {
		t.Errorf("%d took over for one host that flapped", n)
	}
}

func TestAHostThatComesBackStaleHoldsTheNewReleaseBeforeItCounts(t *testing.T) {
	t.Parallel()
	o, anna := cared(t)
	h := o.hosts
	h[0].Stop()
	two := makeSite(o.Net, "two", 1<<18)
	pub := o.publishAgain(anna, two)
	anna.Stop()
	h[0].Restart()
	o.until("it has the new release and nothing else", func() bool {
		var list node.PinList
		if err := h[0].Call("pins", node.PinsRequest{}, &list); err != nil {
			o.t.Fatal(err)
		}
		return !slices.ContainsFunc(list.Pins, func(p node.PinLine) bool { return p.Root != pub.Root || p.Status != string(replicate.Pinned) })
	})
	h[1].Stop()
	h[2].Stop()
	h[3].Stop()
	h[4].Stop()
	servesWhole(o.Gateway("gate", h[0]), pub, two)
}

// publishAgain publishes to as many hosts as before.
func (o *orphaned) publishAgain(anna *Peer, s site) (pub author.Published) {
	o.t.Helper()
	copies, none := 3, 0
	req := author.PublishRequest{Dir: s.dir, Alias: "blog", Copies: &copies, Availability: &none}
	if err := anna.Call("publish", req, &pub); err != nil {
		o.t.Fatal(err)
	}
	return pub
}

func TestAReleaseOfOneSideOfACutIsThatOfBothWhenItMends(t *testing.T) {
	t.Parallel()
	o, anna := cared(t)
	h := o.hosts
	o.settled()
	near, far := []*Peer{anna, h[0], h[1], h[3]}, []*Peer{h[2], h[4]}
	across := func(do func(Links)) {
		for _, a := range near {
			for _, b := range far {
				do(o.Between(a, b))
				do(o.Between(b, a))
			}
		}
	}
	across(Links.Cut)
	o.until("the far side has a second copy of the old release", func() bool { return o.holds(h[4]) })
	two := makeSite(o.Net, "two", 1<<18)
	pub := o.publishAgain(anna, two)
	if root := o.report(h[4]).Root.String(); root != o.pub.Root {
		t.Errorf("the far side holds %s before the cut was mended", root)
	}
	across(Links.Mend)
	o.until("nobody holds the old release any more, and the new one has its copies", func() bool {
		for _, stand := range h[3:] {
			if r := o.report(stand); r.Peer == "" || !r.Holds.IsZero() && r.Root.String() != pub.Root {
				return false
			}
		}
		return o.sees(h[4], h[0], time.Time{}) && o.sees(h[4], h[1], time.Time{})
	})
	gate := o.Gateway("gate", h[2])
	o.until("a new gateway shows the new release", func() bool {
		_, page, err := gate.Read(o.t.Context(), pub.Name+".ipns", "")
		return err == nil && bytes.Equal(page, two.files["index.html"])
	})
	servesWhole(gate, pub, two)
}
