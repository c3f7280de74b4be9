// Package e2e drives real nameservers and brokers over TCP: with the official
// Go client, and with bytes that no client sends.
package e2e

import (
	"os"
	"syscall"
	"testing"

	"gomq/test/harness"
)

// The Go client reads this variable while its packages are initialised: it is
// where a broadcast consumer keeps its offsets.
const localOffsets = "rocketmq.client.localOffsetStoreDir"

func TestMain(m *testing.M) {
	if os.Getenv(localOffsets) == "" {
		dir, err := os.MkdirTemp("", "gomq-test-offsets-")
		if err != nil {
			panic(err)
		}
		os.Setenv(localOffsets, dir)
		panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	harness.AtExit(func() error { return os.RemoveAll(os.Getenv(localOffsets)) })
	harness.Main(m)
}
