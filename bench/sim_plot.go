//go:build unix

package main

import (
	"fmt"
	"math"
	"strings"
)

// Plots are written by hand: a few lines and words, on a light ground.

// inks are the colours of the contenders, ours first; they differ in lightness too.
var inks = []string{"#c1121f", "#3a86ff", "#8ac926", "#7b5ea7", "#f4a259", "#2b2d42", "#90a4ae", "#90a4ae", "#90a4ae", "#90a4ae", "#90a4ae"}

// maxPoints is how many points a line has at most, so that files stay small.
const maxPoints = 73

// panel is a part of a plot with a logarithmic axis upwards.
type panel struct {
	left, top, width, height float64
	low, high                float64 // powers of ten
	most                     float64 // of the axis to the right
}

func (p panel) x(v float64) float64 { return p.left + p.width*v/p.most }

func (p panel) y(v float64) float64 {
	at := math.Log10(max(v, math.Pow(10, p.low)))
	return p.top + p.height*(1-(min(at, p.high)-p.low)/(p.high-p.low))
}

func (p panel) frame(b *strings.Builder, title string, label func(power int) string) {
	fmt.Fprintf(b, "<text x='%.0f' y='%.0f' font-weight='bold'>%s</text>\n", p.left, p.top-8, title)
	for power := int(p.low); power <= int(p.high); power++ {
		y := p.y(math.Pow(10, float64(power)))
		fmt.Fprintf(b, "<path d='M%.0f %.1fh%.0f' stroke='#ddd'/><text x='%.0f' y='%.1f' text-anchor='end'>%s</text>\n", p.left, y, p.width, p.left-6, y+4, label(power))
	}
	fmt.Fprintf(b, "<path d='M%.0f %.0fv%.0fh%.0f' fill='none' stroke='#555'/>\n", p.left, p.top, p.height, p.width)
}

func (p panel) days(b *strings.Builder) {
	step := 10.0
	if p.most > 150 {
		step = 50
	}
	for d := 0.0; d <= p.most; d += step {
		fmt.Fprintf(b, "<text x='%.1f' y='%.0f' text-anchor='middle'>%.0f</text>\n", p.x(d), p.top+p.height+16, d)
	}
	fmt.Fprintf(b, "<text x='%.0f' y='%.0f' text-anchor='end'>days since the author left</text>\n", p.left+p.width, p.top+p.height+32)
}

func (p panel) line(b *strings.Builder, ink string, wide float64, xs, ys []float64) {
	fmt.Fprintf(b, "<polyline fill='none' stroke='%s' stroke-width='%.1f' points='", ink, wide)
	for i := range xs {
		fmt.Fprintf(b, "%.1f,%.1f ", p.x(xs[i]), p.y(ys[i]))
	}
	b.WriteString("'/>\n")
}

func begin(b *strings.Builder, width, height int, title string) {
	fmt.Fprintf(b, "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' width='%d' height='%d' font-family='sans-serif' font-size='12' fill='#222'>\n"+
		"<rect width='100%%' height='100%%' fill='#fdfdfb'/>\n<text x='16' y='24' font-size='15' font-weight='bold'>%s</text>\n", width, height, width, height, title)
}

// plotDays is how much could not be had, and what was copied, day by day.
func plotDays(p played) string {
	var b strings.Builder
	begin(&b, 760, 560, p.Name+": "+p.About)
	shown := p.contenders[:min(6, len(p.contenders))]
	days := float64(len(p.ours().Days))
	dark := panel{left: 70, top: 64, width: 480, height: 190, low: -5, high: 1, most: days}
	moved := panel{left: 70, top: 312, width: 480, height: 190, low: -2, high: 3, most: days}
	dark.frame(&b, "sites that could not be had, % of the time", func(power int) string {
		if power == int(dark.low) {
			return "0"
		}
		return fmt.Sprintf("%g", math.Pow(10, float64(power)))
	})
	moved.frame(&b, "copied for repair since then, × the sites' bytes", func(power int) string { return fmt.Sprintf("%g", math.Pow(10, float64(power))) })
	moved.days(&b)
	for i := len(shown) - 1; i >= 0; i-- { // ours on top
		c, wide := shown[i], 1.3
		if i == 0 {
			wide = 2.6
		}
		xs, darks, moves := buckets(c)
		dark.line(&b, inks[i], wide, xs, darks)
		moved.line(&b, inks[i], wide, xs, moves)
		y := 76 + 22*float64(i)
		fmt.Fprintf(&b, "<path d='M572 %.0fh22' stroke='%s' stroke-width='%.1f'/><text x='600' y='%.0f'>%s</text>\n", y-4, inks[i], wide+1, y, c.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// buckets makes few points of many days: the mean share of time that sites were dark, in %, and the sum of what was copied.
func buckets(c entrant) (xs, darks, moves []float64) {
	size := max(1, (len(c.Days)+maxPoints-1)/maxPoints)
	var sum int64
	for i := 0; i < len(c.Days); i += size {
		end := min(i+size, len(c.Days))
		var dark int64
		for _, d := range c.Days[i:end] {
			dark += d.Dark
			sum += d.Moved
		}
		span := float64(end-i) * 86_400_000 * float64(c.Sites)
		xs = append(xs, float64(end))
		darks = append(darks, 100*float64(dark)/span)
		moves = append(moves, float64(sum)/float64(c.Bytes))
	}
	return xs, darks, moves
}

// plotFrontier is bytes against sites that miss four nines.
func plotFrontier(p played) string {
	var b strings.Builder
	begin(&b, 900, 480, "Frontier: what availability costs")
	f := panel{left: 70, top: 64, width: 440, height: 350, low: -2, high: 2, most: 1}
	f.frame(&b, "sites below 99.99 %, in % (the line at the bottom is none)", func(power int) string { return fmt.Sprintf("%g", math.Pow(10, float64(power))) })
	most := 1.0
	for _, c := range p.contenders {
		most = max(most, math.Ceil(c.Cost()))
	}
	f.most = most
	for x := 0.0; x <= most; x++ {
		fmt.Fprintf(&b, "<text x='%.1f' y='%.0f' text-anchor='middle'>%.0f</text>\n", f.x(x), f.top+f.height+16, x)
	}
	fmt.Fprintf(&b, "<text x='%.0f' y='%.0f' text-anchor='end'>repair bytes, × the oracle's</text>\n", f.left+f.width, f.top+f.height+34)
	for i, c := range p.contenders {
		ink := inks[1]
		switch {
		case i == 0:
			ink = inks[0]
		case strings.HasPrefix(c.name, "Carbonite"):
			ink = inks[5]
		}
		x, y := f.x(c.Cost()), f.y(100*(1-c.Nines()))
		fmt.Fprintf(&b, "<circle cx='%.1f' cy='%.1f' r='9' fill='%s' fill-opacity='.85'/><text x='%.1f' y='%.1f' text-anchor='middle' font-size='10' fill='#fff'>%d</text>\n", x, y, ink, x, y+3.5, i+1)
		fmt.Fprintf(&b, "<text x='540' y='%d' fill='%s'>%d  %s (%.1f copies)</text>\n", 76+19*i, ink, i+1, c.name, c.Copies())
	}
	b.WriteString("</svg>\n")
	return b.String()
}
