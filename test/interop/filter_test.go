//go:build interop || interop_all

package interop

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gomq/test/harness"
)

var update = flag.Bool("update", false, "write golden files from what the originals say")

// goldenSeed and goldenCount make internal/filter/testdata/sql92.golden.gz.
const (
	goldenSeed  = 1
	goldenCount = 3000
)

// TestFilterGolden: the golden file of the SQL92 filter is what rocketmq-filter
// says, and of expressions that nobody has seen before gomq says the same.
func TestFilterGolden(t *testing.T) {
	needJava(t)
	t.Parallel()
	room := filepath.Join(sourceDir(), "..", "..", "internal", "filter")
	file := filepath.Join(room, "testdata", "sql92.golden.gz")
	said := filterSays(t, goldenSeed)
	if *update {
		var b bytes.Buffer
		z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
		z.Write(said)
		z.Close()
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := io.ReadAll(z); err != nil || !bytes.Equal(kept, said) {
		t.Errorf("%s is not what the library says (%d bytes and %d, %v): run this test with -update", file, len(kept), len(said), err)
	}

	fresh := filepath.Join(harness.Dir(t), "fresh.golden")
	if err := os.WriteFile(fresh, filterSays(t, harness.Rand(t).Int64()), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-count=1", "-run", "^TestGolden$", ".")
	cmd.Dir, cmd.Env = room, append(os.Environ(), "GOMQ_FILTER_GOLDEN="+fresh)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("fresh expressions: %v\n%s", err, out)
	}
}

// filterSays is what the original's filter library makes of the expressions of a
// seed.
func filterSays(t *testing.T, seed int64) []byte {
	t.Helper()
	const version = "4.9.7"
	lib := jars(t, "server", version)
	dir := compiled(t, "java-golden-"+version, lib, []string{filepath.Join(sourceDir(), "java", "golden", "gomq", "interop", "FilterGolden.java")})
	file := filepath.Join(harness.Dir(t), "golden")
	args := append(append([]string{}, jvm...), "-cp", dir+string(filepath.ListSeparator)+lib+"/*", "gomq.interop.FilterGolden", fmt.Sprint(seed), fmt.Sprint(goldenCount), file)
	if out, err := exec.Command("java", args...).CombinedOutput(); err != nil {
		t.Fatalf("FilterGolden: %v\n%s", err, out)
	}
	said, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return said
}
