package filter

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Bloom says how many bits and how many positions in them the original's filter
// bits have. gomq stores no such bits; the positions stand in consumerFilter.json,
// which a Java broker ignores as a whole when theirs do not fit its configuration.
type Bloom struct{ bits, positions int }

// NewBloom sizes a filter for expect consumers (expectConsumerNumUseFilter, from
// 1 on) and errors percent of false hits (maxErrorRateOfBloomFilter, 1 to 99).
func NewBloom(errors, expect int) Bloom {
	rate := float64(errors) / 100
	n := math.Ceil(float64(expect) * math.Log(1/rate) / math.Ln2 * (1 / math.Ln2))
	return Bloom{bits: 8 * int(math.Ceil(n/8)), positions: int(math.Ceil(math.Log(rate) / math.Log(0.5)))}
}

// Bits is how many bits there are.
func (b Bloom) Bits() int { return b.bits }

// Fits says whether data of so many bits and positions belongs to such a filter.
func (b Bloom) Fits(bits, positions int) bool { return bits == b.bits && positions == b.positions }

// Positions are those of a group's expression for a topic.
func (b Bloom) Positions(group, topic string) []int32 {
	hash := murmur3([]byte(group + "#" + topic))
	out := make([]int32, b.positions)
	for i := range out {
		at := int32(hash) + int32(i+1)*int32(hash>>32)
		if at < 0 {
			at = ^at
		}
		out[i] = at % int32(b.bits)
	}
	return out
}

// murmur3 is the first half of the 128-bit MurmurHash3 for 64-bit machines, seed 0.
func murmur3(data []byte) uint64 {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	mix1 := func(k uint64) uint64 { return bits.RotateLeft64(k*c1, 31) * c2 }
	mix2 := func(k uint64) uint64 { return bits.RotateLeft64(k*c2, 33) * c1 }
	length := uint64(len(data))
	var h1, h2 uint64
	for ; len(data) >= 16; data = data[16:] {
		h1 ^= mix1(binary.LittleEndian.Uint64(data))
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= mix2(binary.LittleEndian.Uint64(data[8:]))
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	}
	var tail [16]byte
	copy(tail[:], data)
	h2 ^= mix2(binary.LittleEndian.Uint64(tail[8:]))
	h1 ^= mix1(binary.LittleEndian.Uint64(tail[:]))
	h1, h2 = h1^length, h2^length
	h1 += h2
	h2 += h1
	return fmix(h1) + fmix(h2)
}

func fmix(k uint64) uint64 {
	k = (k ^ k>>33) * 0xff51afd7ed558ccd
	k = (k ^ k>>33) * 0xc4ceb9fe1a85ec53
	return k ^ k>>33
}
