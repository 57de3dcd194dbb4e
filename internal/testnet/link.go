package testnet

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Links is some links of a net, to do the same to each of them.
type Links []*link

// Delay makes every byte take so much longer, in each direction. A
// connection keeps the order of its bytes; how much passes at a time does not change.
func (ls Links) Delay(d time.Duration) {
	for _, l := range ls {
		l.set(func() { l.delay = d })
	}
}

// Cut kills the connections and lets no new one live until Mend.
func (ls Links) Cut() {
	for _, l := range ls {
		l.cutNow()
	}
}

// Stall lets connections be made and live, and nothing pass, until Mend.
func (ls Links) Stall() {
	for _, l := range ls {
		l.set(func() {
			if l.held == nil {
				l.held = make(chan struct{})
			}
		})
	}
}

// Mend undoes Cut, Stall, CutAfter and Lose. What a stall has held up passes now.
func (ls Links) Mend() {
	for _, l := range ls {
		l.set(func() {
			l.cut, l.lose, l.left = false, 0, nil
			if l.held != nil {
				close(l.held)
				l.held = nil
			}
		})
	}
}

// Lose kills so many of the new connections, from 0 to 1, each somewhere in
// its first 256 KiB. Which ones is the same in each run, as far as the order is in which they come.
func (ls Links) Lose(fraction float64) {
	for _, l := range ls {
		l.set(func() { l.lose = fraction })
	}
}

// CutAfter cuts all of the links when so many more bytes have passed over them
// together, both directions counted. The channel is closed then.
func (ls Links) CutAfter(bytes int64) <-chan struct{} {
	b := &budget{left: bytes, links: ls, spent: make(chan struct{})}
	for _, l := range ls {
		l.set(func() { l.left = b })
	}
	return b.spent
}

// Limit lets so many bytes pass in a second over all of the links together, both directions
// counted: a peer's narrow uplink. 0: no limit.
func (ls Links) Limit(bytesPerSecond int) {
	var pace *rate.Limiter
	if bytesPerSecond > 0 {
		pace = rate.NewLimiter(rate.Limit(bytesPerSecond), chunkBytes)
	}
	for _, l := range ls {
		l.set(func() { l.pace = pace })
	}
}

// Passed is the bytes that have passed so far, both directions counted.
func (ls Links) Passed() (bytes int64) {
	for _, l := range ls {
		l.mu.Lock()
		bytes += l.passed
		l.mu.Unlock()
	}
	return bytes
}

// Refused is how many connections were made while the links were cut.
func (ls Links) Refused() (connections int) {
	for _, l := range ls {
		l.mu.Lock()
		connections += l.refused
		l.mu.Unlock()
	}
	return connections
}

// budget is what may pass before the links are cut.
type budget struct {
	links Links

	mu    sync.Mutex
	left  int64
	spent chan struct{} // closed when nothing is left
}

func (b *budget) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left <= 0
}

// take is called without the lock of any link.
func (b *budget) take(n int) {
	b.mu.Lock()
	was := b.left
	b.left -= int64(n)
	b.mu.Unlock()
	if was > 0 && was <= int64(n) {
		b.links.Cut()
		close(b.spent)
	}
}

// link is a TCP proxy in front of one listener.
type link struct {
	where func() string // the listener; empty while nobody listens
	ln    net.Listener
	work  sync.WaitGroup

	mu      sync.Mutex // guards the rest
	closed  bool
	delay   time.Duration
	cut     bool
	held    chan struct{} // not nil while stalled; closed when it goes on
	pace    *rate.Limiter // may be nil
	lose    float64
	dice    *rand.Rand
	left    *budget // may be nil
	passed  int64
	refused int
	conns   map[*conn]struct{}
}

// mayLose is within how many bytes a connection that is to be lost is lost.
const mayLose = 256 << 10

func newLink(where func() string, seed uint64) (*link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{where: where, ln: ln, dice: rand.New(rand.NewPCG(seed, 0)), conns: make(map[*conn]struct{})}
	l.work.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.ln.Addr().String() }

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *link) cutNow() {
	l.mu.Lock()
	l.cut = true
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.kill()
	}
}

// close ends the link and waits for all that it does.
func (l *link) close() {
	l.set(func() { l.closed = true })
	l.ln.Close()
	l.cutNow()
	l.work.Wait()
}

func (l *link) accept() {
	for {
		from, err := l.ln.Accept()
		if err != nil {
			l.mu.Lock()
			closed := l.closed
			l.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // a connection that was gone before we came to it
		}
		l.work.Go(func() { l.carry(from) })
	}
}

// carry joins a connection to the listener until either side ends it.
func (l *link) carry(from net.Conn) {
	c := &conn{link: l, from: from, done: make(chan struct{}), budget: -1}
	l.mu.Lock()
	refuse := l.cut || l.closed
	if refuse {
		l.refused++
	}
	l.mu.Unlock()
	where := l.where()
	if refuse || where == "" {
		c.kill()
		return
	}
	var err error
	if c.to, err = net.DialTimeout("tcp", where, 5*time.Second); err != nil {
		c.kill()
		return
	}
	l.mu.Lock()
	if l.cut || l.closed {
		l.mu.Unlock()
		c.kill()
		return
	}
	l.conns[c] = struct{}{}
	if l.lose > 0 && l.dice.Float64() < l.lose {
		c.budget = l.dice.Int64N(mayLose)
	}
	l.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.pump(c.to, c.from) })
	both.Go(func() { c.pump(c.from, c.to) })
	both.Wait()
	c.kill()
	l.set(func() { delete(l.conns, c) })
}

// way is how the next bytes travel: for how long, and what holds them up.
func (l *link) way() (delay time.Duration, held chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delay, l.held
}

// turn is for how long so many bytes have to wait for those before them.
func (l *link) turn(bytes int) time.Duration {
	l.mu.Lock()
	pace := l.pace
	l.mu.Unlock()
	if pace == nil {
		return 0
	}
	return pace.ReserveN(time.Now(), bytes).Delay()
}
