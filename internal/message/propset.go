package message

import (
	"bytes"
	"slices"
	"strconv"
	"unsafe"
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
	items   []propItem // in the order in which they were put
	buckets uint32     // of the HashMap: it grows and never shrinks
	keys    []uint64   // of AppendTo
	num     []byte     // the digits of SetInt
}

type propItem struct {
	name, value []byte
	spread      uint32 // the hash of the name as HashMap uses it
}

// leastBuckets is what a HashMap starts with.
const leastBuckets = 16

// Parse makes s the properties of a text, read as EachProp reads it.
func (s *PropSet) Parse(text []byte) {
	s.items, s.buckets, s.num = s.items[:0], leastBuckets, s.num[:0]
	var index map[string]int // when there are too many to look at each
	for len(text) > 0 {
		var item []byte
		item, text = NextProp(text)
		i := bytes.IndexByte(item, nameEnd)
		if i <= 0 || i == len(item)-1 {
			continue
		}
		name := item[:i]
		h := spread(name)
		const many = 128
		at := -1
		switch {
		case len(s.items) < many:
			at = s.same(name, h)
		case index == nil:
			index = make(map[string]int, 2*many)
			for k := range s.items {
				index[string(s.items[k].name)] = k
			}
			fallthrough
		default:
			if k, known := index[string(name)]; known {
				at = k
			} else {
				index[string(name)] = len(s.items)
			}
		}
		if at >= 0 {
			s.items[at].value = item[i+1:] // at the place of the first, as HashMap.put does
			continue
		}
		s.items = append(s.items, propItem{name, item[i+1:], h})
	}
	s.grow()
}

// same is the place of the property with that name and spread, -1 without one.
func (s *PropSet) same(name []byte, spread uint32) int {
	for i := range s.items {
		if s.items[i].spread == spread && bytes.Equal(s.items[i].name, name) {
			return i
		}
	}
	return -1
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
	for i := range s.items {
		if string(s.items[i].name) == name {
			return i
		}
	}
	return -1
}

// Each calls fn for each property, in the order in which they were put.
func (s *PropSet) Each(fn func(name, value []byte)) {
	for i := range s.items {
		fn(s.items[i].name, s.items[i].value)
	}
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
	n := borrowed(name)
	s.items = append(s.items, propItem{n, value, spread(n)})
	s.grow()
}

// SetString is Set with a text.
func (s *PropSet) SetString(name, value string) { s.Set(name, borrowed(value)) }

// borrowed is the bytes of a string, which are only ever read here.
func borrowed(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

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
	s.keys = s.keys[:0]
	for i := range s.items {
		s.keys = append(s.keys, uint64(s.items[i].spread&mask)<<32|uint64(i))
	}
	slices.Sort(s.keys)
	for i, key := range s.keys {
		if i > 0 {
			dst = append(dst, propEnd)
		}
		x := &s.items[uint32(key)]
		dst = append(dst, x.name...)
		dst = append(dst, nameEnd)
		dst = append(dst, x.value...)
	}
	return dst
}
