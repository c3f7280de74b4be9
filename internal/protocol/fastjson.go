package protocol

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// reader reads JSON bodies and files in the dialect of the original's library
// (wire.md section 14.2): names bare, single-quoted or numbers, map keys that
// are objects, numbers in quotes and text without, enums by name or ordinal,
// commas too many, comments. It uses no reflection; what does not fit is an
// error that says where. The first error stays, and everything read after it is
// zero, so that callers look once, at the end.
//
// Limits: maxDepth levels; what is made of a body is proportional to its bytes.
type reader struct {
	b     []byte
	i     int
	depth int
	err   error
	name  [64]byte // a member's name, folded
}

// bodyError is what is wrong with a body or a file, and where.
type bodyError struct {
	what string // which body
	at   int
	text string
}

func (e *bodyError) Error() string { return fmt.Sprintf("%s: byte %d: %s", e.what, e.at, e.text) }

// readBody reads one body with f, which reads its one value; the error names the
// body. No body at all is an error too.
func readBody(what string, b []byte, f func(r *reader)) error {
	r := reader{b: b}
	f(&r)
	if r.err == nil && r.more() {
		r.fail("more text behind the end")
	}
	if e, ok := r.err.(*bodyError); ok {
		e.what = what
	}
	return r.err
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &bodyError{at: r.i, text: fmt.Sprintf(format, args...)}
	}
}

// more passes over white space and comments and says whether anything is left.
func (r *reader) more() bool {
	for r.i < len(r.b) && r.err == nil {
		switch ch := r.b[r.i]; {
		case ch <= ' ':
			r.i++
		case ch == '/':
			r.comment()
		default:
			return true
		}
	}
	return false
}

func (r *reader) comment() {
	rest := r.b[r.i:]
	end, length := []byte(nil), 0
	switch {
	case bytes.HasPrefix(rest, []byte("//")):
		end, length = []byte("\n"), 1
	case bytes.HasPrefix(rest, []byte("/*")):
		end, length = []byte("*/"), 2
	default:
		r.fail("a slash that begins no comment")
		return
	}
	n := bytes.Index(rest[2:], end)
	if n < 0 {
		if length == 2 {
			r.fail("a comment without an end")
		}
		r.i = len(r.b)
		return
	}
	r.i += 2 + n + length
}

// peek is the first byte of what comes next, 0 at the end or after an error.
func (r *reader) peek() byte {
	if !r.more() {
		return 0
	}
	return r.b[r.i]
}

// null passes over a null if one comes next.
func (r *reader) null() bool {
	if r.peek() == 'n' && bytes.HasPrefix(r.b[r.i:], []byte("null")) {
		r.i += 4
		return true
	}
	return false
}

// open enters an object or an array; false for null and errors.
func (r *reader) open(bracket byte) bool {
	if r.null() {
		return false
	}
	if r.peek() != bracket {
		r.fail("%s where %q should be", r.here(), bracket)
		return false
	}
	if r.depth++; r.depth > maxDepth {
		r.fail("more than %d levels of nesting", maxDepth)
		return false
	}
	r.i++
	return true
}

// next moves to the next member; false behind the end. Commas may be too many.
func (r *reader) next(bracket byte) bool {
	for r.peek() == ',' {
		r.i++
	}
	switch ch := r.peek(); ch {
	case 0:
		r.fail("the text ends inside of brackets")
		return false
	case bracket:
		r.i++
		r.depth--
		return false
	}
	return r.err == nil
}

// bean reads an object; f is called for each member with its name in lower case
// and without _ and -, as the original matches names, and reads the value or
// leaves it to be skipped. The name is only good until f reads.
func (r *reader) bean(f func(name []byte)) {
	r.table(func(key []byte) {
		n := 0
		for _, ch := range key {
			if ch == '_' || ch == '-' {
				continue
			}
			if n == len(r.name) {
				n = 0 // longer than any name: none
				break
			}
			if ch-'A' < 26 {
				ch |= 0x20
			}
			r.name[n] = ch
			n++
		}
		f(r.name[:n])
	})
}

// table reads an object; f is called for each member with its key, which for a
// key that is an object is that object's text, and reads the value or leaves it
// to be skipped. The key is only good until f reads.
func (r *reader) table(f func(key []byte)) {
	if !r.open('{') {
		return
	}
	for r.next('}') {
		key := r.key()
		if r.peek() != ':' {
			r.fail("%s where a colon should be", r.here())
			return
		}
		r.i++
		r.member(func() { f(key) })
	}
}

// list reads an array; f is called for each element and reads it or leaves it to
// be skipped.
func (r *reader) list(f func()) {
	if !r.open('[') {
		return
	}
	for r.next(']') {
		r.member(f)
	}
}

func (r *reader) member(f func()) {
	if !r.more() {
		r.fail("the text ends where a value should be")
		return
	}
	at := r.i
	f()
	if r.i == at {
		r.skip()
	}
}

func (r *reader) key() []byte {
	switch ch := r.peek(); ch {
	case '"', '\'':
		return r.quoted(ch)
	case '{', '[':
		at := r.i
		r.skip()
		return r.b[at:r.i]
	}
	return r.token()
}

// token is a bare word or number.
func (r *reader) token() []byte {
	at := r.i
	for r.i < len(r.b) && isWord[r.b[r.i]] {
		r.i++
	}
	if at == r.i {
		r.fail("%s where a name or a value should be", r.here())
	}
	return r.b[at:r.i]
}

var isWord = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= 0x80 || i-'0' >= 0 && i-'0' < 10 || i|0x20 >= 'a' && i|0x20 <= 'z' || i == '_' || i == '$' || i == '-' || i == '+' || i == '.' || i == '@' || i == '%'
	}
	return t
}()

func (r *reader) here() string {
	if r.i >= len(r.b) {
		return "the end"
	}
	return strconv.QuoteRune(rune(r.b[r.i]))
}

// quoted is the text of a string in those quotes.
func (r *reader) quoted(quote byte) []byte {
	at := r.i + 1
	for i := at; i < len(r.b); i++ {
		switch r.b[i] {
		case quote:
			r.i = i + 1
			return r.b[at:i]
		case '\\':
			return r.unescape(quote, at, i)
		}
	}
	r.fail("a string without an end")
	return nil
}

func (r *reader) unescape(quote byte, at, i int) []byte {
	out := append(make([]byte, 0, i-at+32), r.b[at:i]...)
	for i < len(r.b) {
		switch ch := r.b[i]; ch {
		case quote:
			r.i = i + 1
			return out
		case '\\':
			var err error
			if out, i, err = unescape(out, r.b, i); err != nil {
				r.i = i
				r.fail("an escape that is none")
				return nil
			}
		default:
			out = append(out, ch)
			i++
		}
	}
	r.fail("a string without an end")
	return nil
}

// scalar is the text of a string, number or word; nil for null.
func (r *reader) scalar() []byte {
	switch ch := r.peek(); {
	case ch == '"' || ch == '\'':
		if v := r.quoted(ch); v != nil {
			return v
		}
		return []byte{}
	case r.null():
		return nil
	case ch == '{' || ch == '[':
		r.fail("%s where a plain value should be", r.here())
		return nil
	}
	return r.token()
}

// str reads text; numbers and words are taken as they stand. Like all that
// follow it leaves v alone when the value is null.
func (r *reader) str(v *string) {
	if t := r.scalar(); t != nil {
		*v = string(t)
	}
}

// int64 reads a whole number, also in quotes, also with a fraction, which is cut
// off; empty text is as good as null.
func (r *reader) int64(v *int64) {
	t := r.scalar()
	if len(t) == 0 {
		return
	}
	if n, ok := atoi(t); ok {
		*v = n
		return
	}
	switch string(t) {
	case "true":
		*v = 1
		return
	case "false":
		*v = 0
		return
	case "null":
		return
	}
	if last := len(t) - 1; t[last]|0x20 == 'l' { // Java's suffix
		if n, ok := atoi(t[:last]); ok {
			*v = n
			return
		}
	}
	x, err := strconv.ParseFloat(string(t), 64)
	if err != nil || !(math.Abs(x) < 1<<63) {
		r.fail("%.40q is no whole number", t)
		return
	}
	*v = int64(x)
}

func (r *reader) int32(v *int32) {
	n := int64(*v)
	if r.int64(&n); int64(int32(n)) != n {
		r.fail("%d does not fit into 32 bits", n)
		return
	}
	*v = int32(n)
}

// bool reads true or false, also in quotes, also 1 and 0.
func (r *reader) bool(v *bool) {
	if t := r.scalar(); len(t) > 0 {
		*v = bytes.EqualFold(t, []byte("true")) || string(t) == "1"
	}
}

func (r *reader) float(v *float64) {
	t := r.scalar()
	if len(t) == 0 {
		return
	}
	x, err := strconv.ParseFloat(string(t), 64)
	switch {
	case err != nil && !math.IsInf(x, 0):
		r.fail("%.40q is no number", t)
	case !math.IsInf(x, 0) && !math.IsNaN(x): // Java writes null for those
		*v = x
	}
}

// enum reads one of names or its ordinal; "" for what is neither.
func (r *reader) enum(v *string, names []string) {
	t := r.scalar()
	if t == nil {
		return
	}
	*v = ""
	n, ok := atoi(t)
	for i, name := range names {
		if string(t) == name || ok && int64(i) == n {
			*v = name
		}
	}
}

// strings reads an array of text, at most MaxTableEntries.
func (r *reader) strings() (out []string) {
	r.list(func() {
		var v string
		r.str(&v)
		if out = append(out, v); len(out) > MaxTableEntries {
			r.fail("a list of more than %d texts", MaxTableEntries)
		}
	})
	return out
}

// skip passes over any value.
func (r *reader) skip() {
	switch r.peek() {
	case 0:
		r.fail("the text ends where a value should be")
	case '{':
		r.table(func([]byte) {})
	case '[':
		r.list(func() {})
	default:
		r.scalar()
	}
}
