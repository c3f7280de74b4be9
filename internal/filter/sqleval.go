package filter

import (
	"bytes"
	"cmp"
	"unsafe"
)

// vkind is the type of a value. Properties are strings; what they are compared
// with says what they are read as.
type vkind uint8

const (
	vNull vkind = iota
	vBool
	vInt  // Java's int
	vLong // Java's long
	vDouble
	vString
)

// value is what a node comes to; the bytes of a string are borrowed.
type value struct {
	kind vkind
	n    int64 // vBool: 0 or 1; vInt, vLong
	f    float64
	s    []byte
}

func boolean(b bool) value {
	v := value{kind: vBool}
	if b {
		v.n = 1
	}
	return v
}

// evaluation is one look at a message. failed ends it: there is no verdict then,
// whatever else the expression says.
type evaluation struct {
	*SQL
	slots  [][]byte // values of the names; nil: the message has none
	failed bool
	long   map[number]read // what long values were read as
}

// longNumber is how many bytes a value has that is read once for each kind of
// number, not as often as an expression asks: four hundred times 32 KiB a message
// would take seconds a pull.
const longNumber = 64

// number is a value that is read as a number; read is what came of it.
type number struct {
	text *byte
	kind vkind
}

type read struct {
	value
	ok bool
}

// readAs reads a string as a value of kind k.
func (e *evaluation) readAs(s []byte, k vkind) (value, bool) {
	if len(s) <= longNumber || k == vBool {
		return readAs(s, k)
	}
	key := number{unsafe.SliceData(s), k}
	r, known := e.long[key]
	if !known {
		if e.long == nil {
			e.long = map[number]read{}
		}
		r.value, r.ok = readAs(s, k)
		e.long[key] = r
	}
	return r.value, r.ok
}

// value is what node i comes to.
func (e *evaluation) value(i uint16) value {
	n := &e.nodes[i]
	switch n.op {
	case opConst:
		return e.consts[n.left]
	case opProperty:
		if s := e.slots[n.left]; s != nil {
			return value{kind: vString, s: s}
		}
		return value{}
	case opNegate:
		return negate(e.value(n.left))
	case opNot:
		v := e.value(n.left)
		if v.kind == vNull {
			return v
		}
		return boolean(v.n == 0)
	case opTruth:
		if e.slots[e.nodes[n.left].left] == nil {
			return value{}
		}
		return boolean(false)
	case opAnd:
		return e.logic(n, 0)
	case opOr:
		return e.logic(n, 1)
	case opEqual:
		return e.equal(n)
	case opIsNull:
		return boolean(e.value(n.left).kind == vNull)
	case opIn:
		v := e.value(n.left)
		if v.kind == vNull {
			return v
		}
		is := false
		if len(v.s) <= MaxExpression { // as none of the set is longer
			_, is = e.sets[n.right][string(v.s)]
		}
		return boolean(is)
	}
	return e.order(n)
}

func negate(v value) value {
	switch v.kind {
	case vInt:
		v.n = int64(int32(-v.n))
	case vLong:
		v.n = -v.n
	case vDouble:
		v.f = -v.f
	default:
		return value{}
	}
	return v
}

// logic is AND (decided by a false operand, 0) or OR (by a true one, 1): the
// right operand is not looked at when the left one decides, and null stands for
// "not known".
func (e *evaluation) logic(n *node, decides int64) value {
	l := e.value(n.left)
	if l.kind == vBool && l.n == decides {
		return l
	}
	if e.failed {
		return value{}
	}
	r := e.value(n.right)
	if r.kind == vBool && r.n == decides {
		return r
	}
	if l.kind == vNull {
		return l
	}
	return r
}

// equal is =. A missing left side makes it null, a missing right side false, and
// two missing ones are equal.
func (e *evaluation) equal(n *node) value {
	l, r := e.value(n.left), e.value(n.right)
	switch {
	case l.kind == vNull && r.kind == vNull:
		return boolean(true)
	case l.kind == vNull:
		return value{}
	case r.kind == vNull:
		return boolean(false)
	}
	c, ok := e.compare(&l, &r)
	e.failed = e.failed || !ok
	return boolean(c == 0)
}

// order is > >= < and <=; two strings are read as doubles.
func (e *evaluation) order(n *node) value {
	l := e.value(n.left)
	if l.kind == vNull {
		return l
	}
	r := e.value(n.right)
	if r.kind == vNull {
		return r
	}
	if l.kind == vString && r.kind == vString {
		for _, v := range []*value{&l, &r} {
			f, ok := e.readAs(v.s, vDouble)
			if !ok {
				e.failed = true
				return value{}
			}
			*v = f
		}
	}
	c, ok := e.compare(&l, &r)
	e.failed = e.failed || !ok
	switch n.op {
	case opGreater:
		return boolean(c > 0)
	case opGreaterEqual:
		return boolean(c >= 0)
	case opLess:
		return boolean(c < 0)
	}
	return boolean(c <= 0)
}

// compare says whether l is less than, equal to or more than r, none of them
// null. A string is read as what the other one is; not ok when it does not parse
// as that, or when it stands to the right of a truth. Truths and numbers have no
// order: the left one counts as less.
func (e *evaluation) compare(l, r *value) (c int, ok bool) {
	if l.kind == r.kind {
		switch l.kind {
		case vString:
			return bytes.Compare(l.s, r.s), true
		case vDouble:
			return compareDoubles(l.f, r.f), true
		}
		return cmp.Compare(l.n, r.n), true
	}
	switch {
	case l.kind == vString:
		v, ok := e.readAs(l.s, r.kind)
		if !ok {
			return 0, false
		}
		return e.compare(&v, r)
	case l.kind == vBool:
		return -1, r.kind != vString
	case r.kind == vBool:
		return -1, true
	case r.kind == vString:
		v, ok := e.readAs(r.s, l.kind)
		if !ok {
			return 0, false
		}
		return e.compare(l, &v)
	case l.kind == vDouble:
		return compareDoubles(l.f, float64(r.n)), true
	case r.kind == vDouble:
		return compareDoubles(float64(l.n), r.f), true
	}
	return cmp.Compare(l.n, r.n), true
}

// readAs reads a string as a value of kind k.
func readAs(s []byte, k vkind) (v value, ok bool) {
	v.kind = k
	switch k {
	case vBool:
		return boolean(bytes.EqualFold(s, []byte("true"))), true
	case vInt:
		v.n, ok = parseInt(s, 32)
	case vLong:
		v.n, ok = parseInt(s, 64)
	default:
		v.f, ok = parseDouble(s)
	}
	return v, ok
}
