package protocol

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string; the place is on its quote. Without escapes it is a slice
// of the header.
func (s *headerScan) str() ([]byte, error) {
	b, start := s.b, s.i+1
	i := stop(b, start)
	if i < len(b) && b[i] == '"' {
		s.i = i + 1
		return b[start:i:i], nil
	}
	if i >= len(b) {
		return nil, headerError(b, i, "a closing quote")
	}
	return s.escaped(start, i)
}

const ones, highs = 0x0101010101010101, 0x8080808080808080

// stop is the place of the first quote or backslash at or after i, or the end.
// Eight bytes are looked at at once: a byte that is zero after the exclusive or
// is the only one whose high bit the subtraction can be the first to set.
func stop(b []byte, i int) int {
	for len(b)-i >= 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		q, e := w^(ones*'"'), w^(ones*'\\')
		if m := ((q-ones)&^q | (e-ones)&^e) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escaped is str for a string with escapes, the first of them at i.
func (s *headerScan) escaped(start, i int) ([]byte, error) {
	b, raw := s.b, s.raw
	if n := len(b) - start; cap(raw)-len(raw) < n { // what is undone is never longer
		raw = make([]byte, 0, max(2*n, 512))
	}
	at := len(raw)
	for {
		raw = append(raw, b[start:i]...)
		if i >= len(b) {
			return nil, headerError(b, i, "a closing quote")
		}
		if b[i] == '"' {
			s.i, s.raw = i+1, raw
			return raw[at:len(raw):len(raw)], nil
		}
		if e := b[i:]; len(e) > 6 && e[1] == 'u' && e[2] == '0' && e[3] == '0' && e[4] == '0' && e[5] >= '1' && e[5] <= '2' {
			raw = append(raw, e[5]-'0') // between the names and values of properties
			i += 6
		} else {
			var err error
			if raw, i, err = unescape(raw, b, i); err != nil {
				return nil, err
			}
		}
		start, i = i, stop(b, i)
	}
}

// unescape appends what the escape at b[i] stands for and returns the place
// behind it. Half of a surrogate pair alone is U+FFFD.
func unescape(dst, b []byte, i int) ([]byte, int, error) {
	if i+1 >= len(b) {
		return dst, i, headerError(b, len(b), "an escape")
	}
	if b[i+1] != 'u' {
		ch := unescapes[b[i+1]]
		if ch == 0 {
			return dst, i, headerError(b, i+1, "an escape")
		}
		return append(dst, ch), i + 2, nil
	}
	r, ok := hex4(b, i+2)
	if !ok {
		return dst, i, headerError(b, i+1, "an escape of four digits")
	}
	i += 6
	if r < 0x80 {
		return append(dst, byte(r)), i, nil
	}
	if utf16.IsSurrogate(r) {
		low, ok := rune(0), false
		if i+1 < len(b) && b[i] == '\\' && b[i+1] == 'u' {
			low, ok = hex4(b, i+2)
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError && ok {
			i += 6
		}
	}
	return utf8.AppendRune(dst, r), i, nil
}

// unescapes is what a letter behind a backslash stands for; those beyond
// standard JSON are fastjson's.
var unescapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\'': '\''}

func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, d := range b[i : i+4] {
		switch {
		case d-'0' < 10:
			d -= '0'
		case (d|0x20)-'a' < 6:
			d = d | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}
