package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-sites/holdfast/internal/author"
)

func TestAvailabilitiesAreNeverShownBetterThanTheyAre(t *testing.T) {
	for billionths, want := range map[int64]string{
		999_930_000: "99.993 %", 999_100_000: "99.91 %", 999_999_999: "99.99999 %", 948_000_000: "94.8 %", 999_500_000: "99.95 %",
		1_000_000_000: "100 %", 0: "0.0 %", 527_772_000: "52.7 %", 999_000_000: "99.9 %", 999_899_999: "99.98 %", 999_900_000: "99.99 %",
	} {
		if got := percent(billionths); got != want {
			t.Errorf("%d is shown as %s, want %s", billionths, got, want)
		}
	}
	for text, want := range map[string]int{"99.99": 999_900, "99": 990_000, "99.9999%": 999_999, "none": 0, "0.5": 5_000} {
		if got, err := parsePercent(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "100", "-1", "99.99999", "x", "99.9x", "0"} {
		if got, err := parsePercent(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
	for text, want := range map[string]int64{"2GB/d": 2e9, "500MB": 5e8, "1GiB/day": 1 << 30, "none": author.NoBudget} {
		if got, err := parseBudget(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "fast", "-1GB/d"} {
		if got, err := parseBudget(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestThingsAreCountedAsPeopleDo(t *testing.T) {
	for n, want := range map[int64]string{0: "0 files", 1: "1 file", 2: "2 files"} {
		if got := counted(n, "file"); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestAPlanIsShownAsADifference(t *testing.T) {
	var out bytes.Buffer
	e := &env{out: &out, err: &out}
	e.showPlans(author.Plans{Digest: "0123456789abcdef", Sites: []author.SitePlan{{
		Alias: "blog", Copies: 3, CopiesAfter: 4, Availability: 999_100_000, AvailabilityAfter: 999_930_000, Target: 999_900,
		Moves: 6_100_000, Least: 6_100_000, Worst: &author.Failure{Label: "network", Value: "AS64496", Copies: 3, Availability: 999_500_000},
		Changes: []author.PlanChange{
			{Op: author.OpHold, Host: "carol", Label: map[string]string{"network": "AS64500", "region": "EU"}, Bytes: 6_100_000, Uptime: 948_000, Reason: "has room"},
			{Op: author.OpRelease, Host: "bob", Reason: "draining", After: []string{"carol"}},
			{Op: author.OpStandby, Host: "dave", Uptime: 500_000},
		},
	}, {Alias: "docs"}}})
	want := `site blog   99.91 % -> 99.993 %   copies 3 -> 4
  + carol     AS64500, EU  +6.1 MB   up 94.8 % (low estimate)
  - bob       draining, leaves after carol is proved
  ~ dave      stands by   not observed yet
moves 6.1 MB (least possible 6.1 MB)   worst single failure: network AS64496 -> 99.95 %
1 more is as wanted
carry it out with ` + "`holdfast apply 0123456789abcdef`\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}

func TestMonitorsAreToldWhichSiteIsTooLow(t *testing.T) {
	sites := []author.SiteStatus{
		{Alias: "good", MinCopies: 3, Copies: 3, Proved: 3, Availability: 999_999_000},
		{Alias: "bad", MinCopies: 3, Copies: 4, Proved: 2, Availability: 990_000_000},
		{Alias: "home", MinCopies: 0}, // nobody is meant to hold it
	}
	low := lessThan(sites, 999_000)
	if len(low) != 1 || low[0].Alias != "bad" {
		t.Fatalf("%+v", low)
	}
	if err := tooLow(low, 999_000); !strings.Contains(err.Error(), "bad is at 99.0 % with 2 of 4 copies: less than 99.9 %") {
		t.Errorf("%v", err)
	}
	u := newUser(t)
	u.must("publish", u.site("blog"), "--copies", "0", "--network", "offline")
	u.must("status", "--fail-below", "99.9")
	u.fails(2, "below 100", "status", "--fail-below", "100")
	u.fails(2, "--region is the value", "plan", "blog", "--region", "")
	u.fails(2, "like 500MB/d", "plan", "blog", "--budget", "2GB/h")
	u.fails(2, "one of them", "history", "blog", "--events", "--verify")
}
