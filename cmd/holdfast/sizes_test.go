package main

import (
	"math"
	"testing"
)

func TestSizesAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1000000": 1e6, "500MB": 500e6, "5 GB": 5e9, "1.5g": 15e8, "2GiB": 2 << 30, " 1kb ": 1e3, "7B": 7,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := parseSize("--quota", text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MB", "-1", "-5GB", "5 apples", "1e3", "0x10", "1.2.3", "9999999TB", "9223372036854775808", "NaN", "Inf"} {
		if got, err := parseSize("--quota", text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"5GB", "1.5 GiB", "-1", "NaN", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseSize("--quota", text); err == nil && n < 0 {
			t.Fatalf("%q is %d bytes", text, n)
		}
	})
}
