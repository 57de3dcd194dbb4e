//go:build unix

package main

import (
	"fmt"
	"slices"
)

// figures is one quantity over the rounds.
type figures []float64

func (f figures) sorted() figures {
	s := slices.Clone(f)
	slices.Sort(s)
	return s
}

func (f figures) median() float64 { return f.at(0.5) }

// at is a quantile, interpolated.
func (f figures) at(q float64) float64 {
	s := f.sorted()
	if len(s) == 0 {
		return 0
	}
	x := q * float64(len(s)-1)
	i := int(x)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (s[i+1]-s[i])*(x-float64(i))
}

// line prints a quantity.
func (f figures) line(what, unit string) {
	s := f.sorted()
	fmt.Printf("  %-44s %8.2f %-3s (%.2f to %.2f)\n", what, s.median(), unit, s[0], s[len(s)-1])
}

// each combines two quantities round by round.
func (f figures) each(g figures, combine func(a, b float64) float64) (out figures) {
	for i := range min(len(f), len(g)) {
		out = append(out, combine(f[i], g[i]))
	}
	return out
}

// times is a quantity by a factor.
func (f figures) times(factor float64) (out figures) {
	for _, x := range f {
		out = append(out, x*factor)
	}
	return out
}
