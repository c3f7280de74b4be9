package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

type role string

type options struct {
	Name     string
	Addrs    []string
	Port     int
	Queues   int32
	Size     int64
	Wait     time.Duration
	Age      time.Duration
	Long     bool
	Maybe    *bool
	Role     role
	Password string
	High     int
	Low      int
}

// table is a small role: one key of each kind.
func table(o *options) *Table {
	return NewTable("the test", Section{Title: "One", Doc: "The first.", Keys: []Key{
		{Name: "name", Field: &o.Name, Default: "somebody", Auto: func() string { return "auto" }, Doc: "Who."},
		{Name: "addrs", Field: &o.Addrs, Env: "TEST_ADDRS", Change: Hot, Doc: "Where."},
		{Name: "port", Field: &o.Port, Default: "10", Range: "1..65535", Doc: "Port.", Important: true},
		{Name: "queues", Field: &o.Queues, Default: "4", Change: Restart, Doc: "Queues."},
		{Name: "size", Field: &o.Size, Default: "100", Unit: "B", Change: Hot, Doc: "Size.",
			Aliases: []Alias{{Name: "sizeInTens", Convert: tens, Note: "counts tens"}, {Name: "sise", Quiet: true}}},
		{Name: "percent", Type: "int", Default: "50", Unit: "%", Range: "10..90", Clamp: true, Doc: "Clamped."},
	}}, Section{Title: "Two", Keys: []Key{
		{Name: "wait", Field: &o.Wait, Default: "500", Unit: "ms", Range: "1..", Change: Hot, Doc: "Wait."},
		{Name: "age", Field: &o.Age, Default: "72", Unit: "h", Change: Hot, Doc: "Age."},
		{Name: "long", Field: &o.Long, Default: "true", Change: Hot, Doc: "Long."},
		{Name: "maybe", Field: &o.Maybe, Doc: "Maybe."},
		{Name: "role", Field: &o.Role, Default: "FIRST", Range: "FIRST | SECOND", Doc: "Role."},
		{Name: "password", Field: &o.Password, Change: Hot, Doc: "Secret."},
		{Name: "missing", Type: "bool", Default: "false", Effect: NotYet, Doc: "a feature"},
		{Name: "useless", Type: "int", Default: "3", Effect: NoEffect, Change: Hot, Doc: "Threads."},
		{Name: "high", Field: &o.High, Default: "9", Change: Hot, Doc: "High."},
		{Name: "low", Field: &o.Low, Default: "1", Change: Restart, Doc: "Low."},
	}})
}

func tens(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil {
		return "", fmt.Errorf("is no count of tens")
	}
	return strconv.Itoa(n * 10), nil
}

func loaded(t *testing.T, text string) (options, *Table, []Problem) {
	t.Helper()
	var o options
	tb := table(&o)
	file := filepath.Join(t.TempDir(), "f.properties")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	src, problems, err := Load(tb, file, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if src.File != file {
		t.Errorf("source of %q", src.File)
	}
	for i := range problems {
		problems[i].File = filepath.Base(problems[i].File)
	}
	return o, tb, problems
}

func TestDefaultsAndOrder(t *testing.T) {
	env := func(name string) string {
		if name == "TEST_ADDRS" {
			return "env:1;env:2"
		}
		return ""
	}
	var o options
	tb := table(&o)
	if _, _, err := Load(tb, "", nil, env); err != nil {
		t.Fatal(err)
	}
	if o.Name != "auto" || !slices.Equal(o.Addrs, []string{"env:1", "env:2"}) || o.Port != 10 || o.Queues != 4 || o.Wait != 500*time.Millisecond ||
		o.Age != 72*time.Hour || !o.Long || o.Maybe != nil || o.Role != "FIRST" {
		t.Errorf("defaults %+v", o)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("addrs=file:1\nport=11\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(tb, file, []Flag{{From: "-p", Key: "port", Value: "12"}}, env); err != nil {
		t.Fatal(err)
	}
	if o.Port != 12 || o.Addrs[0] != "file:1" || !tb.Given("port") || tb.Given("size") {
		t.Errorf("file over environment, flag over file: %+v", o)
	}
	bad := func(string) string { return "x " }
	tb2 := NewTable("t", Section{Keys: []Key{{Name: "port", Field: &o.Port, Env: "P"}}})
	if _, _, err := Load(tb2, "", nil, bad); err == nil || !strings.Contains(err.Error(), "environment variable P") {
		t.Errorf("a bad environment variable: %v", err)
	}
}

func TestKinds(t *testing.T) {
	o, tb, problems := loaded(t, "name=n\naddrs= a:1 ;; b:2;\nport=+65535\nqueues=-5\nsize=123456789012\nwait=1\nage=1\nlong=FALSE\nmaybe=True\nrole=SECOND\n")
	if len(problems) != 0 {
		t.Errorf("problems %v", problems)
	}
	if o.Name != "n" || !slices.Equal(o.Addrs, []string{"a:1", "b:2"}) || o.Port != 65535 || o.Queues != -5 || o.Size != 123456789012 ||
		o.Wait != time.Millisecond || o.Age != time.Hour || o.Long || o.Maybe == nil || !*o.Maybe || o.Role != "SECOND" {
		t.Errorf("options %+v", o)
	}
	for key, want := range map[string]string{"addrs": "a:1;b:2", "size": "123456789012", "wait": "1", "age": "1", "maybe": "true", "role": "SECOND", "sise": "123456789012", "percent": "50", "nothing": ""} {
		if got := tb.Value(key); got != want {
			t.Errorf("value of %s is %q, want %q", key, got, want)
		}
	}
}

// Each thing that can be wrong with a line: its level, its place and its words.
func TestProblems(t *testing.T) {
	for text, want := range map[string]string{
		"port=0":                        "fatal f.properties:1: port=0: is outside 1..65535",
		"\n#\nport=99999":               "fatal f.properties:3: port=99999: is outside 1..65535",
		"port=ten":                      "fatal f.properties:1: port=ten: is not a whole number (digits only, no unit or comment behind them)",
		"port=":                         "fatal f.properties:1: port=: is not a whole number (digits only, no unit or comment behind them)",
		"port=10 ":                      "fatal f.properties:1: port=10 : ends with a blank, which a Java properties file keeps as part of the value; remove it",
		"size=1G":                       "fatal f.properties:1: size=1G: is not a whole number (digits only, no unit or comment behind them); it counts bytes",
		"queues=3000000000":             "fatal f.properties:1: queues=3000000000: is too large",
		"wait=99999999999999999999":     "fatal f.properties:1: wait=99999999999999999999: is too large; it counts milliseconds",
		"age=99999999999999":            "fatal f.properties:1: age=99999999999999: is too large; it counts hours",
		"wait=0":                        "fatal f.properties:1: wait=0: is outside 1 or more milliseconds",
		"long=yes":                      "fatal f.properties:1: long=yes: is neither true nor false",
		"maybe=1":                       "fatal f.properties:1: maybe=1: is neither true nor false",
		"role=second":                   "fatal f.properties:1: role=second: must be one of FIRST | SECOND, exactly so",
		"missing=perhaps":               "fatal f.properties:1: missing=perhaps: is neither true nor false",
		"useless=many":                  "fatal f.properties:1: useless=many: is not a whole number (digits only, no unit or comment behind them)",
		"sizeInTens=x":                  "fatal f.properties:1: sizeInTens=x: is no count of tens",
		"percent=5":                     "warning f.properties:1: percent=5: is outside 10..90 percent and taken as 10",
		"percent=95":                    "warning f.properties:1: percent=95: is outside 10..90 percent and taken as 90",
		"missing=true":                  "warning f.properties:1: missing=true: is known, but gomq does not have it yet: a feature",
		"missing=false":                 "",
		"useless=4":                     "note f.properties:1: useless=4: is accepted and has no effect in gomq",
		"useless=3":                     "",
		"prot=11":                       "warning f.properties:1: prot=11: is not a key of the test and has no effect; the nearest one is port",
		"nothingLikeIt=1":               "warning f.properties:1: nothingLikeIt=1: is not a key of the test and has no effect",
		"PORT=11":                       "warning f.properties:1: PORT=11: is not a key of the test and has no effect; the nearest one is port",
		"port=1\nport=2":                "warning f.properties:1: port=1: is set again in line 2, which counts",
		"sizeInTens=5":                  "note f.properties:1: sizeInTens=5: counts tens",
		"sise=5":                        "",
		"sise=5\nsize=6":                "warning f.properties:1: sise=5: is an older spelling of size, which is set as well and counts",
		"name=\xe4":                     `warning f.properties:1: name=ä: is read as ISO-8859-1 as Java does, not as UTF-8; write other letters as \uXXXX`,
		"\xef\xbb\xbfport=11":           "warning f.properties:1: ï»¿port=11: is not a key of the test and has no effect; the file begins with a byte order mark, which belongs to the first key: save it as UTF-8 without one",
		"x=" + strings.Repeat("é", 300): "warning f.properties:1: x=" + strings.Repeat("Ã©", 50) + "... (1200 bytes): is not a key of the test and has no effect",
		"passwort=hidden":               "warning f.properties:1: passwort=hidden: is not a key of the test and has no effect; the nearest one is password",
		"my.password=hidden":            "warning f.properties:1: my.password=******: is not a key of the test and has no effect",
		"a\\nb=c":                       `warning f.properties:1: "a\nb"=c: is not a key of the test and has no effect`,
	} {
		_, _, problems := loaded(t, text)
		got := ""
		for _, p := range problems {
			got += [...]string{Note: "note", Warning: "warning", Fatal: "fatal"}[p.Level] + " " + p.String()
		}
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", text, got, want)
		}
		if fatal := strings.HasPrefix(want, "fatal"); (Refusal(problems) != nil) != fatal {
			t.Errorf("%q: refusal %v", text, Refusal(problems))
		}
	}
}

// A value that is refused leaves the field as it was.
func TestRefusedValueKeepsDefault(t *testing.T) {
	o, _, _ := loaded(t, "port=x\nwait=0\nrole=no\n")
	if o.Port != 10 || o.Wait != 500*time.Millisecond || o.Role != "FIRST" {
		t.Errorf("options %+v", o)
	}
}

func TestPrint(t *testing.T) {
	o, tb, _ := loaded(t, "password=hush\nport=11\nuseless=4\n")
	if o.Password != "hush" {
		t.Fatalf("options %+v", o)
	}
	var all, some bytes.Buffer
	if err := tb.Print(&all, false); err != nil {
		t.Fatal(err)
	}
	if err := tb.Print(&some, true); err != nil {
		t.Fatal(err)
	}
	if some.String() != "port=11\n" {
		t.Errorf("important keys:\n%s", some.String())
	}
	for _, line := range []string{"password=******\n", "useless=4\n", "maybe=\n", "wait=500\n", "age=72\n", "long=true\n"} {
		if !strings.Contains(all.String(), line) {
			t.Errorf("no %q in\n%s", line, all.String())
		}
	}
	if strings.Contains(all.String(), "hush") {
		t.Error("a secret was printed")
	}
	if n := strings.Count(all.String(), "\n"); n != len(tb.Names()) {
		t.Errorf("%d lines for %d keys", n, len(tb.Names()))
	}
}

func TestExplainAndDoc(t *testing.T) {
	var o options
	tb := table(&o)
	var b bytes.Buffer
	if near, ok := tb.Explain(&b, "sizeInTens"); !ok || near != "" {
		t.Errorf("sizeInTens: %q %v", near, ok)
	}
	for _, want := range []string{"size (int)", "counts tens", "unit      bytes", "at once"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if near, ok := tb.Explain(&b, "siez"); ok || near != "size" {
		t.Errorf("siez: %q %v", near, ok)
	}
	b.Reset()
	if err := tb.WriteDoc(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n### One\n\nThe first.\n\n| key |", "| `role` | enum | FIRST | FIRST \\| SECOND | file only | Role. |",
		"| `addrs` | list | $TEST_ADDRS |", "| `name` | string | somebody |", "**Not yet in gomq.**", "*No effect in gomq.*", "| `maybe` | bool | (empty) |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestTwiceInATable(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a name that comes twice was accepted")
		}
	}()
	NewTable("t", Section{Keys: []Key{{Name: "a"}, {Name: "b", Aliases: []Alias{{Name: "a"}}}}})
}
