package main

import (
	"testing"

	"github.com/holdfast-sites/holdfast/naming"
)

func TestARotationThatComesToNothingLeavesNoSeedBehind(t *testing.T) {
	ring, err := naming.OpenKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.New("blog"); err != nil {
		t.Fatal(err)
	}
	backup, err := ring.Backup("blog")
	if err != nil {
		t.Fatal(err)
	}
	hasSeed := func() bool {
		t.Helper()
		info, err := ring.Info("blog")
		if err != nil {
			t.Fatal(err)
		}
		return info.HasSeed
	}
	tried := func() {
		t.Helper()
		giveBack, err := bringSeed(ring, "blog", backup)
		if err != nil || !hasSeed() {
			t.Fatalf("there is no seed to rotate with: %v", err)
		}
		giveBack()
	}
	tried()
	if !hasSeed() {
		t.Error("a seed that was on this machine all the time is gone")
	}
	if err := ring.ForgetSeed("blog"); err != nil {
		t.Fatal(err)
	}
	tried()
	if hasSeed() {
		t.Error("the seed that the backup brought has stayed")
	}
}
