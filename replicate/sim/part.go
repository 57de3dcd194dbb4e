package sim

// Part is the same world with every n-th site only: what a contender does to one site
// hangs on no other, so that a part tells as much of shares and ratios, with more noise.
func (w *World) Part(n int) *World {
	p := *w
	p.Sites = nil
	for i := 0; i < len(w.Sites); i += max(1, n) {
		p.Sites = append(p.Sites, w.Sites[i])
	}
	return &p
}
