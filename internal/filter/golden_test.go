package filter

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"gomq/internal/message"
)

// Whatever rocketmq-filter 4.9.7 said of an expression, compiled or not, and of
// each set of properties, is said here too. testdata/README.md tells how the file
// is made; GOMQ_FILTER_GOLDEN names another one.
func TestGolden(t *testing.T) {
	sets, cases := readGolden(t)
	if len(cases) < 2000 {
		t.Fatalf("%d expressions", len(cases))
	}
	bad, refused, judged := 0, 0, map[byte]int{}
	complain := func(format string, args ...any) {
		if bad++; bad <= 50 {
			t.Errorf(format, args...)
		}
	}
	for _, c := range cases {
		sql, err := ParseSQL(c.expr)
		if err != nil || c.verdicts == "C" {
			if err == nil {
				complain("%q compiles, the original refuses it", c.expr)
			} else if c.verdicts != "C" {
				complain("%q: %v, the original compiles it", c.expr, err)
			}
			refused++
			continue
		}
		if len(c.verdicts) != len(sets) {
			t.Fatalf("%q: %d verdicts for %d sets", c.expr, len(c.verdicts), len(sets))
		}
		for i, props := range sets {
			got := "NFTX"[sql.judge(props)]
			if judged[got]++; got != c.verdicts[i] {
				complain("%q of %q: %c, the original says %c", c.expr, props, got, c.verdicts[i])
			}
			if match := sql.Match(props); match != (got == 'T') {
				t.Fatalf("%q of %q: match %v", c.expr, props, match)
			}
		}
	}
	t.Logf("%d expressions, %d refused, verdicts %v", len(cases), refused, fmt.Sprint("T ", judged['T'], " F ", judged['F'], " N ", judged['N'], " X ", judged['X']))
	if bad > 0 {
		t.Errorf("%d differences", bad)
	}
}

type goldenCase struct{ expr, verdicts string }

func readGolden(t testing.TB) (sets [][]byte, cases []goldenCase) {
	t.Helper()
	name := os.Getenv("GOMQ_FILTER_GOLDEN")
	if name == "" {
		name = "testdata/sql92.golden.gz"
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch line := lines.Text(); line[0] {
		case 'P':
			var props []byte
			for _, item := range strings.Fields(line[1:]) {
				name, value, _ := strings.Cut(item, "=")
				props = message.AppendProp(props, name, unescape(t, value))
			}
			sets = append(sets, props)
		case 'E':
			verdicts, expr, _ := strings.Cut(line[2:], " ")
			cases = append(cases, goldenCase{unescape(t, expr), verdicts})
		}
	}
	return sets, cases
}

// unescape reads \uXXXX, which are Java's chars.
func unescape(t testing.TB, s string) string {
	t.Helper()
	var units []uint16
	for i := 0; i < len(s); i++ {
		if !strings.HasPrefix(s[i:], `\u`) {
			units = append(units, uint16(s[i]))
			continue
		}
		n, err := strconv.ParseUint(s[i+2:i+6], 16, 16)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		units = append(units, uint16(n))
		i += 5
	}
	return string(utf16.Decode(units))
}
