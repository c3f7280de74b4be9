package remoting

import (
	"encoding/binary"
	"fmt"
	"time"

	"gomq/internal/protocol"
)

const inboundWait = 10 * time.Second // for memory that a frame above 256 KiB needs

// inbuf cuts frames out of what a connection has read. It holds no memory
// while nothing is buffered. Buffers above firstRead are charged to the
// server's budget, and none is larger than what has arrived calls for: a
// declared length alone allocates nothing.
type inbuf struct {
	x       *block // x.b[r:] is unread; nil = empty
	r       int
	charged int64
	want    int // size of the next buffer
	small   int // reads in a row that used little of it
}

// ready makes sure, without waiting, that there is a buffer of the wanted size
// if the budget allows one, or any buffer otherwise.
func (in *inbuf) ready(h *hub) {
	if in.x != nil && cap(in.x.b) >= in.want {
		return
	}
	size := max(in.want, firstRead)
	if size > firstRead && !h.inbound.try(int64(size)) {
		if in.x != nil {
			return
		}
		size = firstRead
	}
	in.move(h, size)
}

// move puts what is left at the front of a buffer of size bytes, which the
// caller has charged to the budget when it is above firstRead.
func (in *inbuf) move(h *hub, size int) {
	y := h.pools.get(size)
	if in.x != nil {
		y.b = append(y.b, in.x.b[in.r:]...)
		in.drop(h)
	}
	in.x, in.r = y, 0
	if size > firstRead {
		in.charged = int64(size)
	}
}

// room is where the next read goes.
func (in *inbuf) room() []byte { return in.x.b[len(in.x.b):cap(in.x.b)] }

// got takes n bytes that were read into room, and learns from it how large the
// next buffer should be.
func (in *inbuf) got(n int) {
	in.x.b = in.x.b[:len(in.x.b)+n]
	full := len(in.x.b) == cap(in.x.b)
	switch {
	case full && cap(in.x.b) < mostRead:
		in.want, in.small = min(4*cap(in.x.b), mostRead), 0
	case n > cap(in.x.b)/8:
		in.small = 0
	default:
		if in.small++; in.small > 64 && in.want > firstRead {
			in.want, in.small = in.want/4, 0
		}
	}
}

// left is how many bytes are buffered and not yet cut.
func (in *inbuf) left() int {
	if in.x == nil {
		return 0
	}
	return len(in.x.b) - in.r
}

// next cuts the next whole frame, without its length field; nil when there is
// none yet. The error says what is wrong with the length. Layout: length (4
// bytes, of what follows), mark (4), header, body; spec wire.md section 1.
func (in *inbuf) next(maxFrame int) ([]byte, error) {
	b := in.x.b[in.r:]
	if len(b) < 4 {
		return nil, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n < 4 || int64(n)+4 > int64(maxFrame) {
		return nil, fmt.Errorf("%w: length %d, allowed are 4 to %d", ErrFrame, int32(n), maxFrame-4)
	}
	// A header that cannot be is refused before the rest of its frame is read.
	if len(b) >= 8 {
		if h := binary.BigEndian.Uint32(b[4:]) & 0xffffff; h > n-4 || h > protocol.MaxHeader {
			return nil, fmt.Errorf("%w: a header of %d bytes in a frame of %d, at most %d are allowed", ErrFrame, h, n, protocol.MaxHeader)
		}
	}
	if uint32(len(b)-4) < n {
		return nil, nil
	}
	in.r += 4 + int(n)
	return b[4 : 4+n : 4+n], nil
}

// need is the size of the incomplete frame at the front with its length field,
// 0 when even that is incomplete.
func (in *inbuf) need() int {
	if in.left() < 4 {
		return 0
	}
	return 4 + int(binary.BigEndian.Uint32(in.x.b[in.r:]))
}

// prepare makes room for the next read. With nothing left the buffer starts
// from its front again. An incomplete frame is moved there when that is cheap or
// has to be, and into a larger buffer when it fills most of this one and is
// larger than it. false: that memory was not to be had in time.
func (in *inbuf) prepare(h *hub, done <-chan struct{}) bool {
	left := in.left()
	if left == 0 {
		if in.x != nil {
			in.x.b, in.r = in.x.b[:0], 0
		}
		return true
	}
	size, need := cap(in.x.b), in.need()
	if need > size && left > size/2 {
		size = min(need, 4*size)
		if !h.inbound.wait(int64(size), done, inboundWait) {
			return false
		}
		in.move(h, size)
		return true
	}
	if in.r > 0 && (left <= 16<<10 || need > size-in.r || len(in.x.b) > size-size/8) {
		in.x.b = in.x.b[:copy(in.x.b, in.x.b[in.r:])]
		in.r = 0
	}
	return true
}

// park is called before a wait that may be long: nothing left holds no memory,
// and a peer that stops inside a frame does not hold 256 KiB.
func (in *inbuf) park(h *hub) {
	left := in.left()
	if left == 0 {
		in.drop(h)
	} else if cap(in.x.b) > firstRead && left <= firstRead/2 {
		in.move(h, firstRead)
	}
}

// drop gives the buffer back.
func (in *inbuf) drop(h *hub) {
	if in.x == nil {
		return
	}
	h.pools.put(in.x)
	h.inbound.give(in.charged)
	in.x, in.r, in.charged = nil, 0, 0
}
