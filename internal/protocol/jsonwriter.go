package protocol

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
)

// writer writes JSON as the original's library does: compact, or pretty as its
// files are (tabs, each member with a name on a line of its own, members whose
// key is a number on the line they are on; store.md section 12).
type writer struct {
	b      []byte
	pretty bool
	// standard quotes keys that are numbers and writes ASCII only, as the
	// nameserver does for routes (wire.md section 14.3).
	standard bool
	depth    int
	inside   bool // something stands between the brackets already
}

func (w *writer) open(bracket byte) {
	w.b = append(w.b, bracket)
	w.depth++
	w.inside = false
}

func (w *writer) line() {
	if w.pretty {
		w.b = append(w.b, '\n')
		for range w.depth {
			w.b = append(w.b, '\t')
		}
	}
}

// end closes an object.
func (w *writer) end() {
	w.depth--
	if w.inside {
		w.line()
	}
	w.b = append(w.b, '}')
	w.inside = true
}

// endList closes an array.
func (w *writer) endList() {
	w.depth--
	w.b = append(w.b, ']')
	w.inside = true
}

// item begins an element of an array, or a member before its key.
func (w *writer) item() {
	if w.inside {
		w.b = append(w.b, ',')
	}
	w.inside = true
}

// key begins a member.
func (w *writer) key(name string) {
	w.item()
	w.line()
	w.text(name)
	w.b = append(w.b, ':')
}

// number begins a member whose key is a number.
func (w *writer) number(n int64) {
	w.item()
	if w.standard {
		w.b = append(strconv.AppendInt(append(w.b, '"'), n, 10), '"', ':')
		return
	}
	w.b = append(strconv.AppendInt(w.b, n, 10), ':')
}

func (w *writer) text(s string) {
	if w.standard {
		w.b = appendASCII(w.b, s)
		return
	}
	w.b = appendQuoted(w.b, s)
}

func (w *writer) str(name, v string) {
	w.key(name)
	w.text(v)
}

// optional writes a member that is left out when it is empty: Java's null.
func (w *writer) optional(name, v string) {
	if v != "" {
		w.str(name, v)
	}
}

func (w *writer) int(name string, v int64) {
	w.key(name)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *writer) bool(name string, v bool) {
	w.key(name)
	w.b = strconv.AppendBool(w.b, v)
}

// float writes a number as Java's Double.toString does: always with a point,
// with an exponent from 1E7 on and below 1E-3; null for what JSON has no word for.
func (w *writer) float(name string, v float64) {
	w.key(name)
	a := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		w.b = append(w.b, "null"...)
	case a != 0 && (a < 1e-3 || a >= 1e7):
		t := strconv.FormatFloat(v, 'e', -1, 64)
		mantissa, exponent := t, 0
		for i := range t {
			if t[i] == 'e' {
				mantissa = t[:i]
				exponent, _ = strconv.Atoi(t[i+1:])
			}
		}
		w.b = append(w.b, mantissa...)
		if !slices.Contains([]byte(mantissa), '.') {
			w.b = append(w.b, '.', '0')
		}
		w.b = strconv.AppendInt(append(w.b, 'E'), int64(exponent), 10)
	default:
		at := len(w.b)
		w.b = strconv.AppendFloat(w.b, v, 'f', -1, 64)
		if !slices.Contains(w.b[at:], '.') {
			w.b = append(w.b, '.', '0')
		}
	}
}

func (w *writer) strings(name string, list []string) {
	w.key(name)
	w.open('[')
	for _, v := range list {
		w.item()
		w.text(v)
	}
	w.endList()
}

// sorted are a map's keys in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
