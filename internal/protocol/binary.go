package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
)

// parseBinary reads a header in ROCKETMQ encoding (wire.md section 5):
//
//	code 2, language 1, version 2, opaque 4, flag 4, remark length 4, remark,
//	pairs' length 4, then until it is used up: key length 2, key, value length 4, value
//
// A pair whose key or value is empty is none, as for 4.9.
func (c *Command) parseBinary(b []byte) error {
	if len(b) < 21 {
		return fmt.Errorf("%w: %d bytes of a ROCKETMQ header, it has at least 21", ErrHeader, len(b))
	}
	c.Code = int32(int16(binary.BigEndian.Uint16(b)))
	c.Language = Language(b[2])
	c.Version = int32(int16(binary.BigEndian.Uint16(b[3:])))
	c.Opaque = int32(binary.BigEndian.Uint32(b[5:]))
	c.Flag = int32(binary.BigEndian.Uint32(b[9:]))
	n := binary.BigEndian.Uint32(b[13:])
	b = b[17:]
	if uint64(n)+4 > uint64(len(b)) {
		return fmt.Errorf("%w: a remark of %d bytes, %d are left", ErrHeader, int32(n), len(b))
	}
	c.Remark = remarkOf(b[:n])
	b = b[n:]
	n = binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(n) != uint64(len(b)) {
		return fmt.Errorf("%w: pairs of %d bytes, %d are left", ErrHeader, int32(n), len(b))
	}
	var seen dedup
	ext := c.ext
	for pairs := 0; len(b) > 0; pairs++ {
		if pairs == MaxPairs {
			return fmt.Errorf("%w: more than %d pairs", ErrHeader, MaxPairs)
		}
		var key, value []byte
		if len(b) >= 2 {
			if k := 2 + int(binary.BigEndian.Uint16(b)); len(b) >= k+4 {
				key = b[2:k:k]
				if v := uint64(binary.BigEndian.Uint32(b[k:])); v <= uint64(len(b)-k-4) {
					end := k + 4 + int(v)
					value = b[k+4 : end : end]
					b = b[end:]
					if len(key) > 0 && len(value) > 0 {
						ext = seen.add(ext, key, value)
					}
					continue
				}
			}
		}
		return fmt.Errorf("%w: pair %d does not fit into the %d bytes that are left", ErrHeader, pairs, len(b))
	}
	c.ext, c.hasExt = ext, len(ext) > 0
	return nil
}

// appendBinaryHead appends room for length and mark and a header up to the
// length of its pairs. The code is cut to 16 bits, as the encoding has it.
func appendBinaryHead(dst []byte, code int32, language Language, version, opaque, flag int32, remark string) []byte {
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0,
		byte(code>>8), byte(code), byte(language), byte(version>>8), byte(version))
	dst = binary.BigEndian.AppendUint32(dst, uint32(opaque))
	dst = binary.BigEndian.AppendUint32(dst, uint32(flag))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(remark)))
	return append(dst, remark...)
}

// appendBinaryPair appends one pair; an empty one, or a key too long for the
// encoding, is left out.
func appendBinaryPair[K, V []byte | string](dst []byte, key K, value V) []byte {
	if len(key) == 0 || len(value) == 0 || len(key) > math.MaxInt16 {
		return dst
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key)))
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}
