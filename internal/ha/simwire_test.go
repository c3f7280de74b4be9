package ha

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// wire is the way between a slave and its master. Each direction can be held up;
// what was on its way stays there. cut ends the connections that there are.
type wire struct {
	mu       sync.Mutex
	up, down bool // held up: to the master, to the slave
	open     []net.Conn
	all      *sync.WaitGroup // of those who carry
}

func (w *wire) hold(up, down bool) {
	w.mu.Lock()
	w.up, w.down = up, down
	w.mu.Unlock()
}

func (w *wire) held(toMaster bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return toMaster && w.up || !toMaster && w.down
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.Close()
	}
	w.open = nil
}

// carry copies from one end to the other in pieces of any size, slowly or not.
func (w *wire) carry(from, to net.Conn, toMaster bool, r *rand.Rand) {
	defer w.all.Done()
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 1+r.IntN(3000))
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for w.held(toMaster) {
			time.Sleep(10 * time.Millisecond)
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// door is a listener in memory.
type door struct {
	come chan net.Conn
	once sync.Once
	shut chan struct{}
}

func newDoor() *door { return &door{come: make(chan net.Conn), shut: make(chan struct{})} }

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.come:
		return c, nil
	case <-d.shut:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error { d.once.Do(func() { close(d.shut) }); return nil }

func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

// enter makes a connection; the slave's end is returned.
func (d *door) enter(ctx context.Context, w *wire, seed uint64) (net.Conn, error) {
	mine, near := net.Pipe()
	far, theirs := net.Pipe()
	select {
	case d.come <- theirs:
	case <-d.shut:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	w.open = append(w.open, near, far)
	w.mu.Unlock()
	w.all.Add(2)
	go w.carry(near, far, true, rand.New(rand.NewPCG(seed, 1)))
	go w.carry(far, near, false, rand.New(rand.NewPCG(seed, 2)))
	return mine, nil
}
