package config

import (
	"fmt"
	"io"
	"strings"
)

// Table is the keys of one role, bound to one Options value. A role makes it
// anew for each value it wants to read, print or change; making one changes
// nothing.
type Table struct {
	Role     string
	sections []Section
	rows     map[string]*row // by name and by alias
	order    []*row
}

type row struct {
	*Key
	given string // last value set, as written; for keys without a field
	set   bool
}

// NewTable checks that no name comes twice (a mistake of the program, hence the
// panic) and returns the table.
func NewTable(role string, sections ...Section) *Table {
	t := &Table{Role: role, sections: sections, rows: map[string]*row{}}
	for i := range sections {
		for j := range sections[i].Keys {
			r := &row{Key: &sections[i].Keys[j]}
			t.order = append(t.order, r)
			t.add(r.Name, r)
			for _, a := range r.Aliases {
				t.add(a.Name, r)
			}
		}
	}
	return t
}

func (t *Table) add(name string, r *row) {
	if t.rows[name] != nil {
		panic("config: the table of " + t.Role + " has " + name + " twice")
	}
	t.rows[name] = r
}

// Defaults stores every default into the options; getenv may be nil. An error is
// an environment variable with a bad value.
func (t *Table) Defaults(getenv func(string) string) error {
	for _, r := range t.order {
		value := r.Default
		if r.Auto != nil {
			value = r.Auto()
		}
		from := ""
		if r.Env != "" && getenv != nil {
			if v := getenv(r.Env); v != "" {
				value, from = v, "environment variable "+r.Env+": "
			}
		}
		if err := r.store(value); err != nil {
			return fmt.Errorf("%s%s=%s %w", from, r.Name, value, err)
		}
	}
	return nil
}

// Load stores what the file says and returns what there is to say about it: an
// unknown key is a warning with the nearest known one, a value that does not
// parse or may not be used is fatal and leaves the field as it was. The real
// name wins over an older spelling wherever the two stand.
func (t *Table) Load(src *Source) []Problem {
	var problems []Problem
	last := map[string]int{} // key -> line that counts
	src.Each(func(key, _ string, line int) { last[key] = line })
	src.Each(func(key, value string, line int) {
		if last[key] != line {
			problems = append(problems, Problem{Level: Warning, File: src.File, Line: line, Key: key, Value: value,
				Text: fmt.Sprintf("is set again in line %d, which counts", last[key])})
			return
		}
		_, real := last[t.realName(key)]
		problems = append(problems, t.setLine(src.File, line, key, value, real)...)
	})
	return problems
}

func (t *Table) realName(key string) string {
	if r := t.rows[key]; r != nil {
		return r.Name
	}
	return ""
}

func (t *Table) setLine(file string, line int, key, value string, realGiven bool) []Problem {
	say := Problem{Level: Warning, File: file, Line: line, Key: key, Value: value}
	r := t.rows[key]
	if r == nil {
		say.Unknown, say.Near = true, nearest(key, t.Names())
		say.Text = "is not a key of " + t.Role + " and has no effect"
		if bare, marked := strings.CutPrefix(key, "\u00ef\u00bb\u00bf"); marked { // EF BB BF, read as ISO-8859-1
			say.Near = t.realName(bare)
			say.Text += "; the file begins with a byte order mark, which belongs to the first key: save it as UTF-8 without one"
		} else if say.Near != "" {
			say.Text += "; the nearest one is " + say.Near
		}
		return []Problem{say}
	}
	var problems []Problem
	if a := r.alias(key); a != nil {
		if realGiven {
			say.Text = "is an older spelling of " + r.Name + ", which is set as well and counts"
			return []Problem{say}
		}
		if a.Convert != nil {
			converted, err := a.Convert(value)
			if err != nil {
				say.Level, say.Text = Fatal, err.Error()
				return []Problem{say}
			}
			value = converted
		}
		if !a.Quiet {
			note := say
			note.Level, note.Text = Note, a.Note
			if note.Text == "" {
				note.Text = "is an older spelling of " + r.Name
			}
			problems = append(problems, note)
		}
	}
	return append(problems, t.setRow(r, say, value)...)
}

func (t *Table) setRow(r *row, say Problem, value string) []Problem {
	note, err := r.Key.set(value)
	if err != nil {
		say.Level, say.Text = Fatal, err.Error()
		return []Problem{say}
	}
	r.given, r.set = value, true
	switch {
	case note != "":
		say.Level, say.Text = Warning, note
	case r.Effect == NotYet && value != r.Default:
		say.Level, say.Text = Warning, "is known, but gomq does not have it yet: "+r.Doc
	case r.Effect == NoEffect && r.Missed && value != r.Default:
		say.Level, say.Text = Warning, "is accepted and has no effect in gomq: "+r.Doc
	case r.Effect == NoEffect && value != r.Default:
		say.Level, say.Text = Note, "is accepted and has no effect in gomq"
	case !isASCII(value):
		say.Level, say.Text = Warning, `is read as ISO-8859-1 as Java does, not as UTF-8; write other letters as \uXXXX`
	default:
		return nil
	}
	return []Problem{say}
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func (r *row) alias(name string) *Alias {
	for i := range r.Aliases {
		if r.Aliases[i].Name == name {
			return &r.Aliases[i]
		}
	}
	return nil
}

// Set stores one value given elsewhere than in a file, such as a flag, which
// from names.
func (t *Table) Set(from, key, value string) []Problem {
	return t.setLine(from, 0, key, value, false)
}

// Given reports whether a file or flag has set the key.
func (t *Table) Given(name string) bool {
	r := t.rows[name]
	return r != nil && r.set
}

// Key returns the row of a name or older spelling, or nil.
func (t *Table) Key(name string) *Key {
	if r := t.rows[name]; r != nil {
		return r.Key
	}
	return nil
}

// Names returns all names, without older spellings, in the table's order.
func (t *Table) Names() []string {
	names := make([]string, len(t.order))
	for i, r := range t.order {
		names[i] = r.Name
	}
	return names
}

// Value returns what is in effect for the key as a file would have it.
func (t *Table) Value(name string) string {
	r := t.rows[name]
	switch {
	case r == nil:
		return ""
	case r.Field != nil:
		return r.value()
	case r.set:
		return r.given
	case r.Auto != nil:
		return r.Auto()
	}
	return r.Default
}

// Print writes name=value lines of all keys, or of the important ones; secrets
// are hidden.
func (t *Table) Print(w io.Writer, importantOnly bool) error {
	for _, r := range t.order {
		if importantOnly && !r.Important {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s=%s\n", r.Name, Redact(r.Name, t.Value(r.Name))); err != nil {
			return err
		}
	}
	return nil
}

// Explain writes what there is to know of one key; false if there is none of
// that name (the nearest is then returned).
func (t *Table) Explain(w io.Writer, name string) (near string, ok bool) {
	r := t.rows[name]
	if r == nil {
		return nearest(name, t.Names()), false
	}
	fmt.Fprintf(w, "%s (%s)\n  %s\n", r.Name, r.typeName(), r.Doc)
	if r.Name != name {
		fmt.Fprintf(w, "  %s is another spelling of it, see below\n", name)
	}
	fmt.Fprintf(w, "  default   %s\n", r.defaultText())
	if r.Range != "" {
		fmt.Fprintf(w, "  range     %s\n", r.rangeText())
	} else if r.Unit != "" {
		fmt.Fprintf(w, "  unit      %s\n", unitName(r.Unit))
	}
	fmt.Fprintf(w, "  change    %s\n", r.changeText())
	if r.Effect != Works {
		fmt.Fprintf(w, "  effect    %s\n", r.effectText())
	}
	for _, a := range r.Aliases {
		fmt.Fprintf(w, "  also      %s\n", strings.TrimSpace(a.Name+"  "+a.Note))
	}
	return "", true
}

// Flag is a key set on the command line.
type Flag struct{ From, Key, Value string } // From: as the user knows it, for example -n

// Load fills the options of t: defaults, environment (getenv may be nil), file
// (empty: none), flags, later ones winning. Fatal problems are not an error
// here: a role first adds its own and then asks Refusal.
func Load(t *Table, file string, flags []Flag, getenv func(string) string) (*Source, []Problem, error) {
	if err := t.Defaults(getenv); err != nil {
		return nil, nil, err
	}
	var src *Source
	var problems []Problem
	if file != "" {
		var err error
		if src, err = ReadFile(file); err != nil {
			return nil, nil, err
		}
		problems = t.Load(src)
	}
	for _, f := range flags {
		problems = append(problems, t.Set(f.From, f.Key, f.Value)...)
	}
	return src, problems, nil
}
