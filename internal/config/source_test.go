package config

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

type pair struct {
	key, value string
	line       int
}

func pairs(t *testing.T, text string) []pair {
	t.Helper()
	s, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	var out []pair
	s.Each(func(k, v string, line int) { out = append(out, pair{k, v, line}) })
	return out
}

// The dialect of java.util.Properties, each rule once.
func TestDialect(t *testing.T) {
	for text, want := range map[string][]pair{
		"":                            nil,
		"a=1":                         {{"a", "1", 1}},
		"a=1\nb=2\n":                  {{"a", "1", 1}, {"b", "2", 2}},
		"a=1\r\nb=2\r\n":              {{"a", "1", 1}, {"b", "2", 2}},
		"a=1\rb=2\r":                  {{"a", "1", 1}, {"b", "2", 2}},
		"a:1":                         {{"a", "1", 1}},
		"a 1":                         {{"a", "1", 1}},
		"a\t= \t1":                    {{"a", "1", 1}},
		"  \f a = 1":                  {{"a", "1", 1}},
		"a=b=c:d":                     {{"a", "b=c:d", 1}},
		"a==1":                        {{"a", "=1", 1}},
		"a : = 1":                     {{"a", "= 1", 1}},
		"a=1  ":                       {{"a", "1  ", 1}},
		"a=1 # not a comment":         {{"a", "1 # not a comment", 1}},
		"# a=1\n! b=2\n  # c=3\nd=4":  {{"d", "4", 4}},
		"#\\\na=1":                    {{"a", "1", 2}},
		"a=1\\\n   2\\\r\n   3\nb=4":  {{"a", "123", 1}, {"b", "4", 4}},
		"a=1\\\n# 2":                  {{"a", "1# 2", 1}},
		"a=1\\\\\nb=2":                {{"a", `1\`, 1}, {"b", "2", 2}},
		"a=1\\":                       {{"a", "1", 1}},
		"a=\\\n":                      {{"a", "", 1}},
		"a":                           {{"a", "", 1}},
		"a=":                          {{"a", "", 1}},
		"a\\=b=1":                     {{"a=b", "1", 1}},
		"a\\ b\\:c\\#=1":              {{"a b:c#", "1", 1}},
		`a=C:\temp\new`:               {{"a", "C:\temp\new", 1}},
		`a=\z\"`:                      {{"a", `z"`, 1}},
		`a=\t\n\r\f`:                  {{"a", "\t\n\r\f", 1}},
		`a=\u4e2d\u0041`:              {{"a", "中A", 1}},
		`a=\ud83d\ude00`:              {{"a", "😀", 1}},
		`a=\\ud83d\\ude00`:            {{"a", `\ud83d\ude00`, 1}},
		"a=\xe9":                      {{"a", "é", 1}},
		"a=\xe4\xb8\xad":              {{"a", "ä¸\u00ad", 1}}, // UTF-8 is not read as UTF-8
		"a=${b}":                      {{"a", "${b}", 1}},
		"a=\\ x":                      {{"a", " x", 1}},
		"a=1\n\n\na=2":                {{"a", "1", 1}, {"a", "2", 4}},
		"a.b-c=1\n\\#d=2":             {{"a.b-c", "1", 1}, {"#d", "2", 2}},
		"namesrvAddr=h1:9876;h2:9876": {{"namesrvAddr", "h1:9876;h2:9876", 1}},
		"#所属\nbrokerName=broker-a\n#角色 \n": {{"brokerName", "broker-a", 2}},
	} {
		if got := pairs(t, text); !slices.Equal(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a=1\nb=\\u12":                 "f:2: not a line of a properties file",
		"a=1\n\n=v":                    "f:3: a value without a key",
		"a=1\nb=x\x00y":                "f:2: has a zero byte",
		"a=\\uzzzz":                    "f:1: not a line",
		strings.Repeat("#", maxFile+1): "the limit is",
	} {
		if _, err := Parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want %q", text, err, want)
		}
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a missing file: %v", err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(big); err == nil || !strings.Contains(err.Error(), "is it the right file?") {
		t.Errorf("a large file: %v", err)
	}
}

// A rewritten file keeps its comments, its order, its bytes that are not ASCII
// and its mode; the file before it stays as .bak.
func TestSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broker.properties")
	before := "#集群\nbrokerName=broker-a\n\n! second\na=1\\\n  2\nb=3\na=4\n"
	if err := os.WriteFile(file, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	link := file + ".link"
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	s, err := ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.With("a", "5").With("new", " x\\中").With("brokerName", "b").Save(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "#集群\nbrokerName=b\n\n! second\nb=3\na=5\nnew=\\ x\\\\\\u4E2D\n"; string(got) != want {
		t.Errorf("file\n%s\nwant\n%s", got, want)
	}
	if bak, err := os.ReadFile(file + ".bak"); err != nil || string(bak) != before {
		t.Errorf("%s.bak: %q, %v", file, bak, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	if _, err := os.Stat(file + ".tmp"); err == nil {
		t.Error("a temporary file is left")
	}
	if err := new(Source).Save(); err == nil {
		t.Error("a source without a file was saved")
	}
}

// javaLoad is the loading of java.util.Properties written down a second time, in
// the plainest way: characters in, one state, no library. It is what the fuzz
// target compares with.
func javaLoad(text []byte) (out [][2]string, ok bool) {
	in := make([]uint16, 0, len(text))
	for _, b := range text {
		in = append(in, uint16(b))
	}
	isBlank := func(c uint16) bool { return c == ' ' || c == '\t' || c == '\f' }
	for i := 0; i < len(in); {
		for i < len(in) && (isBlank(in[i]) || in[i] == '\n' || in[i] == '\r') {
			i++
		}
		if i < len(in) && (in[i] == '#' || in[i] == '!') {
			for i < len(in) && in[i] != '\n' && in[i] != '\r' {
				i++
			}
			continue
		}
		// One logical line: raw characters with continuations removed.
		var raw []uint16
		for i < len(in) && in[i] != '\n' && in[i] != '\r' {
			if in[i] != '\\' {
				raw = append(raw, in[i])
				i++
				continue
			}
			if i+1 == len(in) {
				i++
				break
			}
			if c := in[i+1]; c == '\n' || c == '\r' {
				i += 2
				if c == '\r' && i < len(in) && in[i] == '\n' {
					i++
				}
				for i < len(in) && isBlank(in[i]) {
					i++
				}
				continue
			}
			raw = append(raw, in[i], in[i+1])
			i += 2
		}
		if len(raw) == 0 {
			continue
		}
		end := 0
		for end < len(raw) && !isBlank(raw[end]) && raw[end] != '=' && raw[end] != ':' {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(raw))
		start, sep := end, false
		for start < len(raw) && (isBlank(raw[start]) || !sep && (raw[start] == '=' || raw[start] == ':')) {
			sep = sep || raw[start] == '=' || raw[start] == ':'
			start++
		}
		k, ok1 := unescape(raw[:end])
		v, ok2 := unescape(raw[start:])
		if !ok1 || !ok2 {
			return nil, false
		}
		out = append(out, [2]string{k, v})
	}
	return out, true
}

func unescape(raw []uint16) (string, bool) {
	var out []uint16
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			if raw[i] != '\\' {
				out = append(out, raw[i])
			}
			continue
		}
		i++
		switch raw[i] {
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'f':
			out = append(out, '\f')
		case 'u':
			if i+4 >= len(raw) {
				return "", false
			}
			n, err := strconv.ParseUint(string(utf16.Decode(raw[i+1:i+5])), 16, 16)
			if err != nil {
				return "", false
			}
			out = append(out, uint16(n))
			i += 4
		default:
			out = append(out, raw[i])
		}
	}
	return string(utf16.Decode(out)), true
}

// FuzzProperties: no text makes the parser panic, what it reads is what Java
// reads, and what is written is read back.
func FuzzProperties(f *testing.F) {
	for _, text := range []string{
		"a=1", "#c\na : 1\\\n 2", "a\\=b=\\u4e2d", "a=\\ud83d\\ude00", "=x", "a=\x00", "\xef\xbb\xbfa=1", "a=\\", "\\", "a\\", "a=1\r\r\nb", "  \\\n  a=1", "\\\n#a",
		"brokerName=broker-a \nnamesrvAddr=h:9876;i:9876\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f", text)
		if err != nil {
			return
		}
		var got [][2]string
		s.Each(func(k, v string, _ int) { got = append(got, [2]string{k, v}) })
		if want, ok := javaLoad(text); !ok || !slices.Equal(got, want) {
			t.Fatalf("%q is read as %q, Java reads %q (%v)", text, got, want, ok)
		}
		var b strings.Builder
		for _, p := range got {
			b.WriteString(encodeLine(p[0], p[1]) + "\n")
		}
		again, err := Parse("f", []byte(b.String()))
		if err != nil {
			t.Fatalf("%q was written and cannot be read: %v", b.String(), err)
		}
		var back [][2]string
		again.Each(func(k, v string, _ int) { back = append(back, [2]string{k, v}) })
		if !slices.Equal(got, back) {
			t.Fatalf("wrote %q, read %q from %q", got, back, b.String())
		}
	})
}
