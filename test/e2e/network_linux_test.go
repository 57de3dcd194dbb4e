package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is two switches joined by a cable, in a network namespace of their own. Each
// machine on it is another namespace with one port at one of the switches. What happens to cables is real:
// packets are lost without anybody being told. It goes with the test.
type network struct {
	t      *testing.T
	prefix string
	ports  map[string]int // of a machine: the number of its port, and the end of its address
}

const (
	near, far = "near", "far" // the switches; all machines begin at the near one
	subnet    = "10.77.0."
)

// networks is how many there were: they have names of their own.
var networks atomic.Int32

// newNetwork needs root and iproute2; elsewhere the test skips, or fails if HOLDFAST_TEST_ALL is set.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, prefix: fmt.Sprintf("hf%d-%d-", os.Getpid(), networks.Add(1)), ports: make(map[string]int)}
	if out, err := exec.Command("ip", "netns", "add", n.space("")).CombinedOutput(); err != nil {
		what := fmt.Sprintf("network namespaces can't be made: %v: %s; run as root with iproute2", err, out)
		if os.Getenv("HOLDFAST_TEST_ALL") != "" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	n.goesWithTheTest("")
	n.ip("", "link", "add", "trunk0", "type", "veth", "peer", "name", "trunk1")
	for i, bridge := range []string{near, far} {
		n.ip("", "link", "add", bridge, "type", "bridge")
		n.ip("", "link", "set", bridge, "up")
		n.ip("", "link", "set", fmt.Sprint("trunk", i), "master", bridge, "up")
	}
	return n
}

// space is the namespace of a machine; that of the switches has no name.
func (n *network) space(machine string) string { return n.prefix + machine }

func (n *network) goesWithTheTest(machine string) {
	n.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", n.space(machine)).CombinedOutput(); err != nil {
			n.t.Errorf("a network namespace is left behind: %v: %s", err, out)
		}
	})
}

// ip runs iproute2 in the namespace of a machine.
func (n *network) ip(machine string, args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", n.space(machine)}, args...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s at %q: %v: %s", strings.Join(args, " "), machine, err, out)
	}
}

// join adds a machine, and returns its address.
func (n *network) join(machine string) string {
	n.t.Helper()
	number := len(n.ports) + 1
	n.ports[machine] = number
	if out, err := exec.Command("ip", "netns", "add", n.space(machine)).CombinedOutput(); err != nil {
		n.t.Fatalf("ip netns add: %v: %s", err, out)
	}
	n.goesWithTheTest(machine)
	n.ip("", "link", "add", port(number), "type", "veth", "peer", "name", "eth0", "netns", n.space(machine))
	n.ip("", "link", "set", port(number), "master", near, "up")
	n.ip(machine, "link", "set", "lo", "up")
	n.ip(machine, "addr", "add", n.address(machine)+"/24", "dev", "eth0")
	n.ip(machine, "link", "set", "eth0", "up")
	return n.address(machine)
}

func port(number int) string { return fmt.Sprint("port", number) }

func (n *network) address(machine string) string { return subnet + fmt.Sprint(n.ports[machine]) }

// enter runs a command on a machine.
func (n *network) enter(machine string) []string {
	return []string{"ip", "netns", "exec", n.space(machine)}
}

// part plugs machines into the far switch and cuts the cable between the two.
func (n *network) part(machines ...string) {
	n.t.Helper()
	n.ip("", "link", "set", "trunk0", "down")
	for _, m := range machines {
		n.ip("", "link", "set", port(n.ports[m]), "master", far)
	}
}

// mend joins the switches again.
func (n *network) mend() {
	n.t.Helper()
	n.ip("", "link", "set", "trunk0", "up")
}

// client speaks HTTP as a program on that machine would; names under localhost are the machine itself.
func (n *network) client(machine string) *http.Client {
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, netw, address string) (net.Conn, error) {
				host, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if strings.HasSuffix(host, ".localhost") {
					host = "127.0.0.1"
				}
				return n.dial(ctx, machine, netw, net.JoinHostPort(host, port))
			},
		},
	}
}

// dial connects from within the namespace of a machine. A socket stays in the namespace that
// its thread was in when it was made.
func (n *network) dial(ctx context.Context, machine, netw, address string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	out := make(chan dialled, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var d dialled
		if d.err = enterNamespace(n.space(machine)); d.err == nil {
			d.conn, d.err = (&net.Dialer{}).DialContext(ctx, netw, address)
		}
		out <- d
	}()
	d := <-out
	return d.conn, d.err
}

func enterNamespace(name string) error {
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
