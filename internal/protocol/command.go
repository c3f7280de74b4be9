// Package protocol is every word spoken on the wire: frames, headers, request
// and response codes, and the bodies that are not messages. It knows bytes,
// never sockets.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Codec is how a header is encoded: the first byte of a frame's mark.
type Codec uint8

// The two header encodings (wire.md sections 3 and 5).
const (
	JSON   Codec = 0
	Binary Codec = 1 // "ROCKETMQ"
)

// The bits of Command.Flag.
const (
	FlagResponse int32 = 1
	FlagOneway   int32 = 2
)

// Version is what gomq says it is: RocketMQ 4.9.8 (wire.md section 6).
const Version = 409

// Limits of a header. The original has none but the frame's.
const (
	MaxHeader = 256 << 10 // bytes
	MaxPairs  = 256
	maxDepth  = 64 // of objects and arrays inside one another
)

// ErrHeader is wrapped by all errors of Parse.
var ErrHeader = errors.New("bad header")

// Command is one frame: a request or an answer. After Parse its text and bytes
// are borrowed from the frame.
type Command struct {
	Code     int32
	Language Language
	Version  int32
	Opaque   int32
	Flag     int32
	Remark   string // a copy, never borrowed
	Body     []byte // nil when the frame has none
	Codec    Codec

	// The header's pairs, each key once; see Get, Set, Decode.
	ext    []pair
	hasExt bool   // extFields is there, if empty
	raw    []byte // JSON strings with escapes are undone here
	fields Fields // for Decode, so that it allocates nothing
}

type pair struct{ key, value []byte }

// IsResponse says whether the command answers one.
func (c *Command) IsResponse() bool { return c.Flag&FlagResponse != 0 }

// IsOneway says whether nobody waits for an answer.
func (c *Command) IsOneway() bool { return c.Flag&FlagOneway != 0 }

// Header is a request's or an answer's own fields. One method names them all: it
// decodes, encodes and checks.
type Header interface{ Fields(f *Fields) }

// Error is an error that is told to the peer: a response code and its remark.
type Error struct {
	Code   int32
	Remark string
}

func (e *Error) Error() string { return e.Remark }

// NewRequest makes a request in JSON with our language and version; header and
// body may be nil. Opaque and Flag are set by the connection.
func NewRequest(code int32, header Header, body []byte) *Command {
	c := &Command{Code: code, Version: Version, Body: body}
	if header != nil {
		c.hasExt = true
		header.Fields(&Fields{c: c, encoding: true})
	}
	return c
}

// Parse reads a frame without its length field: mark, header, body. On an error
// the connection is to be closed. It allocates nothing in steady state: c keeps
// its slices from one Parse to the next. Limits: header inside the frame and at
// most 256 KiB, 256 pairs, a JSON header's nesting at most 64.
func (c *Command) Parse(frame []byte) error {
	c.Code, c.Language, c.Version, c.Opaque, c.Flag, c.Remark, c.Body = 0, LangJava, 0, 0, 0, "", nil
	c.ext, c.hasExt, c.raw = c.ext[:0], false, c.raw[:0]
	if cap(c.raw) > 64<<10 { // once needed for a huge header, not to be kept for ever
		c.raw = nil
	}
	if len(frame) < 4 {
		return fmt.Errorf("%w: a frame of %d bytes", ErrHeader, len(frame))
	}
	mark := binary.BigEndian.Uint32(frame)
	n := int(mark & 0xFFFFFF)
	if n > len(frame)-4 || n > MaxHeader {
		return fmt.Errorf("%w: %d bytes long in a frame of %d, allowed are %d", ErrHeader, n, len(frame), MaxHeader)
	}
	header := frame[4 : 4+n : 4+n]
	if body := frame[4+n:]; len(body) > 0 {
		c.Body = body
	}
	switch c.Codec = Codec(mark >> 24); c.Codec {
	case JSON:
		return c.parseJSON(header)
	case Binary:
		return c.parseBinary(header)
	}
	return fmt.Errorf("%w: encoding %d, known are 0 (JSON) and 1 (ROCKETMQ)", ErrHeader, mark>>24)
}

// AppendTo appends the command as a whole frame, length field included.
func (c *Command) AppendTo(dst []byte) []byte {
	start := len(dst)
	if c.Codec == Binary {
		dst = appendBinaryHead(dst, c.Code, c.Language, c.Version, c.Opaque, c.Flag, c.Remark)
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		for _, p := range c.ext {
			dst = appendBinaryPair(dst, p.key, p.value)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	} else {
		dst = append(dst, "\x00\x00\x00\x00\x00\x00\x00\x00{\"code\":"...)
		dst = appendInt(dst, int64(c.Code))
		if c.hasExt || len(c.ext) > 0 {
			dst = append(dst, `,"extFields":{`...)
			for i, p := range c.ext {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = appendQuoted(dst, p.key)
				dst = append(dst, ':')
				dst = appendQuoted(dst, p.value)
			}
			dst = append(dst, '}')
		}
		dst = appendJSONTail(dst, c.Flag, c.Language, c.Opaque, c.Remark, c.Version)
	}
	endHeader(dst, start, c.Codec)
	dst = append(dst, c.Body...)
	return EndResponse(dst, start)
}

// endHeader writes the mark of the frame that began at start, now that its
// header is whole.
func endHeader(dst []byte, start int, codec Codec) {
	binary.BigEndian.PutUint32(dst[start+4:], uint32(codec)<<24|uint32(len(dst)-start-8)&0xFFFFFF)
}

// Clone copies the command with everything it borrows.
func (c *Command) Clone() *Command {
	n := len(c.Body)
	for _, p := range c.ext {
		n += len(p.key) + len(p.value)
	}
	all := make([]byte, 0, n)
	keep := func(b []byte) []byte {
		at := len(all)
		all = append(all, b...)
		return all[at:len(all):len(all)]
	}
	d := &Command{Code: c.Code, Language: c.Language, Version: c.Version, Opaque: c.Opaque, Flag: c.Flag,
		Remark: strings.Clone(c.Remark), Codec: c.Codec, hasExt: c.hasExt}
	if c.Body != nil {
		d.Body = keep(c.Body)
	}
	if len(c.ext) > 0 {
		d.ext = make([]pair, len(c.ext))
	}
	for i, p := range c.ext {
		d.ext[i] = pair{keep(p.key), keep(p.value)}
	}
	return d
}

// Get is the value of a pair of the header, borrowed; a key that comes twice
// counts last.
func (c *Command) Get(key string) (value []byte, ok bool) {
	for i := range c.ext {
		if string(c.ext[i].key) == key {
			return c.ext[i].value, true
		}
	}
	return nil, false
}

// Set adds a pair, or gives the key another value.
func (c *Command) Set(key, value string) { c.set(key, []byte(value)) }

// set keeps value.
func (c *Command) set(key string, value []byte) {
	c.hasExt = true
	for i := range c.ext {
		if string(c.ext[i].key) == key {
			c.ext[i].value = value
			return
		}
	}
	c.ext = append(c.ext, pair{[]byte(key), value})
}

// Pairs calls f with every pair of the header, in the order sent; both slices
// are borrowed.
func (c *Command) Pairs(f func(key, value []byte)) {
	for _, p := range c.ext {
		f(p.key, p.value)
	}
}

// Decode fills h from the header's pairs. A field that is required and missing,
// or that does not parse, is an *Error with code SYSTEM_ERROR that names it.
func (c *Command) Decode(h Header) error {
	f := &c.fields
	f.c, f.at, f.err = c, 0, nil
	h.Fields(f)
	if f.err != nil {
		return f.err
	}
	return nil
}

// remarkOf makes a string of a remark. Those of every pull cost nothing.
func remarkOf(b []byte) string {
	switch string(b) {
	case "":
		return ""
	case "FOUND":
		return "FOUND"
	case "OFFSET_OVERFLOW_ONE":
		return "OFFSET_OVERFLOW_ONE"
	case "NO_MATCHED_MESSAGE":
		return "NO_MATCHED_MESSAGE"
	}
	return string(b)
}

// dedup keeps each key once while pairs are read. A bit of a key's shape that is
// not set yet proves that the key is new; else the pairs are looked through.
type dedup uint64

// add appends a pair, or replaces the value of the one with its key.
func (d *dedup) add(ext []pair, key, value []byte) []pair {
	var bit dedup = 1
	if n := len(key); n > 0 {
		bit <<= (uint(key[0]) + 2*uint(key[n-1]) + 5*uint(n)) & 63
	}
	if *d&bit != 0 {
		for i := range ext {
			if string(ext[i].key) == string(key) {
				ext[i].value = value
				return ext
			}
		}
	}
	*d |= bit
	return append(ext, pair{key, value})
}

// remove takes the pair with that key out: a later null undoes a value.
func remove(ext []pair, key []byte) []pair {
	for i := range ext {
		if string(ext[i].key) == string(key) {
			return append(ext[:i], ext[i+1:]...)
		}
	}
	return ext
}
