package message

import "unicode/utf8"

// HashCode is Java's String.hashCode of UTF-8 text: over UTF-16 code units,
// h = 31*h + unit, wrapping (store.md section 3). Bytes that are no UTF-8 count
// as U+FFFD, as Java decodes them.
func HashCode(s []byte) int32 { return HashMore(0, s) }

// HashMore is the hash of a text of which seed is the hash of the beginning.
func HashMore(seed int32, s []byte) int32 {
	h := uint32(seed)
	i := 0
	// Four at a time while the text is ASCII: the products do not depend on
	// each other.
	for ; i+4 <= len(s); i += 4 {
		a, b, c, d := s[i], s[i+1], s[i+2], s[i+3]
		if (a|b|c|d)&0x80 != 0 {
			break
		}
		h = h*(31*31*31*31) + uint32(a)*(31*31*31) + uint32(b)*(31*31) + uint32(c)*31 + uint32(d)
	}
	for i < len(s) {
		if c := s[i]; c < utf8.RuneSelf {
			h = 31*h + uint32(c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(s[i:])
		i += n
		if r < 0x10000 {
			h = 31*h + uint32(r)
			continue
		}
		r -= 0x10000
		h = 31*h + uint32(0xd800+r>>10)
		h = 31*h + uint32(0xdc00+r&0x3ff)
	}
	return int32(h)
}
