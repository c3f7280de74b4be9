package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/magiconair/properties"

	"gomq/internal/failpoint"
)

// Source is the text that options were read from: the properties file of the
// command line, line by line. It is kept so that an update over the network
// can rewrite the file without losing its comments and its order. Not safe for
// concurrent use; Live guards its own.
type Source struct {
	File  string // empty: no file was given, an update has nowhere to go
	lines []line
}

// line is one logical line: what Java's Properties reads as one, continuation
// lines included.
type line struct {
	number     int    // of its first natural line, from 1
	text       string // as in the file, without its end
	key, value string // decoded; key is empty for comments and blank lines
}

// maxFile bounds a configuration file in bytes; it is read whole.
const maxFile = 4 << 20

// ReadFile reads a Java properties file (config.md section 1): ISO-8859-1 with
// \uXXXX, comments with # or !, the key ends at the first = : or blank, a
// backslash escapes and continues lines, LF, CRLF and CR end them, blanks after
// the value belong to it, nothing is expanded. An error names file and line.
func ReadFile(file string) (*Source, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("configuration file %s has %d bytes, the limit is %d; is it the right file?", file, info.Size(), maxFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return Parse(file, text)
}

// Parse is ReadFile for text that is at hand; file is only named in errors and
// kept as the place that Save writes to.
func Parse(file string, text []byte) (*Source, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: %d bytes of configuration, the limit is %d", file, len(text), maxFile)
	}
	s := &Source{File: file}
	natural := splitLines(text)
	for i := 0; i < len(natural); i++ {
		l := line{number: i + 1, text: natural[i]}
		joined := strings.TrimLeft(natural[i], blanks)
		if joined == "" || joined[0] == '#' || joined[0] == '!' {
			s.lines = append(s.lines, l)
			continue
		}
		for continues(joined) && i+1 < len(natural) {
			i++
			l.text += "\n" + natural[i]
			joined = joined[:len(joined)-1] + strings.TrimLeft(natural[i], blanks)
		}
		if continues(joined) { // the last line of the file: nothing follows
			joined = joined[:len(joined)-1]
		}
		if joined == "" {
			s.lines = append(s.lines, l)
			continue
		}
		var err error
		if l.key, l.value, err = decodeLine(joined); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, l.number, err)
		}
		s.lines = append(s.lines, l)
	}
	return s, nil
}

const blanks = " \t\f"

func splitLines(text []byte) []string {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	if len(text) == 0 {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// continues reports whether a line ends with an odd number of backslashes.
func continues(s string) bool {
	n := len(s) - len(strings.TrimRight(s, `\`))
	return n%2 == 1
}

// decodeLine reads one logical line. The library gets single lines, already
// decoded: it knows neither line numbers, nor a continuation that ends in CRLF,
// nor the two escapes that Java writes for a character beyond U+FFFF.
func decodeLine(s string) (key, value string, err error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", "", errors.New("has a zero byte; is it a properties file?")
	}
	if s[0] == '=' || s[0] == ':' {
		return "", "", fmt.Errorf("a value without a key: %.200q", s)
	}
	l := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	p, err := l.LoadBytes([]byte(joinSurrogates(latin1(s))))
	if err != nil {
		return "", "", fmt.Errorf("not a line of a properties file (%.200s): %.200q; a single backslash must be written twice", strings.TrimPrefix(err.Error(), "properties: "), s)
	}
	for _, k := range p.Keys() {
		value, _ = p.Get(k)
		key = k
	}
	if key == "" {
		return "", "", fmt.Errorf("a value without a key: %.200q", s)
	}
	return key, value, nil
}

// latin1 takes each byte as the character of that number, as ISO-8859-1 has it.
func latin1(s string) string {
	if isASCII(s) {
		return s
	}
	runes := make([]rune, len(s))
	for i := range runes {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// joinSurrogates replaces two \u escapes that are one character of UTF-16 by the
// character.
func joinSurrogates(s string) string {
	if !strings.Contains(s, `\u`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		hi, ok := unicodeEscape(s[i:])
		if lo, ok2 := unicodeEscape(s[min(i+6, len(s)):]); ok && ok2 && utf16.DecodeRune(hi, lo) != utf8.RuneError {
			b.WriteRune(utf16.DecodeRune(hi, lo))
			i += 12
			continue
		}
		n := 1
		if s[i] == '\\' && i+1 < len(s) {
			n = 2 // what is escaped begins no escape
		}
		b.WriteString(s[i : i+n])
		i += n
	}
	return b.String()
}

func unicodeEscape(s string) (rune, bool) {
	if len(s) < 6 || s[:2] != `\u` {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}

// Each calls fn for every line that sets a key, in the order of the file. Of a
// key that comes twice the last one counts.
func (s *Source) Each(fn func(key, value string, line int)) {
	if s == nil {
		return
	}
	for _, l := range s.lines {
		if l.key != "" {
			fn(l.key, l.value, l.number)
		}
	}
}

// Get returns what the file says for exactly this spelling.
func (s *Source) Get(key string) (value string, ok bool) {
	s.Each(func(k, v string, _ int) {
		if k == key {
			value, ok = v, true
		}
	})
	return value, ok
}

// Line returns the number of the line that sets exactly this spelling, or 0.
func (s *Source) Line(key string) (number int) {
	s.Each(func(k, _ string, line int) {
		if k == key {
			number = line
		}
	})
	return number
}

// With returns a copy in which key has the value: its line is replaced where it
// stands (the last one; earlier duplicates and older spellings go), a new key is
// added at the end.
func (s *Source) With(key, value string, older ...string) *Source {
	out := &Source{File: s.File}
	set := line{key: key, value: value, text: encodeLine(key, value)}
	last := -1
	is := func(l line) bool { return l.key == key || slices.Contains(older, l.key) }
	for i, l := range s.lines {
		if l.key != "" && is(l) {
			last = i
		}
	}
	for i, l := range s.lines {
		switch {
		case i == last:
			set.number = l.number
			out.lines = append(out.lines, set)
		case l.key == "" || !is(l):
			out.lines = append(out.lines, l)
		}
	}
	if last < 0 {
		out.lines = append(out.lines, set)
	}
	return out
}

// Save replaces the file: written beside it, synced, the old one kept as
// FILE.bak, renamed, the directory synced. At no moment is there neither.
func (s *Source) Save() error {
	if s.File == "" {
		return errors.New("no configuration file was given with -c, so there is none to write to")
	}
	var b bytes.Buffer
	for _, l := range s.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	file := s.File
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real // a link stays a link
	}
	return Replace(file, b.Bytes())
}

// Replace writes a file whole and durably: FILE.tmp, sync, a link to the old one
// as FILE.bak, rename, sync of the directory. At no moment is there neither. The
// mode of an existing file stays, a new one is 0600. An empty file does not
// become a .bak: it would displace one that holds something. One caller at a
// time for a file.
func Replace(file string, data []byte) error {
	mode, old := os.FileMode(0o600), false
	if info, err := os.Stat(file); err == nil {
		mode, old = info.Mode().Perm(), info.Size() > 0
	}
	if err := writeSynced(file+".tmp", data, mode); err != nil {
		return err
	}
	if old {
		if err := keepOld(file, mode); err != nil {
			return err
		}
	}
	failpoint.Hit("renameJSON")
	if err := os.Rename(file+".tmp", file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// keepOld makes FILE.bak what FILE is now; the name FILE itself never goes away.
func keepOld(file string, mode os.FileMode) error {
	tmp := file + ".bak.tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(file, tmp); err != nil {
		// Not every file system has links.
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := writeSynced(tmp, data, mode); err != nil {
			return err
		}
	}
	return os.Rename(tmp, file+".bak")
}

func writeSynced(file string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// encodeLine writes key=value so that Java and Parse read it back.
func encodeLine(key, value string) string {
	return escape(key, true) + "=" + escape(value, false)
}

func escape(s string, key bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == ' ' && (key || i == 0), key && strings.ContainsRune("=:#!", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04X\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case r < 0x20 || r > 0x7e:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
