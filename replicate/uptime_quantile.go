package replicate

import "math/bits"

// lowQuantile is the 5 % quantile, in millionths, of the Beta distribution with
// parameters a/16 and b: the uptime below which a host's true one lies with a chance of one in
// twenty, after as many independent looks. a is 1 to 2^32, b at least 1.
//
// For a whole b the distribution function is a sum of b terms
// (https://dlmf.nist.gov/8.17#E5, with a for x's power and 1-x for the other):
//
//	I_x(a, b) = x^a * sum over i < b of (1-x)^i * a(a+1)…(a+i-1) / i!
//
// and with x = y^16 the power has a whole exponent. y is found by bisection. All of
// it is whole numbers, so that all processors agree.
func lowQuantile(a uint64, b int) int {
	low, high := uint64(0), uint64(1)<<32 // of y, in 2^-32
	for range 26 {
		if y := (low + high) / 2; below(y<<31, a, b) {
			low = y
		} else {
			high = y
		}
	}
	return int(power(chance(low<<31), 16).short(1_000_000))
}

// below tells whether I_x(a/16, b) is at most 5 %, for x = y^16.
func below(y uint64, a uint64, b int) bool {
	x := power(chance(y), 16)
	miss := floating{uint64(chance(x.short(uint64(certain))).not()), -63}.normal()
	term, sum := floating{1, 0}.normal(), floating{}
	for i := range uint64(b) {
		sum = sum.plus(term)
		term = term.times(miss).times(floating{a + 16*i, 0}.normal()).over(16 * (i + 1))
	}
	p := power(chance(y), a).times(sum)
	return p.short(1_000_000) < 50_000
}

// floating is m * 2^e, for numbers too large or too small for 64 bits. Normal ones have the top bit of m set, or are zero. What
// is rounded off is rounded down.
type floating struct {
	m uint64
	e int
}

func (f floating) normal() floating {
	if f.m == 0 {
		return floating{}
	}
	n := bits.LeadingZeros64(f.m)
	return floating{f.m << n, f.e - n}
}

func (f floating) times(g floating) floating {
	hi, lo := bits.Mul64(f.m, g.m)
	if hi>>63 == 0 { // of two normal numbers one bit is missing at most
		return floating{hi<<1 | lo>>63, f.e + g.e + 63}
	}
	return floating{hi, f.e + g.e + 64}
}

func (f floating) over(n uint64) floating {
	if f.m == 0 {
		return f
	}
	// Halved, so that the quotient has 64 bits at most.
	shift := bits.Len64(n)
	d := n << (64 - shift)
	q, _ := bits.Div64(f.m>>1, f.m<<63, d)
	return floating{q, f.e + 1 - shift}.normal()
}

func (f floating) plus(g floating) floating {
	if f.m == 0 || g.m != 0 && g.e > f.e {
		f, g = g, f
	}
	far := f.e - g.e
	if g.m == 0 || far > 63 {
		return f
	}
	m, carry := bits.Add64(f.m, g.m>>far, 0)
	if carry == 1 {
		return floating{m>>1 | 1<<63, f.e + 1}
	}
	return floating{m, f.e}
}

// power is c to the n-th.
func power(c chance, n uint64) floating {
	result, base := floating{1, 0}.normal(), floating{uint64(c), -63}.normal()
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			result = result.times(base)
		}
		base = base.times(base)
	}
	return result
}

// short is f * scale as a whole number, rounded down; the largest where it doesn't fit 64 bits.
func (f floating) short(scale uint64) uint64 {
	g := f.times(floating{scale, 0}.normal())
	switch {
	case g.e > 0:
		return 1<<64 - 1
	case g.e <= -64:
		return 0
	}
	return g.m >> -g.e
}
