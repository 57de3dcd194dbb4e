//go:build unix

package main

import (
	"slices"
	"testing"
)

func TestTheMedianRoundDecidesWhetherAGoalIsMet(t *testing.T) {
	for _, c := range []struct {
		name string
		measure
		want string
	}{
		{"within a fixed limit", measure{ours: figures{0.1, 0.2, 9}, limits: most(0.25)}, "met"},
		{"over a fixed limit", measure{ours: figures{0.1, 0.3, 9}, limits: most(0.25)}, "missed"},
		// Each round counts against its own limit: a slow round of everybody is nobody's fault.
		{"slow rounds of everybody", measure{ours: figures{1, 10, 10}, limits: figures{1, 11, 11}}, "met"},
		{"slow alone", measure{ours: figures{2, 10, 12}, limits: figures{1, 11, 11}}, "missed"},
		{"fast enough", measure{ours: figures{500, 600}, limits: most(500), least: true}, "met"},
		{"too slow", measure{ours: figures{300, 400}, limits: most(500), least: true}, "missed"},
		{"nothing asked", measure{ours: figures{1}}, "no goal"},
	} {
		if got := c.verdict(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestOnlyTheRowsAskedForAreMeasured(t *testing.T) {
	all, err := chosen(rows, "")
	if err != nil || len(all) != len(rows) {
		t.Errorf("all: %d rows, %v", len(all), err)
	}
	some, err := chosen(rows, "gc,first")
	var names []string
	for _, r := range some {
		names = append(names, r.name)
	}
	if err != nil || !slices.Equal(names, []string{"first", "gc"}) {
		t.Errorf("got %q, %v", names, err)
	}
	if _, err := chosen(rows, "first,last"); err == nil {
		t.Error("a row that is not there was accepted")
	}
}
