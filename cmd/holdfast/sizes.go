package main

import (
	"math"
	"strconv"
	"strings"
)

// units are those that people write behind sizes, in bytes.
var units = map[string]float64{
	"": 1, "b": 1,
	"k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// parseSize reads a number of bytes as people write it: 500MB, 1.5 GB, 2GiB, 1000000. 0 and more; the error names
// the flag, and is one of usage.
func parseSize(flag, text string) (int64, error) {
	text = strings.TrimSpace(text)
	digits := strings.TrimLeft(text, "0123456789.")
	number := text[:len(text)-len(digits)]
	unit, ok := units[strings.ToLower(strings.TrimSpace(digits))]
	if n, err := strconv.ParseInt(number, 10, 64); ok && err == nil && unit == 1 {
		return n, nil
	}
	n, err := strconv.ParseFloat(number, 64)
	if n *= unit; !ok || err != nil || n >= math.MaxInt64 {
		return 0, usage("%s is a size like 500MB, 5GB or 1GiB, not %q", flag, text)
	}
	return int64(n), nil
}
