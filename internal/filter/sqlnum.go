package filter

import (
	"bytes"
	"math"
	"strconv"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// digit is the value of a decimal digit in any script, as Java's
// Character.digit says it of a char; -1 when r is none.
func digit(r rune) int64 {
	if r < utf8.RuneSelf {
		if r >= '0' && r <= '9' {
			return int64(r - '0')
		}
		return -1
	}
	for _, block := range unicode.Nd.R16 { // what needs two chars is no digit to Java here
		if lo, hi := rune(block.Lo), rune(block.Hi); r >= lo && r <= hi {
			return int64(r-lo) % 10
		}
	}
	return -1
}

// parseInt reads what Java's Integer.parseInt (bits 32) or Long.parseLong (64)
// reads: a sign and digits, nothing else.
func parseInt(s []byte, bits int) (n int64, ok bool) {
	negative := false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, false
	}
	most := int64(1)<<(bits-1) - 1 // counted below zero, where there is one more
	for len(s) > 0 {
		r, size := rune(s[0]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(s)
		}
		d := digit(r)
		if d < 0 || n < (-most-1)/10 {
			return 0, false
		}
		if n *= 10; n < -most-1+d {
			return 0, false
		}
		n -= d
		s = s[size:]
	}
	if negative {
		return n, true
	}
	return -n, n >= -most
}

// parseDouble reads what Java's Double.valueOf reads: decimal and hexadecimal
// floats, an f or d behind them, NaN and Infinity, blanks around.
func parseDouble(s []byte) (f float64, ok bool) {
	s = bytes.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	body := s
	if len(body) > 0 && (body[0] == '-' || body[0] == '+') {
		body = body[1:]
	}
	switch string(body) {
	case "":
		return 0, false
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		if s[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	}
	if c := body[len(body)-1] | 0x20; (c == 'f' || c == 'd') && len(body) > 1 {
		body, s = body[:len(body)-1], s[:len(s)-1]
	}
	if !isDouble(body) {
		return 0, false
	}
	// The text is not kept: ParseFloat copies it when it has an error to tell,
	// and then only of a value beyond all doubles, which is infinite in Java too.
	f, _ = strconv.ParseFloat(unsafe.String(unsafe.SliceData(s), len(s)), 64)
	return f, true
}

// isDouble says whether s, without sign and suffix, is a float to Java: digits
// with at most one point, and an exponent, which hexadecimal ones must have.
func isDouble(s []byte) bool {
	mark, is := byte('e'), func(c byte) bool { return isDigit(c) }
	hex := len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x'
	if hex {
		s, mark = s[2:], 'p'
		is = func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
	}
	digits, point, i := 0, false, 0
	for ; i < len(s); i++ {
		if s[i] == '.' && !point {
			point = true
		} else if is(s[i]) {
			digits++
		} else {
			break
		}
	}
	if digits == 0 {
		return false
	}
	if i == len(s) {
		return !hex
	}
	if s[i]|0x20 != mark {
		return false
	}
	if i++; i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	if i == len(s) {
		return false
	}
	for ; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// compareDoubles is Java's Double.compareTo: NaN is the greatest, 0 is more than
// -0.
func compareDoubles(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	x, y := math.Float64bits(a), math.Float64bits(b)
	if math.IsNaN(a) {
		x = math.MaxUint64 >> 1
	}
	if math.IsNaN(b) {
		y = math.MaxUint64 >> 1
	}
	switch i, j := int64(x), int64(y); {
	case i < j:
		return -1
	case i > j:
		return 1
	}
	return 0
}
