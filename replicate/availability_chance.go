package replicate

import "math/bits"

// chance is a probability as a whole number of 2^-63, so that every processor
// gets the same one: floating point may be fused on one and not on another.
// Products are rounded down, by less than 2^-63.
type chance uint64

const certain chance = 1 << 63

// millionths is n in a million, for n from 0 to a million.
func millionths(n int) chance {
	q, _ := bits.Div64(uint64(n)>>1, uint64(n)<<63, 1_000_000)
	return chance(q)
}

// and is the chance of both, where neither depends on the other.
func (c chance) and(d chance) chance {
	hi, lo := bits.Mul64(uint64(c), uint64(d))
	return chance(hi<<1 | lo>>63)
}

func (c chance) not() chance { return certain - c }

// billionths is the chance in billionths, rounded down.
func (c chance) billionths() int64 {
	hi, lo := bits.Mul64(uint64(c), 1_000_000_000)
	return int64(hi<<1 | lo>>63)
}
