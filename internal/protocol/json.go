package protocol

import "fmt"

// parseJSON reads a header in JSON (wire.md section 3). Pairs may be strings,
// numbers, true and false; null is as good as absent; of a key that comes twice
// the last counts; what is not known is skipped.
func (c *Command) parseJSON(b []byte) error {
	i := blank(b, 0)
	if i >= len(b) || b[i] != '{' {
		return headerError(b, i, "an object")
	}
	s := headerScan{b: b, i: i + 1, raw: c.raw}
	err := s.object(c)
	c.raw = s.raw
	if err == nil {
		if s.i = blank(b, s.i); s.i < len(b) {
			err = headerError(b, s.i, "the end")
		}
	}
	return err
}

// headerScan is a place in a JSON header. raw takes strings whose escapes are
// undone; slices of it stay good when it grows.
type headerScan struct {
	b   []byte
	i   int
	raw []byte
}

func headerError(b []byte, i int, want string) error {
	if i >= len(b) {
		return fmt.Errorf("%w: it ends where %s should be", ErrHeader, want)
	}
	return fmt.Errorf("%w: %q at byte %d where %s should be", ErrHeader, b[i], i, want)
}

func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// next moves to the next key and returns it, with the place on its value. more
// is false at the object's end, which is then behind.
func (s *headerScan) next() (key []byte, more bool, err error) {
	b, i := s.b, s.i
	for i < len(b) && (b[i] <= ' ' || b[i] == ',') {
		i++
	}
	if i < len(b) && b[i] == '}' {
		s.i = i + 1
		return nil, false, nil
	}
	if i >= len(b) || b[i] != '"' {
		return nil, false, headerError(b, i, "a name")
	}
	s.i = i
	if key, err = s.str(); err != nil {
		return nil, false, err
	}
	i = s.i
	if i < len(b) && b[i] <= ' ' {
		i = blank(b, i)
	}
	if i >= len(b) || b[i] != ':' {
		return nil, false, headerError(b, i, "a colon")
	}
	i++
	if i < len(b) && b[i] <= ' ' {
		i = blank(b, i)
	}
	if i >= len(b) {
		return nil, false, headerError(b, i, "a value")
	}
	s.i = i
	return key, true, nil
}

// object reads the header's own members; the place is behind its brace.
func (s *headerScan) object(c *Command) error {
	for {
		key, more, err := s.next()
		if !more {
			return err
		}
		switch string(key) {
		case "code":
			err = s.number("code", &c.Code)
		case "version":
			err = s.number("version", &c.Version)
		case "opaque":
			err = s.number("opaque", &c.Opaque)
		case "flag":
			err = s.number("flag", &c.Flag)
		case "language":
			err = s.language(c)
		case "remark":
			var v []byte
			if v, err = s.scalar(); err == nil {
				c.Remark = remarkOf(v)
			}
		case "extFields":
			if s.b[s.i] != '{' {
				c.ext, c.hasExt = c.ext[:0], false
				err = s.skip()
			} else {
				s.i++
				err = s.pairs(c)
			}
		default:
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
}

// pairs reads extFields; the place is behind its brace.
func (s *headerScan) pairs(c *Command) error {
	c.hasExt = true
	ext := c.ext[:0]
	var seen dedup
	for n := 0; ; n++ {
		key, value := s.plainPair()
		if key == nil {
			var more bool
			var err error
			if key, more, err = s.next(); !more {
				c.ext = ext
				return err
			}
			if value, err = s.scalar(); err != nil {
				return err
			}
		}
		if n == MaxPairs {
			return fmt.Errorf("%w: more than %d pairs", ErrHeader, MaxPairs)
		}
		if value != nil {
			ext = seen.add(ext, key, value)
		} else {
			ext = remove(ext, key)
		}
	}
}

// plainPair reads a pair of two strings as nearly all peers write it: nothing
// between its parts, no escapes in the key. A nil key says that it is written
// otherwise; the place has then not moved.
func (s *headerScan) plainPair() (key, value []byte) {
	b, i := s.b, s.i
	if i < len(b) && b[i] == ',' {
		i++
	}
	if i >= len(b) || b[i] != '"' {
		return nil, nil
	}
	k := i + 1
	i = k
	for i < len(b) && b[i] != '"' && b[i] != '\\' {
		i++
	}
	if len(b)-i < 3 || b[i] != '"' || b[i+1] != ':' || b[i+2] != '"' {
		return nil, nil
	}
	v := i + 3
	end := stop(b, v)
	if end < len(b) && b[end] == '"' {
		s.i = end + 1
		return b[k:i:i], b[v:end:end]
	}
	if end < len(b) {
		if value, err := s.escaped(v, end); err == nil {
			return b[k:i:i], value
		}
	}
	return nil, nil // what is wrong is said when it is read again
}

// scalar is the text of a string, a number, true or false; nil for null and for
// objects and arrays, which no header has.
func (s *headerScan) scalar() ([]byte, error) {
	b, i := s.b, s.i
	switch ch := b[i]; {
	case ch == '"':
		return s.str()
	case ch == '{' || ch == '[' || ch == 'n':
		return nil, s.skip()
	case ch == 't' || ch == 'f' || ch == '-' || ch-'0' < 10:
		end := i + 1
		for end < len(b) && b[end] > ' ' && b[end] != ',' && b[end] != '}' && b[end] != ']' {
			end++
		}
		s.i = end
		return b[i:end:end], nil
	}
	return nil, headerError(b, i, "a value")
}

// number reads a member that holds a number, which may stand in quotes; null and
// an empty string leave v alone.
func (s *headerScan) number(name string, v *int32) error {
	b, i, n := s.b, s.i, int32(0)
	for i < len(b) && b[i]-'0' < 10 && i-s.i < 9 {
		n = n*10 + int32(b[i]-'0')
		i++
	}
	if i > s.i && i < len(b) && (b[i] == ',' || b[i] == '}') { // as nearly all are
		s.i, *v = i, n
		return nil
	}
	t, err := s.scalar()
	if err != nil || len(t) == 0 {
		return err
	}
	wide, ok := atoi(t)
	if !ok || int64(int32(wide)) != wide {
		return fmt.Errorf("%w: %s is %.20q", ErrHeader, name, t)
	}
	*v = int32(wide)
	return nil
}

// language reads the language, by name or, leniently, by number.
func (s *headerScan) language(c *Command) error {
	t, err := s.scalar()
	if err != nil || len(t) == 0 {
		return err
	}
	if string(t) == "JAVA" {
		c.Language = LangJava
		return nil
	}
	if n, ok := atoi(t); ok {
		c.Language = LangOther
		if n >= 0 && n < int64(len(languages)) {
			c.Language = Language(n)
		}
		return nil
	}
	c.Language = languageOf(t)
	return nil
}

// skip passes over any value.
func (s *headerScan) skip() error {
	b := s.b
	switch ch := b[s.i]; {
	case ch == '"':
		return s.skipString()
	case ch == '{' || ch == '[':
		return s.skipNested()
	case ch-'0' < 10 || ch-'a' < 26 || ch == '-':
		for s.i < len(b) && (b[s.i]-'0' < 10 || (b[s.i]|0x20)-'a' < 26 || b[s.i] == '-' || b[s.i] == '+' || b[s.i] == '.') {
			s.i++
		}
		return nil
	}
	return headerError(b, s.i, "a value")
}

func (s *headerScan) skipString() error {
	b := s.b
	for i := stop(b, s.i+1); i < len(b); i = stop(b, min(i+2, len(b))) {
		if b[i] == '"' {
			s.i = i + 1
			return nil
		}
	}
	return headerError(b, len(b), "a closing quote")
}

// skipNested passes over an object or an array. Inside only its brackets and
// strings are looked at.
func (s *headerScan) skipNested() error {
	b := s.b
	var closing [maxDepth]byte
	for depth := 0; s.i < len(b); {
		switch ch := b[s.i]; ch {
		case '"':
			if err := s.skipString(); err != nil {
				return err
			}
			continue
		case '{', '[':
			if depth == maxDepth {
				return fmt.Errorf("%w: more than %d levels of nesting", ErrHeader, maxDepth)
			}
			closing[depth] = ch + 2
			depth++
		case '}', ']':
			if depth--; closing[depth] != ch {
				return headerError(b, s.i, string(closing[depth]))
			}
			if depth == 0 {
				s.i++
				return nil
			}
		}
		s.i++
	}
	return headerError(b, len(b), "a closing bracket")
}
