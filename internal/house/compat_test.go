package house_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gomq/internal/broker"
	"gomq/internal/namesrv"
	"gomq/internal/protocol"
)

// states are what docs/COMPAT.md says of a feature or a request.
const (
	same      = "same"
	different = "different"
	notYet    = "not yet"
	notThere  = "not there"
)

// maxCode is above every request code of any version.
const maxCode = 210_000

// codeRow is one request code as docs/COMPAT.md shows it.
type codeRow struct {
	code  int32
	role  string // the heading that it stands under
	state string
	how   string
}

const (
	atBroker  = "Broker"
	atNamesrv = "Nameserver"
	atClient  = "Sent to clients"
	nowhere   = "Not in 4.9's broker and nameserver, or without a sender"
)

// codeRows are all codes, each once.
func codeRows(t *testing.T) (rows []codeRow) {
	t.Helper()
	placed := map[int32]string{}
	add := func(r codeRow) {
		if first := placed[r.code]; first != "" {
			t.Errorf("%d %s stands under %s and under %s", r.code, protocol.RequestName(r.code), first, r.role)
		}
		placed[r.code] = r.role
		rows = append(rows, r)
	}
	served := func(role string, code int32, none, differs string) {
		switch {
		case none != "":
			add(codeRow{code, role, notYet, none})
		case differs != "":
			add(codeRow{code, role, different, differs})
		default:
			add(codeRow{code, role, same, ""})
		}
	}
	for _, r := range broker.Requests() {
		served(atBroker, r.Code, r.NotYet, r.Differs)
	}
	for _, r := range namesrv.Requests() {
		served(atNamesrv, r.Code, r.NotYet, r.Differs)
	}
	for code, none := range broker.Calls() {
		served(atClient, code, none, "")
	}
	for code := range int32(maxCode) {
		if protocol.RequestName(code) != "" && placed[code] == "" {
			add(codeRow{code, nowhere, notThere, broker.Absent(code)})
		}
	}
	slices.SortFunc(rows, func(a, b codeRow) int { return int(a.code - b.code) })
	return rows
}

// codeTables are the tables of docs/COMPAT.md.
func codeTables(t *testing.T) []byte {
	rows := codeRows(t)
	var b bytes.Buffer
	b.WriteString("\nWhat is not served is answered with code 3, REQUEST_CODE_NOT_SUPPORTED.\n")
	for _, role := range []string{atBroker, atNamesrv, atClient, nowhere} {
		fmt.Fprintf(&b, "\n### %s\n\n| code | request | gomq | how |\n|---|---|---|---|\n", role)
		for _, r := range rows {
			if r.role == role {
				fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", r.code, protocol.RequestName(r.code), r.state, r.how)
			}
		}
	}
	b.WriteString("\n")
	return b.Bytes()
}

var codesMark = regexp.MustCompile("(?s)(<!-- codes: [^\n]* -->\n)(.*?)(<!-- /codes -->)")

// compatPage is docs/COMPAT.md with its tables of codes made anew; all else in it
// is written by hand.
func compatPage(t *testing.T) []byte {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "COMPAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := codesMark.FindSubmatchIndex(page)
	if m == nil {
		t.Fatal("docs/COMPAT.md has lost the marks around its tables of codes")
	}
	return append(append(append([]byte{}, page[:m[4]]...), codeTables(t)...), page[m[5]:]...)
}

// Every code that any version knows has exactly one row, with a state and, where
// it is not the original's, the words for it.
func TestCompatHasEveryCode(t *testing.T) {
	rows := codeRows(t)
	seen := map[int32]bool{}
	for _, r := range rows {
		seen[r.code] = true
		if r.how == "" && r.state != same {
			t.Errorf("%d %s is %s, and nothing says how or why", r.code, protocol.RequestName(r.code), r.state)
		}
		if strings.ContainsAny(r.how, "|\n") {
			t.Errorf("%d: %q breaks the table", r.code, r.how)
		}
	}
	known := 0
	for code := range int32(maxCode) {
		if protocol.RequestName(code) == "" {
			continue
		}
		known++
		if !seen[code] {
			t.Errorf("%d %s has no row", code, protocol.RequestName(code))
		}
	}
	if known < 100 || len(rows) != known {
		t.Errorf("%d rows for %d codes", len(rows), known)
	}
}

// Every feature has a state, and what is not as in 4.9 says how.
func TestCompatFeatures(t *testing.T) {
	_, features, ok := strings.Cut(string(compatPage(t)), "| feature | gomq | how |\n|---|---|---|\n")
	if !ok {
		t.Fatal("docs/COMPAT.md has no table of features")
	}
	features, _, _ = strings.Cut(features, "\n\n")
	count := map[string]int{}
	for _, line := range strings.Split(features, "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 {
			t.Errorf("%q has %d cells, want 3", line, len(cells))
			continue
		}
		name, state, how := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		count[state]++
		switch state {
		case same:
		case different, notYet:
			if how == "" {
				t.Errorf("%s is %s, and nothing says how", name, state)
			}
		case "":
			if !strings.HasPrefix(name, "**") {
				t.Errorf("%s has no state", name)
			}
		default:
			t.Errorf("%s is %q; a feature is %s, %s or %s", name, state, same, different, notYet)
		}
	}
	if count[same] < 10 || count[different] < 3 {
		t.Errorf("the table was not read: %v", count)
	}
}
