package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind uint8

const (
	tEnd kind = iota
	tName
	tString
	tInteger
	tFloat
	tNot
	tAnd
	tOr
	tBetween
	tIn
	tTrue
	tFalse
	tNull
	tIs
	tEqual
	tNotEqual
	tGreater
	tGreaterEqual
	tLess
	tLessEqual
	tOpen
	tClose
	tComma
	tPlus
	tMinus
)

// words are the kinds as an error names them.
var words = [...]string{"the end", "a property", "a string", "an integer", "a number", "NOT", "AND", "OR", "BETWEEN", "IN", "TRUE", "FALSE", "NULL", "IS",
	"=", "<>", ">", ">=", "<", "<=", "(", ")", ",", "+", "-"}

func (k kind) String() string { return words[k] }

var keywords = map[string]kind{"NOT": tNot, "AND": tAnd, "OR": tOr, "BETWEEN": tBetween, "IN": tIn, "TRUE": tTrue, "FALSE": tFalse, "NULL": tNull, "IS": tIs}

// token is a piece of an expression: src[at:end].
type token struct {
	kind    kind
	at, end int
}

// SyntaxError says where an expression is wrong and what would be right there.
type SyntaxError struct {
	Line, Column int // from 1, in characters
	Reason       string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// errorAt makes a SyntaxError of a place in src.
func errorAt(src string, at int, format string, args ...any) *SyntaxError {
	before := src[:at]
	line := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{Line: 1 + strings.Count(before, "\n"), Column: 1 + utf8.RuneCountInString(before[line:]), Reason: fmt.Sprintf(format, args...)}
}

// lexer cuts src into tokens, the longest possible each.
type lexer struct {
	src string
	at  int
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isFirst(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$'
}

// peek is the byte n behind the place, 0 beyond the end.
func (l *lexer) peek(n int) byte {
	if l.at+n < len(l.src) {
		return l.src[l.at+n]
	}
	return 0
}

// next is the token at the place, which moves behind it.
func (l *lexer) next() (token, *SyntaxError) {
	l.skip()
	t := token{at: l.at}
	if l.at == len(l.src) {
		t.end = l.at
		return t, nil
	}
	switch c := l.peek(0); {
	case isFirst(c):
		t.kind = l.word()
	case isDigit(c), c == '.' && isDigit(l.peek(1)):
		t.kind = l.number()
	case c == '\'':
		if !l.quoted() {
			return t, errorAt(l.src, t.at, "a string begins here and has no end, expected another '")
		}
		t.kind = tString
	default:
		var n int
		if t.kind, n = symbol(c, l.peek(1)); n == 0 {
			r, _ := utf8.DecodeRuneInString(l.src[l.at:])
			return t, errorAt(l.src, t.at, "%q begins nothing that an expression can have", r)
		}
		l.at += n
	}
	t.end = l.at
	return t, nil
}

// symbol is the kind and the length of what begins with c, d.
func symbol(c, d byte) (kind, int) {
	switch c {
	case '=':
		return tEqual, 1
	case '<':
		switch d {
		case '>':
			return tNotEqual, 2
		case '=':
			return tLessEqual, 2
		}
		return tLess, 1
	case '>':
		if d == '=' {
			return tGreaterEqual, 2
		}
		return tGreater, 1
	case '(':
		return tOpen, 1
	case ')':
		return tClose, 1
	case ',':
		return tComma, 1
	case '+':
		return tPlus, 1
	case '-':
		return tMinus, 1
	}
	return tEnd, 0
}

// skip passes over blanks and comments. A comment that does not end is none: its
// "--" are two signs, its "/" is an error.
func (l *lexer) skip() {
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		switch {
		case isSpace(rest[0]):
			l.at++
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexAny(rest, "\r\n")
			if end < 0 {
				return
			}
			l.at += end + 1
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return
			}
			l.at += end + 4
		default:
			return
		}
	}
}

// word passes over a name or a keyword.
func (l *lexer) word() kind {
	from := l.at
	for isFirst(l.peek(0)) || isDigit(l.peek(0)) {
		l.at++
	}
	if n := l.at - from; n <= len("BETWEEN") {
		if k, is := keywords[strings.ToUpper(l.src[from:l.at])]; is {
			return k
		}
	}
	return tName
}

// number passes over an integer ("0", or without a leading zero, perhaps with an
// L behind it) or a float (with a point or an exponent).
func (l *lexer) number() kind {
	from := l.at
	for isDigit(l.peek(0)) {
		l.at++
	}
	float := false
	if l.peek(0) == '.' {
		float = true
		l.at++
		for isDigit(l.peek(0)) {
			l.at++
		}
	}
	if n := l.exponent(); n > 0 {
		float = true
		l.at += n
	}
	switch {
	case float:
		return tFloat
	case l.src[from] == '0':
		l.at = from + 1 // "007" is three integers
	case l.peek(0)|0x20 == 'l':
		l.at++
	}
	return tInteger
}

// exponent is the length of the exponent at the place, 0 without one.
func (l *lexer) exponent() int {
	if l.peek(0)|0x20 != 'e' {
		return 0
	}
	n := 1
	if c := l.peek(n); c == '+' || c == '-' {
		n++
	}
	if !isDigit(l.peek(n)) {
		return 0
	}
	for isDigit(l.peek(n)) {
		n++
	}
	return n
}

// quoted passes over a string, false when it has no end.
func (l *lexer) quoted() bool {
	for i := l.at + 1; i < len(l.src); i++ {
		if l.src[i] != '\'' {
			continue
		}
		if i+1 < len(l.src) && l.src[i+1] == '\'' {
			i++
			continue
		}
		l.at = i + 1
		return true
	}
	return false
}
