package harness

import (
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
)

// Ports is what one process listens on. All four are free on all addresses
// when they are handed out, and stay reserved for this test among all test
// binaries of the machine until it ends.
type Ports struct {
	Listen int // of a broker or nameserver
	VIP    int // Listen - 2, a broker's second port
	HA     int // Listen + 1
	HTTP   int // metrics and health
}

// The blocks lie below the range from which the kernel takes the ports of
// outgoing connections (net.ipv4.ip_local_port_range starts at 32768).
const (
	firstBlock = 13000
	lastBlock  = 32000
	// Blocks whose Listen + 20000 is usable as well, for tests of the default
	// HTTP port.
	firstLow = 10920
	lastLow  = 12700
)

var reserved struct {
	mu   sync.Mutex
	next int
}

// NewPorts reserves a block of ports: HTTP is Listen - 1.
func NewPorts(t testing.TB) Ports {
	t.Helper()
	return block(t, firstBlock, lastBlock, func(p int) int { return p - 1 })
}

// PortsWithDefaultHTTP reserves a block whose HTTP port is the one that gomq
// takes when nothing is configured: Listen + 20000.
func PortsWithDefaultHTTP(t testing.TB) Ports {
	t.Helper()
	return block(t, firstLow, lastLow, func(p int) int { return p + 20000 })
}

func block(t testing.TB, first, last int, http func(int) int) Ports {
	t.Helper()
	reserved.mu.Lock()
	defer reserved.mu.Unlock()
	if reserved.next == 0 {
		reserved.next = os.Getpid() // test binaries start at different places
	}
	n := (last - first) / 4
	for range n {
		reserved.next++
		p := first + 2 + 4*(reserved.next%n)
		ports := Ports{Listen: p, VIP: p - 2, HA: p + 1, HTTP: http(p)}
		lock := lockBlock(p)
		if lock == nil {
			continue
		}
		if !free(ports.Listen, ports.VIP, ports.HA, ports.HTTP) {
			lock.Close()
			continue
		}
		t.Cleanup(func() { lock.Close() })
		return ports
	}
	t.Fatalf("no free block of ports between %d and %d", first, last)
	return Ports{}
}

// lockBlock holds a name of the kernel's while the block is in use, so that
// test binaries that run side by side never choose the same one. An abstract
// socket leaves no file, and is gone when the test binary dies.
func lockBlock(p int) net.Listener {
	l, err := net.Listen("unix", fmt.Sprintf("@gomq-test-ports-%d", p))
	if err != nil {
		return nil
	}
	return l
}

func free(ports ...int) bool {
	for _, p := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", p))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
