//go:build failpoints

// Package failpoint names the places at which the fault tests stop the process.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Enabled says whether this binary was built with the tag failpoints.
const Enabled = true

// The environment variable GOMQ_FAILPOINTS lists NAME=K pairs separated by
// commas: the process kills itself with SIGKILL when it comes to NAME for the
// K-th time.
var points = sync.OnceValue(func() map[string]*atomic.Int64 {
	m := map[string]*atomic.Int64{}
	for _, item := range strings.Split(os.Getenv("GOMQ_FAILPOINTS"), ",") {
		name, k, ok := strings.Cut(item, "=")
		n, err := strconv.ParseInt(k, 10, 64)
		if !ok || err != nil {
			continue
		}
		c := new(atomic.Int64)
		c.Store(n)
		m[name] = c
	}
	return m
})

// Hit marks a place. The process ends here, without a chance to do anything,
// when the environment asks for it.
func Hit(name string) {
	if c := points()[name]; c != nil && c.Add(-1) == 0 {
		fmt.Fprintln(os.Stderr, "failpoint", name)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
