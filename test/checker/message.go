// Package checker records what producers and consumers saw and judges it: the
// invariants I1 to I7 and I9, each in a file-level comment of its own below,
// say what a broker promises with and without faults.
//
// A message is known by producer and sequence number, an attempt to send it by
// its number as well, and all three are in the body together with a checksum,
// so that any byte which is not where it belongs shows, and so that two copies
// of a message can be told apart by the attempt that made them.
package checker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// ID names a message within a run.
type ID struct {
	Producer int
	Seq      int64
}

// Attempt names one frame that was sent: the Nth try of a message, from 1.
type Attempt struct {
	ID
	N int
}

func (a Attempt) String() string { return fmt.Sprintf("%d/%d#%d", a.Producer, a.Seq, a.N) }

// Message is what a producer sends in one attempt.
type Message struct {
	Attempt
	Topic string
	Queue int // -1 when the client chooses the queue
	Key   string
	Note  string // a user property
	Body  []byte
}

// Tag is the tag of every message.
const Tag = "check"

const bodyMagic = 0x47514b31

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// minBody is the length of a body without random bytes:
// magic(4) run(8) producer(4) seq(8) attempt(4) length(4) random(...) CRC32C(4).
const minBody = 36

// body makes a self-verifying body of the given size.
func body(run uint64, a Attempt, size int, rng *rand.Rand) []byte {
	size = max(size, minBody)
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, bodyMagic)
	b = binary.BigEndian.AppendUint64(b, run)
	b = binary.BigEndian.AppendUint32(b, uint32(a.Producer))
	b = binary.BigEndian.AppendUint64(b, uint64(a.Seq))
	b = binary.BigEndian.AppendUint32(b, uint32(a.N))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for len(b) < size-4 {
		b = append(b, byte(rng.Uint32()))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readBody returns the attempt that a body was made for.
func readBody(run uint64, b []byte) (Attempt, error) {
	var a Attempt
	if len(b) < minBody || binary.BigEndian.Uint32(b) != bodyMagic {
		return a, fmt.Errorf("a body of %d bytes that no producer of the tests made", len(b))
	}
	a.Producer = int(int32(binary.BigEndian.Uint32(b[12:])))
	a.Seq = int64(binary.BigEndian.Uint64(b[16:]))
	a.N = int(int32(binary.BigEndian.Uint32(b[24:])))
	if n := binary.BigEndian.Uint32(b[28:]); int(n) != len(b) {
		return a, fmt.Errorf("body of %v has %d bytes instead of %d", a, len(b), n)
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return a, fmt.Errorf("body of %v is damaged", a)
	}
	if r := binary.BigEndian.Uint64(b[4:]); r != run {
		return a, errors.New("a message of another run")
	}
	return a, nil
}

// sum covers everything of a message that has to come back unchanged.
func sum(body []byte, key, tag, note string) uint32 {
	s := crc32.Checksum(body, castagnoli)
	return crc32.Update(s, castagnoli, []byte("\x00"+key+"\x00"+tag+"\x00"+note))
}
