// Package raw is a small client that speaks frames: for tests that need bytes
// which no official client sends, and for sweeps that must see exactly what a
// broker has stored. It shares no code with the product, so a mistake in the
// product's codec cannot hide in it.
package raw

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Flags of a command.
const (
	FlagResponse = 1
	FlagOneWay   = 2
)

// Command is one frame in either direction.
type Command struct {
	Code     int               `json:"code"`
	Language string            `json:"language"`
	Version  int               `json:"version"`
	Opaque   int32             `json:"opaque"`
	Flag     int               `json:"flag"`
	Remark   string            `json:"remark,omitempty"`
	Ext      map[string]string `json:"extFields,omitempty"`
	Serial   string            `json:"serializeTypeCurrentRPC,omitempty"`
	Body     []byte            `json:"-"`
}

// maxFrame is the largest frame this client reads.
const maxFrame = 64 << 20

// Encode returns the frame with a JSON header:
// length(4) | 0(1) headerLength(3) | header | body.
func (c *Command) Encode() []byte {
	header, err := json.Marshal(c)
	if err != nil {
		panic(err) // a map of strings always encodes
	}
	return Frame(0, header, c.Body)
}

// EncodeBinary returns the frame with a header in the ROCKETMQ encoding:
// code(2) language(1) version(2) opaque(4) flag(4) remark(4+n) ext(4+n), where
// ext is a sequence of key(2+n) value(4+n).
func (c *Command) EncodeBinary() []byte {
	var ext []byte
	for k, v := range c.Ext {
		ext = binary.BigEndian.AppendUint16(ext, uint16(len(k)))
		ext = append(ext, k...)
		ext = binary.BigEndian.AppendUint32(ext, uint32(len(v)))
		ext = append(ext, v...)
	}
	h := binary.BigEndian.AppendUint16(nil, uint16(c.Code))
	h = append(h, 0)
	h = binary.BigEndian.AppendUint16(h, uint16(c.Version))
	h = binary.BigEndian.AppendUint32(h, uint32(c.Opaque))
	h = binary.BigEndian.AppendUint32(h, uint32(c.Flag))
	h = binary.BigEndian.AppendUint32(h, uint32(len(c.Remark)))
	h = append(h, c.Remark...)
	h = binary.BigEndian.AppendUint32(h, uint32(len(ext)))
	h = append(h, ext...)
	return Frame(1, h, c.Body)
}

// Frame puts a header of the given serialize type and a body into a frame.
func Frame(kind byte, header, body []byte) []byte {
	b := make([]byte, 0, 8+len(header)+len(body))
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(header)+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(kind)<<24|uint32(len(header)))
	b = append(b, header...)
	return append(b, body...)
}

// Read reads one frame. The header's serialize type is returned beside it.
func Read(r io.Reader) (*Command, byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, err
	}
	length := binary.BigEndian.Uint32(head[:])
	mark := binary.BigEndian.Uint32(head[4:])
	kind, hlen := byte(mark>>24), mark&0xffffff
	if length < 4 || length > maxFrame || hlen > length-4 {
		return nil, 0, fmt.Errorf("frame of %d bytes with a header of %d", length, hlen)
	}
	rest := make([]byte, length-4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, 0, err
	}
	c := &Command{}
	switch kind {
	case 0:
		if err := json.Unmarshal(rest[:hlen], c); err != nil {
			return nil, 0, fmt.Errorf("header %q: %w", rest[:hlen], err)
		}
	case 1:
		if err := c.decodeBinary(rest[:hlen]); err != nil {
			return nil, 0, err
		}
	default:
		return nil, 0, fmt.Errorf("serialize type %d", kind)
	}
	if len(rest) > int(hlen) {
		c.Body = rest[hlen:]
	}
	return c, kind, nil
}

var errShort = errors.New("binary header ends early")

func (c *Command) decodeBinary(h []byte) error {
	if len(h) < 21 {
		return errShort
	}
	c.Code = int(int16(binary.BigEndian.Uint16(h)))
	c.Version = int(int16(binary.BigEndian.Uint16(h[3:])))
	c.Opaque = int32(binary.BigEndian.Uint32(h[5:]))
	c.Flag = int(int32(binary.BigEndian.Uint32(h[9:])))
	remark, h, err := cut(h[13:], 4)
	if err != nil {
		return err
	}
	c.Remark = string(remark)
	ext, _, err := cut(h, 4)
	if err != nil {
		return err
	}
	for len(ext) > 0 {
		var k, v []byte
		if k, ext, err = cut(ext, 2); err != nil {
			return err
		}
		if v, ext, err = cut(ext, 4); err != nil {
			return err
		}
		if c.Ext == nil {
			c.Ext = map[string]string{}
		}
		c.Ext[string(k)] = string(v)
	}
	return nil
}

// cut takes a string with a length of size bytes off the front of b.
func cut(b []byte, size int) (s, rest []byte, err error) {
	if len(b) < size {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(b))
	if size == 4 {
		n = int(binary.BigEndian.Uint32(b))
	}
	if b = b[size:]; n < 0 || n > len(b) {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}
