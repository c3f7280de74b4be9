package filter

import "slices"

// op is what a node does.
type op uint8

const (
	opConst op = iota
	opProperty
	opNegate
	opNot
	opTruth // of a property: never true, its values are strings; null without it
	opAnd
	opOr
	opEqual
	opIsNull
	opGreater
	opGreaterEqual
	opLess
	opLessEqual
	opIn
)

// node is a part of a compiled expression. left and right are the numbers of its
// operands, but for opConst, whose left is the number of a constant, opProperty,
// whose left is that of a name, and opIn, whose right is that of a set. An
// expression of MaxExpression bytes cannot have more than 16 bits count.
type node struct {
	op          op
	left, right uint16
}

func (p *parser) add(o op, left, right int) int {
	p.sql.nodes = append(p.sql.nodes, node{o, uint16(left), uint16(right)})
	return len(p.sql.nodes) - 1
}

func (p *parser) one(o op, left int) int { return p.add(o, left, 0) }

func (p *parser) constant(v value) int {
	p.sql.consts = append(p.sql.consts, v)
	return p.one(opConst, len(p.sql.consts)-1)
}

// is says whether node n is a constant of one of the kinds.
func (p *parser) is(n int, kinds ...vkind) bool {
	nd := p.sql.nodes[n]
	return nd.op == opConst && slices.Contains(kinds, p.sql.consts[nd.left].kind)
}

// truth says whether node n is true, false or null. A property is not: it has a
// value.
func (p *parser) truth(n int) bool {
	switch p.sql.nodes[n].op {
	case opProperty, opNegate:
		return false
	case opConst:
		return p.is(n, vBool, vNull)
	}
	return true
}
