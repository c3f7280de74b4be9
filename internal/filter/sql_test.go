package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gomq/internal/message"
)

func propsOf(pairs ...string) (props []byte) {
	for i := 0; i+1 < len(pairs); i += 2 {
		props = message.AppendProp(props, pairs[i], pairs[i+1])
	}
	return props
}

// A wrong expression is told with its place and what would be right there.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct {
		expr         string
		line, column int
		reason       string
	}{
		{"", 1, 1, "the expression ends here, expected a property or a constant or NOT or ("},
		{"a >", 1, 4, "the expression ends here"},
		{"a > 5 AND\n  b = ", 2, 7, "the expression ends here"},
		{"a = 5 AND b ! 3", 1, 13, "'!' begins nothing"},
		{"a = '日本' AND # = 1", 1, 14, "'#' begins nothing"},
		{"a = 'x", 1, 5, "has no end"},
		{"a IN ('x', 5)", 1, 12, "found 5, expected a string"},
		{"a IN ('x' 'y')", 1, 11, "found 'y', expected , or )"},
		{"a IN 'x'", 1, 6, "found 'x', expected ("},
		{"(a = 1", 1, 7, "expected )"},
		{"a IS 5", 1, 6, "found 5, expected NULL or NOT NULL"},
		{"a NOT LIKE 'x'", 1, 7, "found LIKE, expected BETWEEN or IN"},
		{"a BETWEEN 1 OR 5", 1, 13, "found OR, expected AND"},
		{"a BETWEEN 5 AND 1", 1, 17, "the second bound is less than the first"},
		{"a > 'x'", 1, 5, "expected a number or a property"},
		{"TRUE < a", 1, 1, "expected a number or a property"},
		{"a = NULL", 1, 5, "expected IS NULL"},
		{"b = 1 AND 'x'", 1, 11, "can be neither true nor false"},
		{"  5", 1, 3, "can be neither true nor false"},
		{"5 IN ('x')", 1, 1, "only a property"},
		{"a = 9223372036854775808", 1, 5, "beyond the integers"},
		{"a = 0.0", 1, 5, "out of range"},
		{"TRUE = 5", 1, 8, "expected TRUE or FALSE"},
	} {
		_, err := ParseSQL(c.expr)
		var e *SyntaxError
		if !errors.As(err, &e) || e.Line != c.line || e.Column != c.column || !strings.Contains(e.Reason, c.reason) {
			t.Errorf("%q: %v, want line %d, column %d: %s", c.expr, err, c.line, c.column, c.reason)
		}
	}
}

// What is too much is refused before it costs anything.
func TestLimits(t *testing.T) {
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "p%d OR ", i)
		}
		return b.String() + "p0"
	}
	nested := func(n int) string { return strings.Repeat("(", n) + "a" + strings.Repeat(")", n) }
	for _, c := range []struct {
		expr string
		want string // "" compiles
	}{
		{"a = '" + strings.Repeat("x", MaxExpression-6) + "'", ""},
		{"a = '" + strings.Repeat("x", MaxExpression-5) + "'", "has 4097 bytes"},
		{names(MaxProperties), ""},
		{names(MaxProperties + 1), "one property more"},
		{nested(maxNesting - 1), ""},
		{nested(maxNesting), "levels of nesting"},
		{strings.Repeat("NOT ", 1000) + "a", "levels of nesting"},
		{strings.Repeat("a OR ", 800) + "a", ""},
	} {
		_, err := ParseSQL(c.expr)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.30q...: %v, want %q", c.expr, err, c.want)
		}
	}
}

// The properties are read as the original reads the text of a record.
func TestSQLProperties(t *testing.T) {
	for _, c := range []struct {
		expr  string
		props string
		want  bool
	}{
		{"a = 'x'", "a\x01x\x02", true},
		{"a = 'x'", "b\x01y\x02a\x01x", true},
		{"a = 'x'", "a\x01y\x02a\x01x", true}, // the last one counts
		{"a IS NULL", "a\x01\x02", true},      // without a value it is not there
		{"a IS NULL", "\x01x\x02a", true},
		{"a IS NULL", "aa\x01x", true},
		{"aa = 'x' AND a = 'y'", "aa\x01x\x02a\x01y", true},
		{"a = 'x\x01y'", "a\x01x\x01y", true}, // what follows is the value's
		{"TAGS = 'TagA' AND KEYS = 'k1'", "KEYS\x01k1\x02TAGS\x01TagA\x02", true},
		{"a = 'x'", "", false},
	} {
		sql, err := ParseSQL(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		if got := sql.Match([]byte(c.props)); got != c.want {
			t.Errorf("%s of %q: %v", c.expr, c.props, got)
		}
	}
}

// A look at a message allocates nothing, whatever comes of it.
func TestSQLAllocations(t *testing.T) {
	props := propsOf("a", "5", "b", "3.25", "c", "red", "region", "north", "price", "abc", "日本", "x")
	for _, expr := range []string{"a = 5 AND b > 3.2", "c IN ('red', 'green')", "c NOT IN ('blue')", "price > 5", "a > b OR c = TRUE", "missing IS NULL", "a BETWEEN 6 AND 9 OR NOT region = 'x'", "b = 1e300"} {
		sql, err := ParseSQL(expr)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { sql.Match(props) }); n != 0 {
			t.Errorf("%s: %v allocations", expr, n)
		}
	}
}

// A long value costs no more when an expression asks for it often: read each time,
// these would take minutes.
func TestSQLLongValues(t *testing.T) {
	zeros := strings.Repeat("0", 30_000)
	props := propsOf("a", "0."+zeros+"1", "b", zeros+"7")
	for expr, want := range map[string]bool{
		strings.Repeat("a > 1.5 OR ", 360) + "a < 1.5":             true,
		strings.Repeat("b = 8 OR b = 9999999999 OR ", 140) + "b=7": true,
		strings.Repeat("a > b OR ", 400) + "a < b":                 true,
		strings.Repeat("a IN ('1') OR ", 280) + "a < 0.5":          true,
		strings.Repeat("a > 5 OR ", 400) + "a < b":                 false, // it is no integer
	} {
		sql, err := ParseSQL(expr)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 800 { // as many as a pull looks at
			if got := sql.Match(props); got != want {
				t.Fatalf("%.30s...: %v", expr, got)
			}
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%.30s...: %v", expr, took)
		}
	}
}

// Any text is an expression or an error, and then any bytes are properties.
func FuzzSQL(f *testing.F) {
	sets, cases := readGolden(f)
	for i := 0; i < len(cases); i += 40 {
		f.Add(cases[i].expr, sets[i%len(sets)])
	}
	f.Fuzz(func(t *testing.T, expr string, props []byte) {
		sql, err := ParseSQL(expr)
		if err != nil {
			var e *SyntaxError
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 || e.Column > len(expr)+1 {
				t.Fatalf("%q: %v", expr, err)
			}
			return
		}
		first := sql.judge(props)
		if again := sql.judge(props); again != first {
			t.Fatalf("%q: %d and then %d", expr, first, again)
		}
		// In brackets it means the same, unless it goes on behind its end.
		if twice, err := ParseSQL("(" + expr + ")"); err == nil && !strings.ContainsAny(expr, ")-/") {
			if got := twice.judge(props); got != first {
				t.Fatalf("%q: %d, in brackets %d", expr, first, got)
			}
		}
	})
}

func BenchmarkSQL(b *testing.B) {
	props := propsOf("UNIQ_KEY", "7F000001000018B4AAC2000000000000", "region", "north", "price", "125", "color", "red", "weight", "3.5", "kind", "order")
	sql, err := ParseSQL("price > 200 AND region = 'south'")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if sql.Match(props) {
			b.Fatal("matched")
		}
	}
}
