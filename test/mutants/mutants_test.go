//go:build mutants

// Package mutants checks the tests: it builds the product with one deliberate bug
// after the other and runs the tests that are there to find it. A bug that none of
// them finds is a hole in the programme. No bug is in the product's sources: each
// is a replacement of a few lines in a copy of one file, which the compiler is
// given in its place (go build -overlay).
package mutants

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gomq/test/harness"
)

// mutant is one deliberate bug.
type mutant struct {
	name string
	why  string // which promise it breaks
	file string
	old  string // comes once in the file
	new  string
	in   string   // the package of the tests
	by   []string // tests each of which must fail
}

var mutants = []mutant{
	{
		name: "AckBeforeFlush", why: "SEND_OK under SYNC_FLUSH means that the disk has it",
		file: "internal/store/append.go",
		old:  "\t\ts.Dispatched.When(s.tail.off, deadline, w)\n",
		new:  "\t\ts.Appended.When(s.tail.off, deadline, w)\n",
		in:   "./internal/store", by: []string{"TestSyncWaitersAreToldOnceDurable", "TestSimCrash"},
	},
	{
		name: "FlushErrorIgnored", why: "after an error of a sync nobody is told OK",
		file: "internal/store/flush.go",
		old:  "if err := s.syncLog(from, end); err != nil {",
		new:  "if err := s.syncLog(from, end); err != nil && end < 0 {",
		in:   "./internal/store", by: []string{"TestFailStop", "TestSimError"},
	},
	{
		name: "NoDirectorySync", why: "a file whose name a power cut takes away holds nothing",
		file: "internal/store/segment/list.go",
		old:  "\t\tif err == nil {\n\t\t\terr = fs.SyncDir(l.dir)\n\t\t}\n",
		new:  "",
		in:   "./internal/store", by: []string{"TestSimCrash"},
	},
	{
		name: "DispatchBeforeFlush", why: "what a consumer has seen does not vanish",
		file: "internal/store/append.go",
		old:  "\tif !s.o.SyncFlush {\n\t\tif err := s.publishNow(b); err != nil {",
		new:  "\tif true {\n\t\tif err := s.publishNow(b); err != nil {",
		in:   "./internal/store", by: []string{"TestSimCrash"},
	},
	{
		name: "NoChecksum", why: "a record that has changed on the disk is found",
		file: "internal/message/record.go",
		old:  "if checkCRC && ",
		new:  "if checkCRC && len(b) < 0 && ",
		in:   "./internal/store", by: []string{"TestSimCorrupt", "TestVerifyFindsEveryFlippedByte"},
	},
	{
		name: "AnyReplicaAckBelieved", why: "only a slave that has the log counts for SYNC_MASTER",
		file: "internal/ha/feed.go",
		old:  "offset > sent {",
		new:  "offset > sent && offset < 0 {",
		in:   "./internal/ha", by: []string{"TestSimHA", "TestMasterRefuses"},
	},
	{
		name: "FirstReportBelieved", why: "whoever was sent nothing acknowledges nothing",
		file: "internal/ha/feed.go",
		old:  "\t\thave = start\n",
		new:  "\t\thave = start\n\t\tf.proved.Store(have)\n",
		in:   "./internal/ha", by: []string{"TestSimHA", "TestMasterRefuses"},
	},
	{
		name: "LogsNotCompared", why: "a slave with other bytes at the same offsets does not follow",
		file: "internal/ha/greet.go",
		old:  "case p.Sum != mine:",
		new:  "case p.Sum != mine && p.From < 0:",
		in:   "./internal/ha", by: []string{"TestGreeting"},
	},
	{
		name: "SlaveReportsMemory", why: "a slave under SYNC_FLUSH acknowledges what is on its disk",
		file: "internal/ha/session.go",
		old:  "s.report(r.o.Confirm.Load())",
		new:  "s.report(r.o.Log.MaxOffset())",
		in:   "./internal/ha", by: []string{"TestReplicaReportsLate", "TestSimHA"},
	},
	{
		name: "NotZeroedBehindTheCut", why: "records that were cut off do not come back",
		file: "internal/store/recover.go",
		old:  "\treturn f.Zero(r.end, f.End())\n",
		new:  "\treturn nil\n",
		in:   "./internal/store", by: []string{"TestOldRecordsDoNotComeBack"},
	},
	{
		name: "TablesOfAnotherSet", why: "a slave on the wrong disk makes nobody skip messages",
		file: "internal/broker/sync.go",
		old:  "if err := f.related(); err != nil {",
		new:  "if err := f.related(); err != nil && ctx == nil {",
		in:   "./internal/broker", by: []string{"TestTakesNothingOfAnotherSet"},
	},
	{
		name: "OlderOffsetWins", why: "an offset that was committed does not go back",
		file: "internal/broker/meta/merge.go",
		old:  "stamp == mine && known && offset < own:",
		new:  "stamp == mine && known && offset > own:",
		in:   "./internal/broker/meta", by: []string{"TestResetOutranks"},
	},
	{
		name: "OverflowRewinds", why: "a pull behind the end is not sent back to the beginning",
		file: "internal/store/get.go",
		old:  "OffsetOverflowBadly, res.Max",
		new:  "OffsetOverflowBadly, res.Min",
		in:   "./internal/store", by: []string{"TestGetStatus"},
	},
	{
		name: "StopWithoutAnswers", why: "a request that arrives while the server stops is answered",
		file: "internal/remoting/conn.go",
		old:  "if c.unknown || c.refuseRest() {",
		new:  "if <-c.out.drained; true {",
		in:   "./internal/remoting", by: []string{"TestStopRefuses"},
	},
	{
		name: "PlainUnderEnforcing", why: "tls.server.mode=enforcing serves nobody without TLS",
		file: "internal/remoting/tls.go",
		old:  "case t != nil && t.o.Enforce:",
		new:  "case t != nil && t.o.Enforce && !hello && c.hub == nil:",
		in:   "./internal/remoting", by: []string{"TestTLSModes"},
	},
}

const soundLimit = 10 * time.Minute

// run runs a test of a package, with an overlay file if one is given.
func run(t *testing.T, overlay, pkg, test string, limit time.Duration) (out string, passed bool) {
	t.Helper()
	args := []string{"test", "-count=1", "-timeout", limit.String(), "-run", "^" + test + "$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, "-v", pkg)...)
	cmd.Dir = harness.Tree()
	b, err := cmd.CombinedOutput()
	return string(b), err == nil
}

// failed says whether the test ran and failed, or panicked, or did not end in many
// times the time that it needs without the bug.
func failed(out, test string) bool {
	return strings.Contains(out, "--- FAIL: "+test+" ") ||
		strings.Contains(out, "panic: ") && strings.Contains(out, "=== RUN   "+test+"\n") && !strings.Contains(out, "--- PASS: "+test+" ")
}

// soundRun is a test without a bug.
type soundRun struct {
	out  string // empty: it passed
	took time.Duration
}

var sound sync.Map // package and test -> func() soundRun

// TestMutants: the tests pass without the bug and fail with it.
func TestMutants(t *testing.T) {
	if n := flag.Lookup("test.parallel"); n != nil && os.Getenv("GOMAXPROCS") == "" {
		_ = flag.Set("test.parallel", "2")
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			overlay := m.overlay(t)
			for _, test := range m.by {
				check, _ := sound.LoadOrStore(m.in+" "+test, sync.OnceValue(func() soundRun {
					out, ok := run(t, "", m.in, test, soundLimit)
					_, took, passed := strings.Cut(out, "--- PASS: "+test+" (")
					if !ok || !passed {
						return soundRun{out: out}
					}
					took, _, _ = strings.Cut(took, ")")
					d, err := time.ParseDuration(took) // without the compiler's time
					return soundRun{took: d, out: map[bool]string{true: fmt.Sprint(err)}[err != nil]}
				}))
				without := check.(func() soundRun)()
				if without.out != "" {
					t.Fatalf("%s does not pass without the bug:\n%s", test, tail(without.out))
				}
				out, ok := run(t, overlay, m.in, test, max(20*time.Second, 10*without.took))
				switch {
				case strings.Contains(out, "[build failed]"):
					t.Fatalf("the bug does not compile:\n%s", tail(out))
				case ok || !failed(out, test):
					t.Errorf("%s does not find the bug (%s):\n%s", test, m.why, tail(out))
				default:
					t.Logf("%s finds it", test)
				}
			}
		})
	}
}

// overlay writes the changed copy and the file that tells the compiler of it.
func (m *mutant) overlay(t *testing.T) string {
	t.Helper()
	source := filepath.Join(harness.Tree(), m.file)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		t.Fatalf("%s has the text of this bug %d times, want once: the source has changed, and this list must follow\n%s", m.file, n, m.old)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if n := len(lines); n > 40 {
		lines = append([]string{fmt.Sprintf("(%d lines)", n)}, lines[n-40:]...)
	}
	return strings.Join(lines, "\n")
}
