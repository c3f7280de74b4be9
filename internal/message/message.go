// Package message is what a message is: in memory, as a record of the log (which
// is also what a pull returns), its properties, ids and names. It knows neither
// sockets nor files.
package message

import (
	"net/netip"
)

// SysFlag is the flag word that clients and brokers set (store.md section 2).
type SysFlag int32

// The bits of SysFlag.
const (
	Compressed  SysFlag = 0x1
	MultiTags   SysFlag = 0x2
	TxMask      SysFlag = 0xC // the transaction type: 0 is none
	Prepared    SysFlag = 0x4
	Commit      SysFlag = 0x8
	Rollback    SysFlag = 0xC
	BornHostV6  SysFlag = 0x10
	StoreHostV6 SysFlag = 0x20
	CodecMask   SysFlag = 0x700 // compression: 0 and 3<<8 zlib, 1<<8 LZ4, 2<<8 zstd
)

// Message is a message to be stored. Its slices may be borrowed: AppendRecord
// copies.
type Message struct {
	Topic     []byte
	QueueID   int32
	Flag      int32 // the user's
	SysFlag   SysFlag
	BornTime  int64 // ms, by the producer's clock
	BornHost  netip.AddrPort
	StoreHost netip.AddrPort // the broker that first took the message
	Reconsume int32
	Prepared  int64 // commit records: log offset of the half message
	Body      []byte
	Props     []byte // name 0x01 value 0x02 ...
}

// Limits of a record (store.md section 2).
const (
	MaxTopicLen = 127
	MaxGroupLen = 120 // so that %RETRY%group is a topic
	MaxPropsLen = 32767
)
