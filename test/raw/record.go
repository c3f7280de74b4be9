package raw

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strings"
)

// Record is a stored message as a pull, a query or a view returns it.
type Record struct {
	Topic      string
	Queue      int
	Offset     int64 // in the queue
	PhyOffset  int64 // in the commit log
	Flag       int
	SysFlag    int
	BornTime   int64  // milliseconds
	StoreTime  int64  // milliseconds
	ID         string // the offset id, made of store host and PhyOffset
	Reconsumes int
	Props      map[string]string
	Body       []byte
}

// Keys returns the value of the property with the message's keys.
func (r *Record) Keys() string { return r.Props["KEYS"] }

const recordMagic = 0xDAA320A7

// ParseRecords takes the records out of an answer's body. It checks magic,
// lengths and the body's CRC of every one.
func ParseRecords(b []byte) ([]*Record, error) {
	var list []*Record
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("record %d: %d bytes left", len(list), len(b))
		}
		n := int(binary.BigEndian.Uint32(b))
		if n < 91 || n > len(b) {
			return nil, fmt.Errorf("record %d: size %d of %d left", len(list), n, len(b))
		}
		r, err := parseRecord(b[:n])
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", len(list), err)
		}
		list = append(list, r)
		b = b[n:]
	}
	return list, nil
}

// parseRecord reads: size(4) magic(4) bodyCRC(4) queue(4) flag(4) queueOffset(8)
// phyOffset(8) sysFlag(4) born(8) bornHost(8|20) stored(8) storeHost(8|20)
// reconsumes(4) prepared(8) body(4+n) topic(1+n) properties(2+n).
func parseRecord(b []byte) (*Record, error) {
	if m := binary.BigEndian.Uint32(b[4:]); m != recordMagic {
		return nil, fmt.Errorf("magic %#x", m)
	}
	be := binary.BigEndian
	r := &Record{
		Queue:     int(be.Uint32(b[12:])),
		Flag:      int(be.Uint32(b[16:])),
		Offset:    int64(be.Uint64(b[20:])),
		PhyOffset: int64(be.Uint64(b[28:])),
		SysFlag:   int(be.Uint32(b[36:])),
		BornTime:  int64(be.Uint64(b[40:])),
	}
	crc := be.Uint32(b[8:])
	p := 48 + hostLen(r.SysFlag&16 != 0)
	r.StoreTime = int64(be.Uint64(b[p:]))
	p += 8
	host := b[p : p+hostLen(r.SysFlag&32 != 0)]
	r.ID = strings.ToUpper(hex.EncodeToString(be.AppendUint64(append([]byte(nil), host...), uint64(r.PhyOffset))))
	p += len(host)
	r.Reconsumes = int(be.Uint32(b[p:]))
	p += 12
	body, rest, err := cut(b[p:], 4)
	if err != nil {
		return nil, err
	}
	r.Body = body
	if got := crc32.ChecksumIEEE(body) & 0x7fffffff; len(body) > 0 && got != crc {
		return nil, fmt.Errorf("body CRC %#x, stored %#x", got, crc)
	}
	if len(rest) < 1 || len(rest) < 1+int(rest[0]) {
		return nil, errShort
	}
	r.Topic, rest = string(rest[1:1+rest[0]]), rest[1+rest[0]:]
	props, rest, err := cut(rest, 2)
	if err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("properties: %d bytes left over, %v", len(rest), err)
	}
	r.Props = ParseProps(string(props))
	return r, nil
}

func hostLen(v6 bool) int {
	if v6 {
		return 20
	}
	return 8
}

// ParseProps reads name \1 value \2 ...
func ParseProps(s string) map[string]string {
	m := map[string]string{}
	for _, pair := range strings.Split(s, "\x02") {
		if k, v, ok := strings.Cut(pair, "\x01"); ok {
			m[k] = v
		}
	}
	return m
}

// Props is the inverse of ParseProps; the arguments are name, value, ...
func Props(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteString(pairs[i] + "\x01" + pairs[i+1] + "\x02")
	}
	return b.String()
}
