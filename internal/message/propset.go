package message

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
)

// PropSet is a property text taken apart to be changed. A name comes once, of one
// that came twice the last value counts, and AppendTo writes the text that the
// original writes after the same changes: 4.9 keeps properties in a Java HashMap
// and writes them in its order, so the order depends on the names, on how many
// there have been, and among names of one bucket on when each was put.
//
// The zero PropSet is empty. It is reused from message to message and belongs to
// one goroutine; names and values are borrowed.
type PropSet struct {
	items   []propItem
	buckets uint32 // of the HashMap: it grows and never shrinks
	seq     int32  // of the last item put
	num     []byte // the digits of SetInt
}

type propItem struct {
	name, value []byte
	spread      uint32 // the hash of the name as HashMap uses it
	seq         int32  // when it was put
}

// leastBuckets is what a HashMap starts with.
const leastBuckets = 16

// Parse makes s the properties of a text, read as EachProp reads it.
func (s *PropSet) Parse(text []byte) {
	s.items, s.buckets, s.seq, s.num = s.items[:0], leastBuckets, 0, s.num[:0]
	EachProp(text, func(name, value []byte) bool {
		s.seq++
		s.items = append(s.items, propItem{name, value, spread(name), s.seq})
		return true
	})
	slices.SortFunc(s.items, func(a, b propItem) int {
		return cmp.Or(cmp.Compare(a.spread, b.spread), bytes.Compare(a.name, b.name), cmp.Compare(a.seq, b.seq))
	})
	n := 0
	for _, x := range s.items {
		if n > 0 && bytes.Equal(s.items[n-1].name, x.name) {
			s.items[n-1].value = x.value // at the place of the first, as HashMap.put does
			continue
		}
		s.items[n] = x
		n++
	}
	s.items = s.items[:n]
	s.grow()
}

// spread is the hash of a key as HashMap mixes it.
func spread(name []byte) uint32 {
	h := uint32(HashCode(name))
	return h ^ h>>16
}

// grow doubles the buckets as HashMap does at three quarters.
func (s *PropSet) grow() {
	for uint32(len(s.items)) > s.buckets/4*3 {
		s.buckets *= 2
	}
}

func (s *PropSet) find(name string) int {
	return slices.IndexFunc(s.items, func(x propItem) bool { return string(x.name) == name })
}

// Get is the value of a property.
func (s *PropSet) Get(name string) (value []byte, ok bool) {
	if i := s.find(name); i >= 0 {
		return s.items[i].value, true
	}
	return nil, false
}

// Set gives a property a value. One that is there keeps its place.
func (s *PropSet) Set(name string, value []byte) {
	if i := s.find(name); i >= 0 {
		s.items[i].value = value
		return
	}
	if s.buckets == 0 {
		s.buckets = leastBuckets
	}
	s.seq++
	n := []byte(name)
	s.items = append(s.items, propItem{n, value, spread(n), s.seq})
	s.grow()
}

// SetInt is Set with a number in decimal.
func (s *PropSet) SetInt(name string, value int64) {
	from := len(s.num)
	s.num = strconv.AppendInt(s.num, value, 10)
	s.Set(name, s.num[from:len(s.num):len(s.num)])
}

// Delete takes a property out.
func (s *PropSet) Delete(name string) {
	if i := s.find(name); i >= 0 {
		s.items = slices.Delete(s.items, i, i+1)
	}
}

// AppendTo appends the text, without a separator at its end.
func (s *PropSet) AppendTo(dst []byte) []byte {
	mask := s.buckets - 1
	slices.SortFunc(s.items, func(a, b propItem) int {
		return cmp.Or(cmp.Compare(a.spread&mask, b.spread&mask), cmp.Compare(a.seq, b.seq))
	})
	for i, x := range s.items {
		if i > 0 {
			dst = append(dst, propEnd)
		}
		dst = append(dst, x.name...)
		dst = append(dst, nameEnd)
		dst = append(dst, x.value...)
	}
	return dst
}
