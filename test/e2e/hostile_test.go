package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// closeLimit is how long a server may keep a connection on which a frame was
// begun and not completed: 10 seconds, the exactness of its sweep, and what a
// busy machine adds.
const closeLimit = 25 * time.Second

// readerLimit is the same for a connection that reads nothing.
const readerLimit = 60 * time.Second

// target is a port to be hostile to.
type target struct{ name, addr string }

// TestHostileInput sends what no client sends to every port, while a normal
// producer and consumer go on.
func TestHostileInput(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{})
	targets := []target{{"namesrv", ns.Addr()}, {"broker", broker.Addr()}, {"port-2", broker.VIPAddr()}, {"TLS", overTLS + broker.Addr()}}
	if addr := fmt.Sprintf("127.0.0.1:%d", broker.Ports.HA); harness.Reachable(addr) {
		targets = append(targets, target{"ha", addr})
	}
	w := &world{ns, broker}
	w.topic(t, "Wide") // for readers that do not read
	for i := range 16 {
		if _, err := w.dial(t).Send("pg", "Wide", i%4, "", content(i, 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	b := startBeside(t, broker, "Beside")
	memory := map[*harness.Server]func() (int64, int64){ns: watchRSS(ns), broker: watchRSS(broker)}
	files := map[*harness.Server]int{ns: ns.Files(), broker: broker.Files()}

	t.Run("attacks", func(t *testing.T) {
		for _, at := range targets {
			for name, attack := range map[string]func(*testing.T, target){
				"BadFrames": badFrames, "Garbage": garbage, "WideHeaders": wideHeaders, "StopMidFrame": stopMidFrame, "SlowWriters": slowWriters,
			} {
				if at.name == "ha" && name != "Garbage" && name != "StopMidFrame" {
					continue // that port does not speak in frames
				}
				if at.name == "TLS" && name != "BadFrames" && name != "StopMidFrame" && name != "WideHeaders" {
					continue // the others are the same once they are through
				}
				t.Run(at.name+"/"+name, func(t *testing.T) { t.Parallel(); attack(t, at) })
			}
			if at.name == "ha" {
				continue
			}
			if at.name == "TLS" {
				t.Run("TLS/Stalled", func(t *testing.T) { t.Parallel(); stalledHandshakes(t, broker.Addr()) })
				t.Run("TLS/SlowReaders", func(t *testing.T) { t.Parallel(); slowReaders(t, at) })
				continue
			}
			t.Run(at.name+"/Bombs", func(t *testing.T) { t.Parallel(); bombs(t, at) })
			t.Run(at.name+"/BadBodies", func(t *testing.T) { t.Parallel(); badBodies(t, at) })
			t.Run(at.name+"/SlowReaders", func(t *testing.T) { t.Parallel(); slowReaders(t, at) })
		}
	})

	b.finish(t, broker, "Beside")
	for _, s := range []*harness.Server{ns, broker} {
		before, most := memory[s]()
		t.Logf("%s: RssAnon %d MiB before, %d MiB at most", s.Role, before>>20, most>>20)
		// What the limits allow: 64 MiB for each thousand of 4,000 hostile
		// connections, 256 MiB of requests and 256 MiB of answers over all.
		if grown := most - before; grown > 768<<20 {
			t.Errorf("%s grew by %d MiB", s.Role, grown>>20)
		}
		harness.Eventually(t, 30*time.Second, s.Role+" to give back its descriptors", func() bool { return s.Files() < files[s]+50 })
		if strings.Contains(s.Log(), "panic") {
			t.Errorf("%s panicked:\n%s", s.Role, s.Log())
		}
	}
	for _, at := range targets {
		if at.name == "ha" {
			continue
		}
		// Everything is still served on every port.
		if cmd, err := dial(t, at.addr).Call(31999, nil, nil); err != nil || cmd.Code != raw.NotSupported {
			t.Errorf("%s afterwards: %+v, %v", at.name, cmd, err)
		}
	}
}

// hostile opens a connection that no reader runs on.
func hostile(t testing.TB, addr string) net.Conn {
	t.Helper()
	under, secret := strings.CutPrefix(addr, overTLS)
	c, err := net.DialTimeout("tcp", under, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if secret {
		return shake(t, c)
	}
	return c
}

// closed waits until the server closes the connection; answers before that
// are allowed.
func closed(c net.Conn, limit time.Duration) error {
	c.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("still open after %v", limit)
	}
	return nil
}

// refusedOrClosed waits for an answer that is not SUCCESS, or the end of the
// connection.
func refusedOrClosed(c net.Conn, limit time.Duration) error {
	c.SetReadDeadline(time.Now().Add(limit))
	cmd, _, err := raw.Read(c)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("neither an answer nor a close within %v", limit)
	case err == nil && cmd.Code == raw.Success:
		return fmt.Errorf("answered with SUCCESS: %+v", cmd)
	}
	return nil
}
