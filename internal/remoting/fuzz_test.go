package remoting

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"gomq/internal/protocol"
)

// FuzzFrames cuts a stream of bytes that arrives in pieces of any size, and must
// find the frames that are in it when it is looked at as a whole.
func FuzzFrames(f *testing.F) {
	small, large := frame(0, 1, 1, 0, nil), frame(1, 2, 2, 0, make([]byte, 20_000))
	f.Add(append(small, large...), []byte{1, 200, 3})
	f.Add(append(large, small...), []byte{255})
	f.Add(bytes.Repeat(small, 300), []byte{90, 91, 92})
	f.Add(lengths(0, nil), []byte{4})
	f.Add(lengths(0xFFFFFFFF, nil), []byte{3, 1})
	f.Add(lengths(16<<20-4, make([]byte, 3000)), []byte{250, 0, 1})
	h := newHub(context.Background(), Options{}, nil)
	f.Cleanup(func() { h.group.Stop() })
	const maxFrame = 64 << 10
	f.Fuzz(func(t *testing.T, stream, pieces []byte) {
		var in inbuf
		defer func() {
			in.drop(h)
			if used := h.inbound.used.Load(); used != 0 {
				t.Fatalf("%d bytes are charged to nobody", used)
			}
		}()
		rest, whole := stream, stream
		for i := 0; len(rest) > 0; i++ {
			if !in.prepare(h, nil) {
				t.Fatal("no memory")
			}
			in.ready(h)
			n := 1
			if len(pieces) > 0 {
				p := int(pieces[i%len(pieces)])
				n += p * p
			}
			if len(in.room()) == 0 {
				t.Fatal("no room to read into")
			}
			n = copy(in.room(), rest[:min(n, len(rest))])
			rest = rest[n:]
			in.got(n)
			for {
				got, err := in.next(maxFrame)
				want, after, bad := cut(whole, len(whole)-len(rest), maxFrame)
				if (err != nil) != bad {
					t.Fatalf("error %v, want one: %v", err, bad)
				}
				if bad {
					return
				}
				if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
					t.Fatalf("a frame of %d bytes, want %d", len(got), len(want))
				}
				if got == nil {
					break
				}
				whole = after
			}
			if i%3 == 0 {
				in.park(h)
			}
			if limit := max(firstRead, 8*in.left(), mostRead); in.x != nil && cap(in.x.b) > 2*limit {
				t.Fatalf("a buffer of %d bytes holds %d", cap(in.x.b), in.left())
			}
		}
	})
}

// cut takes the first frame off b, of which arrived bytes have arrived.
func cut(b []byte, arrived, maxFrame int) (frame, after []byte, bad bool) {
	if arrived < 4 {
		return nil, b, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n < 4 || n+4 > int64(maxFrame) {
		return nil, b, true
	}
	if arrived >= 8 {
		if h := int64(binary.BigEndian.Uint32(b[4:]) & 0xffffff); h > n-4 || h > protocol.MaxHeader {
			return nil, b, true
		}
	}
	if int64(arrived) < n+4 {
		return nil, b, false
	}
	return b[4 : 4+n], b[4+n:], false
}
