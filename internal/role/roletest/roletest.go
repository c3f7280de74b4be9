// Package roletest is what tests of several rooms need to run a broker in their
// own process: keys that make it small and quick, and ports that are free.
package roletest

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"

	"gomq/internal/config"
)

// Broker returns the keys of a small broker-a with its data in root, on loopback
// and without a nameserver.
func Broker(root string) []config.Flag {
	var flags []config.Flag
	for _, kv := range [][2]string{
		{"storePathRootDir", root},
		{"mappedFileSizeCommitLog", "4194304"}, {"mappedFileSizeConsumeQueue", "20000"}, {"maxHashSlotNum", "1000"}, {"maxIndexNum", "4000"},
		{"listenHost", "127.0.0.1"}, {"brokerIP1", "127.0.0.1"}, {"brokerIP2", "127.0.0.1"}, {"brokerName", "broker-a"},
		{"diskMaxUsedSpaceRatio", "95"},
	} {
		flags = append(flags, config.Flag{From: "test", Key: kv[0], Value: kv[1]})
	}
	return flags
}

// FreePort finds a port p that is free together with p-2, the VIP port, and p+1,
// the replication port.
func FreePort(t testing.TB) int {
	listen := func(port int) (net.Listener, error) {
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	for range 100 {
		first, err := listen(0)
		if err != nil {
			t.Fatal(err)
		}
		p := first.Addr().(*net.TCPAddr).Port
		vip, err1 := listen(p - 2)
		ha, err2 := listen(p + 1)
		first.Close()
		if err1 == nil {
			vip.Close()
		}
		if err2 == nil {
			ha.Close()
		}
		if err1 == nil && err2 == nil {
			return p
		}
	}
	t.Fatal("no three free ports")
	return 0
}

// Start calls start with a broker's listenPort until the ports are not taken by
// another process in between, and returns its error.
func Start(t testing.TB, start func(port int) error) (err error) {
	t.Helper()
	for range 20 {
		if err = start(FreePort(t)); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}
