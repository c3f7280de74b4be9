package message

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
)

const upperHex = "0123456789ABCDEF"

// AppendID appends the offset message id: upper-case hex of the store host's
// address (4 or 16 bytes), its port (4) and the log offset (8); 32 or 56 digits
// (store.md section 3).
func AppendID(dst []byte, host netip.AddrPort, offset int64) []byte {
	var raw [28]byte
	n := putHost(raw[:], 0, host)
	binary.BigEndian.PutUint64(raw[n:], uint64(offset))
	for _, c := range raw[:n+8] {
		dst = append(dst, upperHex[c>>4], upperHex[c&15])
	}
	return dst
}

// ParseID reads an offset message id.
func ParseID(id string) (host netip.AddrPort, offset int64, err error) {
	if len(id) != 32 && len(id) != 56 {
		return host, 0, fmt.Errorf("message id %q has %d digits, an offset id has 32 or 56", id, len(id))
	}
	raw, err := hex.DecodeString(id)
	if err != nil {
		return host, 0, fmt.Errorf("message id %q: %w", id, err)
	}
	n := len(raw) - 12
	ip, _ := netip.AddrFromSlice(raw[:n])
	port := binary.BigEndian.Uint32(raw[n:])
	if port > 65535 {
		return host, 0, fmt.Errorf("message id %q: port %d", id, port)
	}
	return netip.AddrPortFrom(ip, uint16(port)), int64(binary.BigEndian.Uint64(raw[n+4:])), nil
}
