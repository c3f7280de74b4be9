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
	"strings"
	"testing"

	"gomq/test/harness"
	"gomq/test/raw"
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

// TestFilterFile: a Java broker that takes over a store finds the SQL92
// subscriptions that gomq has kept, and gomq finds those of a Java broker.
func TestFilterFile(t *testing.T) {
	needJava(t)
	t.Parallel()
	dir := harness.Dir(t)
	ns := harness.StartNamesrv(t, gomqServer(nil))
	props := map[string]string{"enablePropertyFilter": "true"}
	run := func(c harness.Config, group string) string {
		t.Helper()
		c.Dir = dir
		b := harness.StartBroker(t, ns.Addr(), c)
		conn := dial(t, b.Addr())
		defer conn.Close()
		body := fmt.Sprintf(`{"clientID":"c","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":%q,"messageModel":"CLUSTERING",`+
			`"subscriptionDataSet":[{"classFilterMode":false,"codeSet":[],"expressionType":"SQL92","subString":"a > 5 AND b = 'ü'","subVersion":1700000000000,"tagsSet":[],"topic":"FilterTopic"}],"unitMode":false}],"producerDataSet":[]}`, group)
		if _, err := conn.Do(raw.HeartBeat, nil, []byte(body)); err != nil {
			t.Fatal(err)
		}
		b.Stop()
		text, err := os.ReadFile(filepath.Join(dir, "store", "config", "consumerFilter.json"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for i, c := range []harness.Config{gomqServer(props), javaServer(t, "4.9.7", props), gomqServer(props)} {
		text := run(c, fmt.Sprint("G", i))
		for k := range i + 1 {
			if !strings.Contains(text, fmt.Sprintf(`"consumerGroup":"G%d"`, k)) || !strings.Contains(text, "a > 5 AND b = 'ü'") {
				t.Errorf("broker %d does not keep G%d: %s", i, k, text)
			}
		}
		// The same bits, and nobody of the groups before lives.
		if n := strings.Count(text, `"bitNum":112`); n != i+1 || strings.Count(text, `"dead":true`) < i {
			t.Errorf("broker %d: %s", i, text)
		}
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
