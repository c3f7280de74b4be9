package filter

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// parser reads an expression by descending from the loosest operator: OR, AND,
// equality, comparison, sign and NOT (behaviour.md section 7).
type parser struct {
	lexer
	tok   token
	depth int
	sql   *SQL
}

// ParseSQL compiles an SQL92 expression. The error is a *SyntaxError, also for
// what exceeds a limit: MaxExpression, MaxProperties, nesting of 128.
//
// As in the original nothing is looked at behind a complete expression but the
// next token: "a > 5 garbage" is "a > 5".
func ParseSQL(expr string) (*SQL, error) {
	if len(expr) > MaxExpression {
		return nil, &SyntaxError{1, 1, "the expression has " + strconv.Itoa(len(expr)) + " bytes, at most " + strconv.Itoa(MaxExpression) + " are possible"}
	}
	p := &parser{lexer: lexer{src: expr}, sql: &SQL{expr: expr}}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	p.sql.root = root
	p.sql.nodes, p.sql.consts = slices.Clip(p.sql.nodes), slices.Clip(p.sql.consts)
	return p.sql, nil
}

func (p *parser) parse() (root int, err *SyntaxError) {
	if err = p.advance(); err != nil {
		return 0, err
	}
	if root, err = p.or(); err != nil {
		return 0, err
	}
	return p.asTruth(root, 0)
}

func (p *parser) advance() (err *SyntaxError) {
	p.tok, err = p.next()
	return err
}

// unexpected is the error of a token that does not fit.
func (p *parser) unexpected(want ...string) *SyntaxError {
	found := "the expression ends here"
	if p.tok.kind != tEnd {
		found = "found " + p.src[p.tok.at:p.tok.end]
	}
	return errorAt(p.src, p.tok.at, "%s, expected %s", found, strings.Join(want, " or "))
}

func (p *parser) expect(k kind) *SyntaxError {
	if p.tok.kind != k {
		return p.unexpected(k.String())
	}
	return p.advance()
}

// asTruth makes a node one that is true, false or null; at is where its text
// begins.
func (p *parser) asTruth(n, at int) (int, *SyntaxError) {
	switch {
	case p.truth(n):
		return n, nil
	case p.sql.nodes[n].op == opProperty:
		return p.one(opTruth, n), nil
	}
	return 0, errorAt(p.src, p.start(at), "this is a value and can be neither true nor false, expected a condition or a property")
}

// start is at, or the first token behind it.
func (p *parser) start(at int) int {
	l := lexer{src: p.src, at: at}
	l.skip()
	return l.at
}

func (p *parser) or() (int, *SyntaxError) { return p.chain(tOr, opOr, p.and) }

func (p *parser) and() (int, *SyntaxError) { return p.chain(tAnd, opAnd, p.equality) }

// chain reads operands of AND or OR.
func (p *parser) chain(sign kind, o op, operand func() (int, *SyntaxError)) (int, *SyntaxError) {
	at := p.tok.at
	left, err := operand()
	for err == nil && p.tok.kind == sign {
		if err = p.advance(); err != nil {
			break
		}
		from := p.tok.at
		var right int
		if right, err = operand(); err != nil {
			break
		}
		if left, err = p.asTruth(left, at); err != nil {
			break
		}
		if right, err = p.asTruth(right, from); err != nil {
			break
		}
		left = p.add(o, left, right)
	}
	return left, err
}

func (p *parser) equality() (int, *SyntaxError) {
	at := p.tok.at
	left, err := p.comparison()
	for err == nil {
		switch k := p.tok.kind; k {
		case tEqual, tNotEqual:
			left, err = p.equal(left, at, k == tNotEqual)
		case tIs:
			left, err = p.isNull(left)
		default:
			return left, nil
		}
	}
	return 0, err
}

func (p *parser) equal(left, at int, not bool) (int, *SyntaxError) {
	if err := p.advance(); err != nil {
		return 0, err
	}
	from := p.tok.at
	right, err := p.comparison()
	if err != nil {
		return 0, err
	}
	switch {
	case p.is(left, vNull):
		return 0, errorAt(p.src, at, "NULL cannot be compared, expected IS NULL or IS NOT NULL")
	case p.is(right, vNull):
		return 0, errorAt(p.src, from, "NULL cannot be compared, expected IS NULL or IS NOT NULL")
	case p.is(left, vBool) && p.sql.nodes[right].op == opConst && !p.truth(right):
		return 0, errorAt(p.src, from, "a truth is compared with another constant, expected TRUE or FALSE")
	}
	n := p.add(opEqual, left, right)
	if not {
		n = p.one(opNot, n)
	}
	return n, nil
}

func (p *parser) isNull(left int) (int, *SyntaxError) {
	if err := p.advance(); err != nil {
		return 0, err
	}
	not := p.tok.kind == tNot
	if not {
		if err := p.advance(); err != nil {
			return 0, err
		}
	}
	if p.tok.kind != tNull {
		if not {
			return 0, p.unexpected("NULL")
		}
		return 0, p.unexpected("NULL", "NOT NULL")
	}
	n := p.one(opIsNull, left)
	if not {
		n = p.one(opNot, n)
	}
	return n, p.advance()
}

// orders are the operators that want numbers.
var orders = map[kind]op{tGreater: opGreater, tGreaterEqual: opGreaterEqual, tLess: opLess, tLessEqual: opLessEqual}

func (p *parser) comparison() (int, *SyntaxError) {
	at := p.tok.at
	left, err := p.unary()
	for err == nil {
		not := p.tok.kind == tNot
		if not {
			if err = p.advance(); err != nil {
				return 0, err
			}
		}
		k := p.tok.kind
		switch o, orders := orders[k]; {
		case k == tBetween:
			left, err = p.between(left, at, not)
		case k == tIn:
			left, err = p.in(left, at, not)
		case not:
			return 0, p.unexpected("BETWEEN", "IN")
		case orders:
			left, err = p.order(o, left, at)
		default:
			return left, nil
		}
	}
	return 0, err
}

// operand reads what an ordering operator has on its right.
func (p *parser) operand() (n, at int, err *SyntaxError) {
	if err = p.advance(); err != nil {
		return 0, 0, err
	}
	at = p.tok.at
	n, err = p.unary()
	return n, at, err
}

// ordered refuses what cannot be more or less than something: all but numbers
// and properties.
func (p *parser) ordered(n, at int) *SyntaxError {
	if p.truth(n) || p.is(n, vString) {
		return errorAt(p.src, at, "this cannot be more or less than something, expected a number or a property")
	}
	return nil
}

func (p *parser) order(o op, left, at int) (int, *SyntaxError) {
	right, from, err := p.operand()
	if err != nil {
		return 0, err
	}
	if err = p.ordered(left, at); err != nil {
		return 0, err
	}
	return p.add(o, left, right), p.ordered(right, from)
}

func (p *parser) between(left, at int, not bool) (int, *SyntaxError) {
	low, lowAt, err := p.operand()
	if err != nil {
		return 0, err
	}
	if p.tok.kind != tAnd {
		return 0, p.unexpected("AND")
	}
	high, highAt, err := p.operand()
	if err != nil {
		return 0, err
	}
	for _, x := range [][2]int{{left, at}, {low, lowAt}, {high, highAt}} {
		if err := p.ordered(x[0], x[1]); err != nil {
			return 0, err
		}
	}
	if not {
		return p.add(opOr, p.add(opLess, left, low), p.add(opGreater, left, high)), nil
	}
	if l, h := p.sql.nodes[low], p.sql.nodes[high]; l.op == opConst && h.op == opConst {
		if c, _ := new(evaluation).compare(&p.sql.consts[h.left], &p.sql.consts[l.left]); c < 0 {
			return 0, errorAt(p.src, highAt, "the second bound is less than the first")
		}
	}
	return p.add(opAnd, p.add(opGreaterEqual, left, low), p.add(opLessEqual, left, high)), nil
}

func (p *parser) in(left, at int, not bool) (int, *SyntaxError) {
	if p.sql.nodes[left].op != opProperty {
		return 0, errorAt(p.src, at, "only a property can be IN a list")
	}
	if err := p.advance(); err != nil {
		return 0, err
	}
	if err := p.expect(tOpen); err != nil {
		return 0, err
	}
	set := map[string]struct{}{}
	for {
		if p.tok.kind != tString {
			return 0, p.unexpected(tString.String())
		}
		set[unquote(p.src[p.tok.at:p.tok.end])] = struct{}{}
		if err := p.advance(); err != nil {
			return 0, err
		}
		if p.tok.kind != tComma {
			break
		}
		if err := p.advance(); err != nil {
			return 0, err
		}
	}
	if p.tok.kind != tClose {
		return 0, p.unexpected(",", ")")
	}
	p.sql.sets = append(p.sql.sets, set)
	n := p.add(opIn, left, len(p.sql.sets)-1)
	if not {
		n = p.one(opNot, n)
	}
	return n, p.advance()
}

const maxNesting = 128

func (p *parser) unary() (int, *SyntaxError) {
	if p.depth++; p.depth > maxNesting {
		return 0, errorAt(p.src, p.tok.at, "more than %d levels of nesting", maxNesting)
	}
	defer func() { p.depth-- }()
	sign := p.tok.kind
	if sign != tPlus && sign != tMinus && sign != tNot {
		return p.primary()
	}
	if err := p.advance(); err != nil {
		return 0, err
	}
	at := p.tok.at
	n, err := p.unary()
	switch {
	case err != nil:
		return 0, err
	case sign == tMinus:
		n = p.one(opNegate, n)
	case sign == tNot:
		if n, err = p.asTruth(n, at); err != nil {
			return 0, err
		}
		n = p.one(opNot, n)
	}
	return n, nil
}

func (p *parser) primary() (n int, err *SyntaxError) {
	text := p.src[p.tok.at:p.tok.end]
	switch p.tok.kind {
	case tOpen:
		if err = p.advance(); err != nil {
			return 0, err
		}
		if n, err = p.or(); err != nil {
			return 0, err
		}
		return n, p.expect(tClose)
	case tName:
		n, err = p.property(text)
	case tString:
		n = p.constant(value{kind: vString, s: []byte(unquote(text))})
	case tInteger:
		n, err = p.integer(text)
	case tFloat:
		n, err = p.float(text)
	case tTrue, tFalse:
		n = p.constant(boolean(p.tok.kind == tTrue))
	case tNull:
		n = p.constant(value{})
	default:
		err = p.unexpected("a property", "a constant", "NOT", "(")
	}
	if err != nil {
		return 0, err
	}
	return n, p.advance()
}

func (p *parser) property(name string) (int, *SyntaxError) {
	for i, known := range p.sql.names {
		if known == name {
			return p.one(opProperty, i), nil
		}
	}
	if len(p.sql.names) == MaxProperties {
		return 0, errorAt(p.src, p.tok.at, "%s is one property more than the %d that an expression may name", name, MaxProperties)
	}
	p.sql.names = append(p.sql.names, name)
	return p.one(opProperty, len(p.sql.names)-1), nil
}

func (p *parser) integer(text string) (int, *SyntaxError) {
	i, err := strconv.ParseInt(strings.TrimRight(text, "lL"), 10, 64)
	if err != nil {
		return 0, errorAt(p.src, p.tok.at, "%s is beyond the integers, expected at most %d", text, int64(math.MaxInt64))
	}
	v := value{kind: vLong, n: i}
	if i <= math.MaxInt32 {
		v.kind = vInt // an L does not make it a long
	}
	return p.constant(v), nil
}

func (p *parser) float(text string) (int, *SyntaxError) {
	f, _ := strconv.ParseFloat(text, 64) // the lexer knows the form; infinite when it is too large
	if f > math.MaxFloat64 || f < math.SmallestNonzeroFloat64 {
		return 0, errorAt(p.src, p.tok.at, "%s is out of range, expected %g to %g", text, math.SmallestNonzeroFloat64, math.MaxFloat64)
	}
	return p.constant(value{kind: vDouble, f: f}), nil
}

// unquote is the text of a string.
func unquote(s string) string { return strings.ReplaceAll(s[1:len(s)-1], "''", "'") }
