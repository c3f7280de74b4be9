package remoting

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// block is a pooled buffer: b[off:] is what counts. It is owned by one
// goroutine or one list at a time, never shared.
type block struct {
	b   []byte
	off int
}

const (
	minClass  = 12 // 4 KiB
	maxClass  = 23 // 8 MiB; larger buffers are left to the collector
	firstRead = 8 << 10
	mostRead  = 256 << 10
)

// pools hands out buffers by size class (powers of two).
type pools [maxClass - minClass + 1]sync.Pool

// get returns an empty block with room for at least n bytes.
func (p *pools) get(n int) *block {
	class := max(bits.Len(uint(n-1)), minClass)
	if class > maxClass {
		return &block{b: make([]byte, 0, n)}
	}
	if v := p[class-minClass].Get(); v != nil {
		return v.(*block)
	}
	return &block{b: make([]byte, 0, 1<<class)}
}

// put gives a block back. Its bytes must not be used any more.
func (p *pools) put(x *block) {
	class := bits.Len(uint(cap(x.b))) - 1 // the class that it can serve
	if class < minClass || class > maxClass {
		return
	}
	x.b, x.off = x.b[:0], 0
	p[class-minClass].Put(x)
}

// grow makes room for n more bytes in x, in a larger block when there is not
// enough, and returns the block to go on with.
func (p *pools) grow(x *block, n int) *block {
	if cap(x.b)-len(x.b) >= n {
		return x
	}
	y := p.get(max(len(x.b)+n, 2*cap(x.b)))
	y.b, y.off = append(y.b, x.b...), x.off
	p.put(x)
	return y
}

// budget bounds the bytes of read buffers above firstRead over all connections.
type budget struct {
	max  int64
	used atomic.Int64
}

func (g *budget) try(n int64) bool {
	if g.used.Add(n) <= g.max {
		return true
	}
	g.used.Add(-n)
	return false
}

// wait takes n bytes, waiting until others give theirs back. It gives up when
// done is closed or after limit. It is reached only when the inbound memory of
// the whole process is used up, so looking again every 10 ms is good enough.
func (g *budget) wait(n int64, done <-chan struct{}, limit time.Duration) bool {
	if g.try(n) {
		return true
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		select {
		case <-done:
			return false
		case <-tick.C:
			if g.try(n) {
				return true
			}
		}
	}
	return false
}

func (g *budget) give(n int64) { g.used.Add(-n) }
