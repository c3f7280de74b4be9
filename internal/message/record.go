package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// The magic numbers of the log (store.md section 2).
const (
	MagicMessage uint32 = 0xDAA320A7
	MagicV2      uint32 = 0xDAA320AB // 5.x, topic longer than 127 bytes; not written, not read
	MagicBlank   uint32 = 0xCBD43194 // fills the end of a log file
)

// A record as it lies in the log and in the answer to a pull, big endian:
//
//	 0 total size i32      36 sys flag i32            64+b store host (8, or 20 for v6)
//	 4 magic i32           40 born time i64           72+b+s reconsume times i32
//	 8 body crc i32        48 born host (8 or 20)     76+b+s prepared offset i64
//	12 queue id i32        56+b store time i64        84+b+s body length i32, body
//	16 flag i32                                       topic length i8, topic
//	20 queue offset i64                               properties length i16, properties
//	28 log offset i64
//
// b and s are 12 for a host that is IPv6, 0 otherwise (CommitLog of 4.9.8).
const (
	atMagic       = 4
	atCRC         = 8
	atQueueID     = 12
	atFlag        = 16
	atQueueOffset = 20
	atOffset      = 28
	atSysFlag     = 36
	atBornTime    = 40
	atBornHost    = 48
	fixedSize     = 91 // of a record without body, topic and properties, both hosts IPv4
	v6More        = 12
)

// MinRecord is the least that a record can have.
const MinRecord = fixedSize

// Why bytes are no record. Found with errors.Is; the error's text says more.
var (
	ErrShort  = errors.New("the record is cut off")
	ErrMagic  = errors.New("no magic number of a record")
	ErrBlank  = errors.New("the rest of the file is blank")
	ErrLength = errors.New("the lengths in the record do not fit together")
	ErrCRC    = errors.New("the body does not match its checksum")
)

// Why a message cannot be a record.
var (
	ErrTopicLength = fmt.Errorf("the topic is empty or longer than %d bytes", MaxTopicLen)
	ErrPropsLength = fmt.Errorf("the properties are longer than %d bytes", MaxPropsLen)
)

// CRC is the checksum that a record carries of its body: IEEE, without its
// highest bit.
func CRC(body []byte) uint32 { return crc32.ChecksumIEEE(body) & 0x7fffffff }

// hostV6 says whether the host takes the long form.
func hostV6(a netip.AddrPort) bool { return a.Addr().Is6() && !a.Addr().Is4In6() }

// RecordSize is how many bytes m takes as a record.
func RecordSize(m *Message) int {
	n := fixedSize + len(m.Body) + len(m.Topic) + len(m.Props)
	if hostV6(m.BornHost) {
		n += v6More
	}
	if hostV6(m.StoreHost) {
		n += v6More
	}
	return n
}

// AppendRecord appends m as a record whose queue offset, log offset and store
// time are zero: Record.Place sets them. Errors: ErrTopicLength, ErrPropsLength;
// dst is unchanged then.
func AppendRecord(dst []byte, m *Message) ([]byte, error) {
	if len(m.Topic) == 0 || len(m.Topic) > MaxTopicLen {
		return dst, fmt.Errorf("%w: %d", ErrTopicLength, len(m.Topic))
	}
	if len(m.Props) > MaxPropsLen {
		return dst, fmt.Errorf("%w: %d", ErrPropsLength, len(m.Props))
	}
	be := binary.BigEndian
	n, at := RecordSize(m), len(dst)
	if cap(dst)-at < n {
		dst = append(make([]byte, 0, max(2*cap(dst), at+n)), dst...)
	}
	b := dst[at : at+n]
	sys := m.SysFlag &^ (BornHostV6 | StoreHostV6) // they describe this record, whoever sent the message
	if hostV6(m.BornHost) {
		sys |= BornHostV6
	}
	if hostV6(m.StoreHost) {
		sys |= StoreHostV6
	}
	be.PutUint32(b, uint32(n))
	be.PutUint32(b[atMagic:], MagicMessage)
	be.PutUint32(b[atCRC:], CRC(m.Body))
	be.PutUint32(b[atQueueID:], uint32(m.QueueID))
	be.PutUint32(b[atFlag:], uint32(m.Flag))
	be.PutUint64(b[atQueueOffset:], 0)
	be.PutUint64(b[atOffset:], 0)
	be.PutUint32(b[atSysFlag:], uint32(sys))
	be.PutUint64(b[atBornTime:], uint64(m.BornTime))
	i := putHost(b, atBornHost, m.BornHost)
	be.PutUint64(b[i:], 0)
	i = putHost(b, i+8, m.StoreHost)
	be.PutUint32(b[i:], uint32(m.Reconsume))
	be.PutUint64(b[i+4:], uint64(m.Prepared))
	be.PutUint32(b[i+12:], uint32(len(m.Body)))
	i += 16
	i += copy(b[i:], m.Body)
	b[i] = byte(len(m.Topic))
	i++
	i += copy(b[i:], m.Topic)
	be.PutUint16(b[i:], uint16(len(m.Props)))
	copy(b[i+2:], m.Props)
	return dst[:at+n], nil
}

func putHost(b []byte, i int, a netip.AddrPort) int {
	if hostV6(a) {
		ip := a.Addr().As16()
		i += copy(b[i:], ip[:])
	} else {
		var ip [4]byte
		if a.Addr().Unmap().Is4() {
			ip = a.Addr().Unmap().As4()
		}
		i += copy(b[i:], ip[:])
	}
	binary.BigEndian.PutUint32(b[i:], uint32(a.Port()))
	return i + 4
}

// Record is the bytes of one record that ParseRecord has accepted (its lengths
// are inside of it), so no method can fail. The bytes are borrowed.
type Record []byte

// ParseRecord reads the record at the front of b, which may be longer. It checks
// the magic number and that all lengths fit together, and the body's checksum
// when checkCRC is set. The errors are those above, with what was found; ErrBlank
// tells that the rest of this log file holds nothing. It never panics.
func ParseRecord(b []byte, checkCRC bool) (Record, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: %d bytes", ErrShort, len(b))
	}
	be := binary.BigEndian
	size := int64(int32(be.Uint32(b)))
	switch magic := be.Uint32(b[atMagic:]); magic {
	case MagicMessage:
	case MagicBlank:
		return nil, ErrBlank
	default:
		return nil, fmt.Errorf("%w: %08X", ErrMagic, magic)
	}
	if size < MinRecord {
		return nil, fmt.Errorf("%w: size %d", ErrLength, size)
	}
	if size > int64(len(b)) {
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrShort, len(b), size)
	}
	r := Record(b[:size:size])
	if err := r.checkLengths(); err != nil {
		return nil, err
	}
	if checkCRC && CRC(r.Body()) != be.Uint32(r[atCRC:]) {
		return nil, fmt.Errorf("%w (%08X, its bytes have %08X)", ErrCRC, be.Uint32(r[atCRC:]), CRC(r.Body()))
	}
	return r, nil
}

func (r Record) checkLengths() error {
	at := r.bodyAt()
	if at > len(r) {
		return fmt.Errorf("%w: size %d with IPv6 hosts", ErrLength, len(r))
	}
	body := int64(int32(binary.BigEndian.Uint32(r[at-4:])))
	next := int64(at) + body
	if body < 0 || next+1 > int64(len(r)) {
		return fmt.Errorf("%w: body of %d bytes in a record of %d", ErrLength, body, len(r))
	}
	topic := int64(int8(r[next]))
	next += 1 + topic
	if topic <= 0 || next+2 > int64(len(r)) {
		return fmt.Errorf("%w: topic of %d bytes", ErrLength, topic)
	}
	props := int64(int16(binary.BigEndian.Uint16(r[next:])))
	if props < 0 || next+2+props != int64(len(r)) {
		return fmt.Errorf("%w: properties of %d bytes at %d in a record of %d", ErrLength, props, next, len(r))
	}
	return nil
}

func (r Record) u32(at int) uint32 { return binary.BigEndian.Uint32(r[at:]) }
func (r Record) i64(at int) int64  { return int64(binary.BigEndian.Uint64(r[at:])) }

// v6 is how many bytes more the hosts in front of the store time (one) or of the
// reconsume times (both) take.
func (r Record) v6(both bool) (n int) {
	sys := r.SysFlag()
	if sys&BornHostV6 != 0 {
		n += v6More
	}
	if both && sys&StoreHostV6 != 0 {
		n += v6More
	}
	return n
}

func (r Record) bodyAt() int { return 88 + r.v6(true) }

// Size is the record's length in bytes.
func (r Record) Size() int32 { return int32(len(r)) }

// BodyCRC is the checksum that the record carries.
func (r Record) BodyCRC() uint32 { return r.u32(atCRC) }

// QueueID is the queue within the topic.
func (r Record) QueueID() int32 { return int32(r.u32(atQueueID)) }

// Flag is the user's flag.
func (r Record) Flag() int32 { return int32(r.u32(atFlag)) }

// QueueOffset is the number of the record's entry in its queue.
func (r Record) QueueOffset() int64 { return r.i64(atQueueOffset) }

// Offset is where in the log the record says it lies.
func (r Record) Offset() int64 { return r.i64(atOffset) }

// SysFlag is the flag word.
func (r Record) SysFlag() SysFlag { return SysFlag(r.u32(atSysFlag)) }

// BornTime is the producer's clock, ms.
func (r Record) BornTime() int64 { return r.i64(atBornTime) }

// BornHost is the producer's address.
func (r Record) BornHost() netip.AddrPort { return r.host(atBornHost, r.v6(false) > 0) }

// StoreTime is the broker's clock when the record was appended, ms.
func (r Record) StoreTime() int64 { return r.i64(56 + r.v6(false)) }

// StoreHost is the broker that first took the message.
func (r Record) StoreHost() netip.AddrPort {
	return r.host(64+r.v6(false), r.SysFlag()&StoreHostV6 != 0)
}

func (r Record) host(at int, v6 bool) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[at:at+16])), uint16(r.u32(at+16)))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[at:at+4])), uint16(r.u32(at+4)))
}

// Reconsume is how often the message has been retried.
func (r Record) Reconsume() int32 { return int32(r.u32(72 + r.v6(true))) }

// Prepared is the log offset of the half message that this record commits.
func (r Record) Prepared() int64 { return r.i64(76 + r.v6(true)) }

// Body is the body as it was sent, perhaps compressed.
func (r Record) Body() []byte {
	at := r.bodyAt()
	n := int(r.u32(at - 4))
	return r[at : at+n : at+n]
}

// Topic is the topic.
func (r Record) Topic() []byte {
	at := r.bodyAt()
	at += int(r.u32(at - 4))
	n := int(r[at])
	return r[at+1 : at+1+n : at+1+n]
}

// Props is the property text.
func (r Record) Props() []byte {
	at := r.bodyAt()
	at += int(r.u32(at - 4))
	at += 1 + int(r[at]) + 2
	return r[at:len(r):len(r)]
}

// Place writes what is known only when the record is appended: its place in the
// queue and in the log, and the time (ms).
func (r Record) Place(queueOffset, offset, storeTime int64) {
	be := binary.BigEndian
	be.PutUint64(r[atQueueOffset:], uint64(queueOffset))
	be.PutUint64(r[atOffset:], uint64(offset))
	be.PutUint64(r[56+r.v6(false):], uint64(storeTime))
}

// AppendBlank appends the 8 bytes that say that the remaining rest bytes of a
// log file hold nothing: rest, MagicBlank.
func AppendBlank(dst []byte, rest int32) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(rest))
	return binary.BigEndian.AppendUint32(dst, MagicBlank)
}
