package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Fields is the one header codec: a Header's Fields method calls it once for
// each field, and it decodes, encodes (JSON or binary) or checks, as it was
// made for. Names are those of RocketMQ 4.9.8 (requests.md); a nil or zero value
// of an optional field is left out when encoding only where the method says so.
type Fields struct {
	c   *Command // decoding from, or collecting into
	at  int      // the pair to look at first: peers send fields in a fixed order
	err *Error   // the first thing wrong

	encoding bool
	codec    Codec
	out      []byte
	n        int // pairs written
}

// Encoding says whether the fields are being written.
func (f *Fields) Encoding() bool { return f.encoding }

// inJSON says whether the fields are being written as JSON: there the original
// orders them by its hash map, in binary by their class.
func (f *Fields) inJSON() bool { return f.encoding && f.codec == JSON }

// Bytes is a text field, borrowed when decoding; nil when it is missing.
// Encoding leaves out nil.
func (f *Fields) Bytes(name string, v *[]byte, required bool) {
	if f.encoding {
		if *v != nil {
			putText(f, name, *v)
		}
		return
	}
	*v, _ = f.text(name, required)
}

// String is a text field, "" when it is missing. Encoding leaves out "" unless
// required.
func (f *Fields) String(name string, v *string, required bool) {
	if f.encoding {
		if required || *v != "" {
			putText(f, name, *v)
		}
		return
	}
	b, _ := f.text(name, required)
	*v = string(b)
}

// Int32 is a number field; a missing optional one keeps what v had.
func (f *Fields) Int32(name string, v *int32, required bool) {
	if f.encoding {
		f.putInt(name, int64(*v))
		return
	}
	b, ok := f.text(name, required)
	if !ok || len(b) == 0 && !required {
		return
	}
	n, ok := atoi(b)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		f.bad(name, string(b))
		return
	}
	*v = int32(n)
}

// Int64 is a number field; a missing optional one keeps what v had.
func (f *Fields) Int64(name string, v *int64, required bool) {
	if f.encoding {
		f.putInt(name, *v)
		return
	}
	b, ok := f.text(name, required)
	if !ok || len(b) == 0 && !required {
		return
	}
	n, ok := atoi(b)
	if !ok {
		f.bad(name, string(b))
		return
	}
	*v = n
}

// Bool is true for "true" in any case, false for anything else; a missing
// optional one keeps what v had.
func (f *Fields) Bool(name string, v *bool, required bool) {
	if f.encoding {
		if *v {
			putText(f, name, "true")
		} else {
			putText(f, name, "false")
		}
		return
	}
	if b, ok := f.text(name, required); ok {
		*v = len(b) == 4 && b[0]|0x20 == 't' && b[1]|0x20 == 'r' && b[2]|0x20 == 'u' && b[3]|0x20 == 'e'
	}
}

// text finds the value of a field. Looking starts behind the last match, so a
// peer that sends the fields in the order asked for is read in one pass.
func (f *Fields) text(name string, required bool) ([]byte, bool) {
	ext := f.c.ext
	if i := f.at; i < len(ext) {
		if p := &ext[i]; is(p.key, name) {
			f.at = i + 1
			return p.value, true
		}
	}
	return f.search(name, required)
}

// is compares a key with a name, which is not empty. Most that differ do so in
// length or at the first letter.
func is(key []byte, name string) bool {
	return len(key) == len(name) && key[0] == name[0] && (len(name) == 1 || string(key) == name)
}

// search is text for a field that does not come where it was looked for first.
func (f *Fields) search(name string, required bool) ([]byte, bool) {
	ext := f.c.ext
	for i, j := 0, f.at+1; i < len(ext); i, j = i+1, j+1 {
		if j >= len(ext) {
			j = 0
		}
		if p := &ext[j]; is(p.key, name) {
			f.at = j + 1
			return p.value, true
		}
	}
	if required && f.err == nil {
		f.err = &Error{SystemError, fmt.Sprintf("the header field %s of request %d %s is missing", name, f.c.Code, RequestName(f.c.Code))}
	}
	return nil, false
}

// bad notes that a field's value is not what the field holds.
func (f *Fields) bad(name, value string) {
	if f.err == nil {
		if len(value) > 64 {
			value = value[:64] + "..."
		}
		f.err = &Error{SystemError, fmt.Sprintf("the header field %s of request %d %s has a value that does not fit: %q", name, f.c.Code, RequestName(f.c.Code), value)}
	}
}

// putText writes a pair.
func putText[V []byte | string](f *Fields, name string, value V) {
	switch {
	case f.c != nil:
		f.c.set(name, append([]byte{}, value...))
	case f.codec == Binary:
		f.out = appendBinaryPair(f.out, name, value)
	case isPlain(value):
		p := f.begin(name, len(value)+1)
		p = p[copy(p, value):]
		p[0] = '"'
	default:
		f.begin(name, 0)
		f.out = appendQuoted(f.out[:len(f.out)-1], value)
	}
}

// putInt writes a pair with a number.
func (f *Fields) putInt(name string, n int64) {
	switch {
	case f.c != nil:
		f.c.set(name, strconv.AppendInt(nil, n, 10))
	case f.codec == Binary:
		out := binary.BigEndian.AppendUint16(f.out, uint16(len(name)))
		out = append(out, name...)
		at := len(out)
		out = appendInt(append(out, 0, 0, 0, 0), n)
		binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4))
		f.out = out
	case uint64(n) < 10:
		p := f.begin(name, 2)
		p[0], p[1] = byte('0'+n), '"'
	default:
		f.begin(name, 0)
		f.out = append(strconv.AppendInt(f.out, n, 10), '"')
	}
}

// begin appends a pair's name in JSON, up to the quote that opens its value, and
// room for n bytes of the value, which it returns.
func (f *Fields) begin(name string, n int) []byte {
	out := f.out
	at := len(out)
	end := at + len(name) + 5 + n
	if end > cap(out) {
		out = slices.Grow(out, end-at+256)
	}
	if f.n == 0 {
		end--
	}
	out = out[:end]
	p := out[at:]
	if f.n > 0 {
		p[0] = ','
		p = p[1:]
	}
	f.n++
	f.out = out
	p[0] = '"'
	p = p[1+copy(p[1:], name):]
	p[0], p[1], p[2] = '"', ':', '"'
	return p[3:]
}

// atoi reads a decimal number as Java's parseLong does.
func atoi(b []byte) (n int64, ok bool) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var u uint64
	for _, d := range b {
		if d -= '0'; d > 9 {
			return 0, false
		}
		u = u*10 + uint64(d)
	}
	if neg {
		return -int64(u), u <= 1<<63
	}
	return int64(u), u <= math.MaxInt64
}

// appendInt appends a decimal number; the small ones of queue ids and codes
// without a call.
func appendInt(dst []byte, n int64) []byte {
	if uint64(n) < 10 {
		return append(dst, byte('0'+n))
	}
	return strconv.AppendInt(dst, n, 10)
}
