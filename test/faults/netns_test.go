//go:build faults

package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"

	"gomq/test/harness"
)

// wire begins the name of every interface of this machine that is made here, mark
// that of every namespace. bridge is the interface of a switch.
const (
	wire   = "gomqt"
	bridge = "switch"
)

// network is a switch (a bridge) with hosts (network namespaces) on it. This machine
// is on it too, with an address of its own that clients use, so that a fault of one
// host's wire cuts nobody else off. The switch is in a namespace of its own as well:
// a machine that filters what its bridges pass on, as Docker has it done, leaves that
// one alone.
type network struct {
	t    testing.TB
	n    int
	ns   string // of the switch
	addr string // of this machine
}

// host is a network namespace and its wire to the switch, which has an end inside
// and one at the switch.
type host struct {
	t          testing.TB
	ns, inside string
	sw, out    string // namespace of the switch, and the end there
	addr       string
}

// newNetwork makes a switch with no hosts. Its addresses are of 198.18.0.0/15,
// which is kept for tests of networks (RFC 2544).
func newNetwork(t testing.TB) *network {
	t.Helper()
	needs(t, "ip")
	w := &network{t: t, n: -1}
	for n := range 256 {
		// An abstract socket says who has the number, among all test binaries.
		l, err := net.Listen("unix", fmt.Sprintf("@gomq-test-net-%d", n))
		if err == nil {
			t.Cleanup(func() { l.Close() })
			w.n = n
			break
		}
	}
	if w.n < 0 {
		t.Fatal("no network is free")
	}
	w.addr, w.ns = fmt.Sprintf("198.18.%d.1", w.n), fmt.Sprint(mark, w.n)
	w.sweep()
	w.make("no network namespaces", "ip", "netns", "add", w.ns)
	t.Cleanup(func() { must(t, "ip", "netns", "del", w.ns) })
	w.make("no bridge", "ip", "-n", w.ns, "link", "add", bridge, "type", "bridge")
	must(t, "ip", "-n", w.ns, "link", "set", bridge, "up")
	here := fmt.Sprint(wire, w.n)
	w.make("no pairs of interfaces", "ip", "link", "add", here, "type", "veth", "peer", "name", "here", "netns", w.ns)
	t.Cleanup(func() { must(t, "ip", "link", "del", here) })
	must(t, "ip", "-n", w.ns, "link", "set", "here", "master", bridge, "up")
	must(t, "ip", "addr", "add", w.addr+"/24", "dev", here)
	must(t, "ip", "link", "set", here, "up")
	return w
}

// sweep removes what a run left that was killed: whoever has the number made it.
func (w *network) sweep() {
	output("ip", "link", "del", fmt.Sprint(wire, w.n))
	out, _ := output("ip", "netns", "list") // without ip the next step says so
	for line := range linesOf(out) {
		if name, _, _ := strings.Cut(line, " "); name == w.ns || strings.HasPrefix(name, w.ns+"-") {
			must(w.t, "ip", "netns", "del", name)
		}
	}
}

// make makes what not every kernel can.
func (w *network) make(lack string, args ...string) {
	w.t.Helper()
	if _, err := output(args[0], args[1:]...); err != nil {
		harness.Skip(w.t, lack+": "+err.Error())
	}
}

// must runs a command that has to succeed.
func must(t testing.TB, args ...string) {
	t.Helper()
	if _, err := output(args[0], args[1:]...); err != nil {
		t.Error(err)
	}
}

// host adds a host; id is its last number, 2 to 254.
func (w *network) host(id int) *host {
	w.t.Helper()
	h := &host{t: w.t, ns: fmt.Sprintf("%s%d-%d", mark, w.n, id), inside: "eth0", sw: w.ns, out: fmt.Sprint("host", id), addr: fmt.Sprintf("198.18.%d.%d", w.n, id)}
	w.make("no network namespaces", "ip", "netns", "add", h.ns)
	w.t.Cleanup(func() { must(w.t, "ip", "netns", "del", h.ns) })
	w.make("no pairs of interfaces", "ip", "-n", h.sw, "link", "add", h.out, "type", "veth", "peer", "name", h.inside, "netns", h.ns)
	w.t.Cleanup(func() { must(w.t, "ip", "-n", h.sw, "link", "del", h.out) })
	must(w.t, "ip", "-n", h.sw, "link", "set", h.out, "master", bridge, "up")
	must(w.t, "ip", "-n", h.ns, "addr", "add", h.addr+"/24", "dev", h.inside)
	must(w.t, "ip", "-n", h.ns, "link", "set", h.inside, "up")
	must(w.t, "ip", "-n", h.ns, "link", "set", "lo", "up")
	return h
}

// broker is the configuration of a broker on the host, names that of a nameserver.
func (h *host) broker(props map[string]string) harness.Config {
	return h.with(props, map[string]string{"brokerIP1": h.addr, "brokerIP2": h.addr})
}
func (h *host) names(props map[string]string) harness.Config { return h.with(props, nil) }

func (h *host) with(props, more map[string]string) harness.Config {
	all := map[string]string{"httpHost": h.addr}
	maps.Copy(all, more)
	maps.Copy(all, props)
	return harness.Config{Host: h.addr, Under: []string{"ip", "netns", "exec", h.ns}, Props: all}
}

// unplug takes the host's wire away, plug gives it back.
func (h *host) unplug() { must(h.t, "ip", "-n", h.sw, "link", "set", h.out, "down") }
func (h *host) plug()   { must(h.t, "ip", "-n", h.sw, "link", "set", h.out, "up") }

// mute drops whatever the host sends to another one, and nothing that it hears;
// speak ends that.
func (h *host) mute(to *host) {
	must(h.t, "ip", "-n", h.ns, "route", "add", "blackhole", to.addr+"/32")
}
func (h *host) speak(to *host) {
	must(h.t, "ip", "-n", h.ns, "route", "del", "blackhole", to.addr+"/32")
}

// reset ends those TCP connections of the host that ss finds by a filter, both ends of
// which learn it from a segment with the flag RST, and returns how many there were.
func (h *host) reset(filter ...string) (n int, err error) {
	out, err := output("ip", append([]string{"netns", "exec", h.ns, "ss", "-Htn", "-K"}, filter...)...)
	for range linesOf(out) {
		n++
	}
	return n, err
}

// hold keeps back what the host sends over the TCP connections that it has to a
// server, and nothing that goes over new ones; release lets it go out.
func (h *host) hold(s *harness.Server) (release func()) {
	h.t.Helper()
	out, err := output("ip", "netns", "exec", h.ns, "ss", "-Htn", "state", "established", "dst", s.Host, "dport", "=", fmt.Sprint(":", s.Ports.Listen))
	if err != nil || out == "" {
		h.t.Fatalf("no connection of %s to %s: %v", h.ns, s.Addr(), err)
	}
	var rules [][]string
	for line := range linesOf(out) {
		own := strings.Fields(line)[2] // after the sizes of the two queues
		rules = append(rules, []string{"ipproto", "tcp", "sport", own[strings.LastIndexByte(own, ':')+1:], "blackhole"})
	}
	for _, r := range rules {
		if _, err := output("ip", append([]string{"-n", h.ns, "rule", "add"}, r...)...); err != nil {
			harness.Skip(h.t, "no rules for single connections: "+err.Error())
		}
	}
	return func() {
		for _, r := range rules {
			must(h.t, append([]string{"ip", "-n", h.ns, "rule", "del"}, r...)...)
		}
	}
}

// tc runs a command of traffic control on both ends of the wire: what is sent from
// the end at the switch is what the host hears.
func (h *host) tc(object, verb string, args ...string) error {
	var errs []error
	for _, end := range [][]string{{"-n", h.sw, object, verb, "dev", h.out}, {"-n", h.ns, object, verb, "dev", h.inside}} {
		_, err := output("tc", append(end, args...)...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// clear ends slow and lossy.
func (h *host) clear() {
	if err := h.tc("qdisc", "del", "root"); err != nil {
		h.t.Error(err)
	}
}

// slow limits the host's wire to a rate of bits.
func (h *host) slow(rate string) error {
	return h.tc("qdisc", "add", "root", "handle", "1:", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
}

// lossy drops so many of a hundred packets either way, at random. Kernels without
// netem can do it as well: a classifier that throws dice sends them into a queue
// for no packets at all.
func (h *host) lossy(percent int) error {
	// A classic BPF program: load a random number, and match when it is not greater.
	dice := fmt.Sprintf("4,32 0 0 %d,37 1 0 %d,6 0 0 %d,6 0 0 0", uint32(0xfffff000+56), uint64(1<<32-1)*uint64(percent)/100, uint32(0xffffffff))
	class := []string{"htb", "rate", "1gbit", "burst", "1mb", "quantum", "60000"}
	for _, step := range [][]string{
		{"qdisc", "add", "root", "handle", "1:", "htb", "default", "1"},
		append([]string{"class", "add", "parent", "1:", "classid", "1:1"}, class...),
		append([]string{"class", "add", "parent", "1:", "classid", "1:2"}, class...),
		{"qdisc", "add", "parent", "1:2", "handle", "2:", "pfifo", "limit", "0"},
		{"filter", "add", "parent", "1:", "protocol", "ip", "prio", "1", "bpf", "bytecode", dice, "flowid", "1:2"},
	} {
		if err := h.tc(step[0], step[1], step[2:]...); err != nil {
			return err
		}
	}
	return nil
}

// touched is how many packets the ends of the wire have dropped and held back
// since slow or lossy.
func (h *host) touched(t testing.TB) (dropped, held int) {
	t.Helper()
	for _, end := range [][]string{{"-n", h.sw, "-s", "-j", "qdisc", "show", "dev", h.out}, {"-n", h.ns, "-s", "-j", "qdisc", "show", "dev", h.inside}} {
		out, err := output("tc", end...)
		var list []struct{ Drops, Overlimits int }
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range list {
			dropped, held = dropped+q.Drops, held+q.Overlimits
		}
	}
	return dropped, held
}

// leftOnWire finds namespaces and interfaces of these tests that still exist.
func leftOnWire() error {
	for _, list := range [][]string{{"netns", "list"}, {"-br", "link"}} {
		out, err := output("ip", list...)
		if err != nil {
			continue // without ip none was made
		}
		for line := range linesOf(out) {
			if strings.HasPrefix(line, mark) || strings.HasPrefix(line, wire) {
				return fmt.Errorf("network: %s", line)
			}
		}
	}
	return nil
}
