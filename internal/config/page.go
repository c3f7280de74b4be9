package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// WriteDoc writes the reference of the role's keys as Markdown, the same bytes
// on every machine; docs/CONFIG.md is made of it.
func (t *Table) WriteDoc(w io.Writer) error {
	b := bufio.NewWriter(w)
	for i := range t.sections {
		s := &t.sections[i]
		fmt.Fprintf(b, "\n### %s\n\n", s.Title)
		if s.Doc != "" {
			fmt.Fprintf(b, "%s\n\n", s.Doc)
		}
		b.WriteString("| key | type | default | range | change | meaning |\n|---|---|---|---|---|---|\n")
		for j := range s.Keys {
			k := &s.Keys[j]
			fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", k.Name, k.typeText(), cell(k.defaultText()), cell(k.rangeText()), k.changeWord(), cell(k.docText()))
		}
	}
	return b.Flush()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func (k *Key) typeText() string {
	name := k.typeName()
	if k.Unit != "" && k.Unit != "entries" {
		name += " " + k.Unit
	}
	return name
}

func (k *Key) defaultText() string {
	switch {
	case k.Env != "" && k.Default == "":
		return "$" + k.Env
	case k.Default == "":
		return "(empty)"
	}
	return k.Default
}

func (k *Key) changeWord() string {
	return [...]string{Fixed: "file only", Restart: "restart", Hot: "at once"}[k.Change]
}

func (k *Key) changeText() string {
	return [...]string{
		Fixed:   "in the file only; refused over the network",
		Restart: "in the file or with updateBrokerConfig, in effect at the next start",
		Hot:     "at once, with updateBrokerConfig (updateNamesrvConfig) or in the file at the next start",
	}[k.Change]
}

func (k *Key) effectText() string {
	return [...]string{Works: "", NotYet: "gomq does not have this yet", NoEffect: "none: accepted so that existing files load"}[k.Effect]
}

func (k *Key) docText() string {
	text := k.Doc
	switch k.Effect {
	case NotYet:
		text += " **Not yet in gomq.**"
	case NoEffect:
		text += " *No effect in gomq.*"
	}
	for _, a := range k.Aliases {
		text += " Also `" + a.Name + "`"
		if a.Note != "" {
			text += ": " + a.Note
		}
		text += "."
	}
	return strings.TrimSpace(text)
}
