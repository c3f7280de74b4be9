package protocol

import "unicode/utf8"

const hexDigits = "0123456789ABCDEF"

// plain are the bytes that need no look in a JSON string as Java's original
// writes it. 0xC2 and 0xE2 begin U+0080 to U+009F, U+2028 and U+2029, which it
// escapes.
var plain = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= 0x20 && i != '"' && i != '\\' && i != 0x7F && i != 0xC2 && i != 0xE2
	}
	return t
}()

// appendQuoted appends a JSON string: raw UTF-8, escapes as the original's
// default (wire.md section 14.1). Bytes that are no UTF-8 are passed on.
func appendQuoted[V []byte | string](dst []byte, v V) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(v); i++ {
		if plain[v[i]] {
			continue
		}
		r, n := rune(v[i]), 1
		switch {
		case r == 0xC2:
			if i+1 >= len(v) || v[i+1] < 0x80 || v[i+1] > 0x9F {
				continue
			}
			r, n = rune(v[i+1]), 2
		case r == 0xE2:
			if i+2 >= len(v) || v[i+1] != 0x80 || v[i+2]&^1 != 0xA8 {
				continue
			}
			r, n = 0x2000|rune(v[i+2]&0x3F), 3
		}
		dst = append(dst, v[from:i]...)
		dst = appendEscape(dst, r)
		i += n - 1
		from = i + 1
	}
	dst = append(dst, v[from:]...)
	return append(dst, '"')
}

// isPlain says that a text is ASCII that needs no escape; it looks at eight bytes
// at once.
func isPlain[V []byte | string](v V) bool {
	n := len(v)
	if n < 8 {
		for i := range n {
			if !plain[v[i]] || v[i] >= 0x80 {
				return false
			}
		}
		return true
	}
	for i := 0; i < n; i += 8 {
		e := v[min(i, n-8):]
		w := uint64(e[0]) | uint64(e[1])<<8 | uint64(e[2])<<16 | uint64(e[3])<<24 | uint64(e[4])<<32 | uint64(e[5])<<40 | uint64(e[6])<<48 | uint64(e[7])<<56
		if (w|(w+ones)|(w-ones*0x20)|((w^ones*'"')-ones)|((w^ones*'\\')-ones))&highs != 0 {
			return false
		}
	}
	return true
}

// appendASCII appends a JSON string with everything beyond ASCII escaped and
// slashes too: the original's BrowserCompatible. What is no UTF-8 is U+FFFD.
func appendASCII(dst []byte, v string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(v); {
		r, n := utf8.DecodeRuneInString(v[i:])
		i += n
		switch {
		case r == '/':
			dst = append(dst, '\\', '/')
		case r >= 0x20 && r < 0x7F && r != '"' && r != '\\':
			dst = append(dst, byte(r))
		case r > 0xFFFF:
			r -= 0x10000
			dst = appendEscape(appendEscape(dst, 0xD800+r>>10), 0xDC00+r&0x3FF)
		default:
			dst = appendEscape(dst, r)
		}
	}
	return append(dst, '"')
}

// appendEscape appends the escape of one UTF-16 unit.
func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
