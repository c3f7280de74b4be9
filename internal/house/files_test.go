package house_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// forbidden are texts that no file of the project may hold: places of one
// machine, hosts of package registries, unfinished business. The list is written
// in pieces so that it is not itself a finding.
var forbidden = []*regexp.Regexp{
	regexp.MustCompile(`/work` + `/(main|shared|\.)`),
	regexp.MustCompile(`/tmp/` + `brief`),
	regexp.MustCompile(`\.\./` + `shared`),
	regexp.MustCompile(`(?i)\b(proxy|sum)\.` + `golang\.org`),
	regexp.MustCompile(`(?i)\bregistry\.` + `(npmjs|npmmirror|yarnpkg)\.`),
	regexp.MustCompile(`(?i)\b(repo1?|central|repository)\.` + `(maven|sonatype)\.`),
	regexp.MustCompile(`(?i)\brepo\.` + `maven\.apache\.org`),
	regexp.MustCompile(`(?i)\bpypi\.` + `org`),
	regexp.MustCompile(`\bTO` + `DO\b`),
	regexp.MustCompile(`\bFIX` + `ME\b`),
	regexp.MustCompile(`\bX` + `XX\b`),
	regexp.MustCompile(`(?i)\bclau` + `de\b`),
	regexp.MustCompile(`(?i)\banthro` + `pic\b`),
	regexp.MustCompile(`(?i)\bchat` + `gpt\b`),
	regexp.MustCompile(`(?i)-----BEGIN [A-Z ]*PRIVATE` + ` KEY-----`),
}

// dash is for prose and comments; a sentence does without it.
const dash = "\u2014"

const (
	maxFile     = 1 << 20 // bytes of one file; golden data is smaller
	maxTestdata = 8 << 20 // bytes of all testdata
)

// faults returns what is wrong with the text of a file.
func faults(name string, text []byte) (found []string) {
	for i, line := range bytes.Split(text, []byte("\n")) {
		for _, re := range forbidden {
			if m := re.Find(line); m != nil {
				found = append(found, fmt.Sprintf("%s:%d: %q does not belong into the project", name, i+1, m))
			}
		}
		if (strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".md")) && bytes.Contains(line, []byte(dash)) {
			found = append(found, fmt.Sprintf("%s:%d: a long dash", name, i+1))
		}
	}
	return found
}

// No file holds what only one machine or one moment knows, and none is large.
func TestFiles(t *testing.T) {
	testdata := int64(0)
	for _, name := range tracked(t) {
		path := filepath.Join(root(t), name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since it was listed
		} else if err != nil {
			t.Fatal(err)
		}
		inTestdata := strings.Contains(name, "testdata/")
		if inTestdata {
			testdata += info.Size()
		}
		if info.Size() > maxFile {
			t.Errorf("%s has %d bytes; the limit is %d", name, info.Size(), maxFile)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			if !inTestdata {
				t.Errorf("%s is not text", name)
			}
			continue
		}
		for _, f := range faults(name, text) {
			t.Error(f)
		}
	}
	if testdata > maxTestdata {
		t.Errorf("testdata has %d bytes; the limit is %d", testdata, maxTestdata)
	}
}

func TestFilesFindsBreaks(t *testing.T) {
	for _, text := range []string{"see /work" + "/shared/spec", "// TO" + "DO: later", "a " + dash + " b", "https://proxy." + "golang.org", "-----BEGIN RSA PRIVATE" + " KEY-----"} {
		if len(faults("a.go", []byte(text))) == 0 {
			t.Errorf("%q was not found", text)
		}
	}
	if f := faults("a.go", []byte("// A plain - comment, in the work of others.\n")); len(f) != 0 {
		t.Errorf("found %q in plain text", f)
	}
}
