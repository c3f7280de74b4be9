package bench

import (
	"encoding/binary"
	"fmt"

	"gomq/internal/protocol"
)

// scanAll keeps Depth pulls with the SQL92 expression in flight. Each slot goes
// through the queues by itself, on from where its last answer ended. A message
// counts when the broker has looked at it, whether it matches or not.
func (w *wire) scanAll(spans []span) error {
	type cursor struct {
		span int
		at   int64
	}
	cur := make([]cursor, w.o.Depth)
	for i := range cur {
		c := &cur[i]
		c.span = i % len(spans)
		s := spans[c.span]
		c.at = s.min + int64(i)*(s.max-s.min)/int64(len(cur))
	}
	place := func(slot int) (queue int32, offset int64) {
		c := &cur[slot]
		if c.at >= spans[c.span].max {
			c.span = (c.span + 1) % len(spans)
			c.at = spans[c.span].min
		}
		return spans[c.span].queue, c.at
	}
	return w.pulls(place, func(slot int, code int32, header, body []byte) error {
		if code != protocol.PullRetryImmediately {
			if err := success(code, header); err != nil {
				return err
			}
		}
		next, err := nextOffset(w.o, header)
		if err != nil {
			return err
		}
		c := &cur[slot]
		if next <= c.at {
			return fmt.Errorf("a pull at %d ended at %d", c.at, next)
		}
		w.done.Add(next - c.at)
		w.bytes.Add(int64(len(body)))
		c.at = next
		return nil
	})
}

// nextOffset is the field nextBeginOffset of an answer.
func nextOffset(o *Options, header []byte) (int64, error) {
	var c protocol.Command
	frame := binary.BigEndian.AppendUint32(nil, uint32(o.Codec)<<24|uint32(len(header)))
	if err := c.Parse(append(frame, header...)); err != nil {
		return 0, err
	}
	var r protocol.PullReply
	err := c.Decode(&r)
	return r.NextBeginOffset, err
}
