// Package ha is log shipping: Master, the end that streams its log to slaves, and
// Replica, the end that appends what comes. Neither knows what a record is; the
// log that they are given does.
//
// The protocol is that of RocketMQ 4.x (ha.md section 2), plain TCP without a
// greeting, big endian:
//
//	slave to master   8 bytes       offset i64: "I have the log up to here"
//	master to slave   12 + n bytes  offset i64, n i32, n bytes of the log from there on
//
// The first report asks for the offset to begin at; 0 gets a Java master's last
// file, and all of the log of one of ours.
// A block with n = 0 is the master's heartbeat. The bytes are the log's own,
// fillers included; a record may be split between blocks, but no block crosses
// the end of a log file.
//
// Between gomq peers a greeting comes first, so that a slave that is ahead of its
// master or has other bytes is noticed. A slave greets a master that has said over
// remoting that it is gomq. All of it within 5 s:
//
//	slave to master   magic F0 67 6F 6D 71 68 61 01, a message: who it is and what it has
//	master to slave   the same magic, a message: who it is and what it has
//	slave to master   a message: the CRC-32C of the last 64 KiB that both have
//	master to slave   a message: where its blocks begin, or why there will be none
//
// A message is its length, u32, at most 4096, and that many bytes of JSON: the
// types hello, proof and verdict in greet.go. Then follow blocks and reports as
// above, without a first report; a slave without a log gets all of the master's.
package ha

import (
	"encoding/binary"
	"fmt"
)

const (
	// ReportSize is the length of a slave's report.
	ReportSize = 8
	// HeaderSize is the length of what stands in front of a block's bytes.
	HeaderSize = 12
	// MaxBlock bounds a whole block: a Java slave has 4 MiB to read it into and
	// waits for ever for the rest of a larger one.
	MaxBlock = 4 << 20
)

// AppendReport appends a slave's report that it has the log up to offset.
func AppendReport(dst []byte, offset int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(offset))
}

// LastReport is the newest whole report in b, and how many bytes of b have been
// used: reports only rise, so one that is followed by another says nothing. With
// none used is 0. A negative report is an error: the peer speaks something else.
func LastReport(b []byte) (offset int64, used int, err error) {
	used = len(b) / ReportSize * ReportSize
	if used == 0 {
		return 0, 0, nil
	}
	offset = int64(binary.BigEndian.Uint64(b[used-ReportSize:]))
	if offset < 0 {
		return 0, used, fmt.Errorf("a slave reports the offset %d", offset)
	}
	return offset, used, nil
}

// Block is a piece of the log on its way to a slave; without bytes it is a
// heartbeat that tells where the next one will begin.
type Block struct {
	Offset int64
	Bytes  []byte // borrowed
}

// AppendHeader appends what stands in front of size bytes of the log from offset
// on.
func AppendHeader(dst []byte, offset int64, size int) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	return binary.BigEndian.AppendUint32(dst, uint32(size))
}

// ParseBlock reads the block at the front of b and says how many bytes it took; 0
// when it is not whole yet. An error says that what comes is no block.
func ParseBlock(b []byte) (block Block, used int, err error) {
	if len(b) < HeaderSize {
		return block, 0, nil
	}
	offset, size := int64(binary.BigEndian.Uint64(b)), int64(int32(binary.BigEndian.Uint32(b[8:])))
	if offset < 0 || size < 0 || HeaderSize+size > MaxBlock {
		return block, 0, fmt.Errorf("a master sends a block of %d bytes for the offset %d, at most %d are possible", size, offset, MaxBlock-HeaderSize)
	}
	if int64(len(b)) < HeaderSize+size {
		return block, 0, nil
	}
	used = HeaderSize + int(size)
	return Block{Offset: offset, Bytes: b[HeaderSize:used:used]}, used, nil
}
