package main

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// heapShare is the share of the memory that Go may use before it collects
// harder: three quarters of what is left beside the page cache, which
// accessMessageInMemoryMaxRatio (40 %) counts on. Mapped files are not in it.
const heapShare = 0.45

// tuneMemory sets GOGC=200 and a memory limit unless the environment has said
// otherwise (GOGC, GOMEMLIMIT).
func tuneMemory(log *zap.Logger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if total := memory(os.ReadFile); total > 0 {
			limit := int64(float64(total) * heapShare)
			debug.SetMemoryLimit(limit)
			log.Debug("memory limit", zap.Int64("bytes", limit))
		}
	}
}

// memory is what this process may use in bytes: the machine's, or less where its
// control group says so; 0 when it cannot be told.
func memory(read func(string) ([]byte, error)) int64 {
	total := int64(0)
	if text, err := read("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				total = kib << 10
			}
		}
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := read(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 && (total == 0 || n < total) {
			total = n
		}
	}
	return total
}
