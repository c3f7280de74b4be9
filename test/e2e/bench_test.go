package e2e

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"gomq/test/harness"
)

// TestBenchCommand: the generator measures what it did, in JSON and as a table,
// and says why it could not.
func TestBenchCommand(t *testing.T) {
	t.Parallel()
	_, broker := harness.StartPair(t, harness.Config{Kind: "gomq", Props: map[string]string{"enablePropertyFilter": "true"}})
	run := func(args ...string) (string, error) {
		out, err := exec.Command(harness.Build(t), append([]string{"bench"}, args...)...).CombinedOutput()
		return string(out), err
	}
	for _, verb := range [][]string{
		{"send", "--conns", "2", "--depth", "4"},
		{"send", "--conns", "1", "--depth", "8", "--each", "--binary"},
		{"send", "--rate", "200"},
		{"pull", "--depth", "2"},
		{"pull", "--depth", "2", "--sql", "TAGS = 'none'"},
		{"e2e", "--rate", "100"},
	} {
		args := append(verb, "-a", broker.Addr(), "--warm", "100ms", "--time", "500ms", "--pid", strconv.Itoa(broker.PID()), "-o", "json")
		out, err := run(args...)
		if err != nil {
			t.Fatalf("bench %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		var r struct {
			Messages, Refused int64
			Seconds           float64
			P50us, P99us      float64
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Messages == 0 || r.Refused != 0 || r.Seconds < 0.5 || r.P50us <= 0 || r.P99us < r.P50us {
			t.Errorf("bench %s: %v %s", strings.Join(verb, " "), err, out)
		}
	}
	if out, err := run("send", "-a", broker.Addr(), "--warm", "10ms", "--time", "50ms"); err != nil || !strings.Contains(out, "msg/s") {
		t.Errorf("a table: %v\n%s", err, out)
	}
	if out, err := run("pull", "-a", broker.Addr(), "-t", "Nothing"); err == nil || !strings.Contains(out, "hold no messages") {
		t.Errorf("a pull of nothing: %v\n%s", err, out)
	}
	for _, codec := range []string{"--binary=false", "--binary"} {
		if out, err := run("send", "-a", broker.Addr(), "-t", "SCHEDULE_TOPIC_XXXX", codec); err == nil || !strings.Contains(out, "the broker answered code 16 NO_PERMISSION Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden.") {
			t.Errorf("a refusal: %v\n%s", err, out)
		}
	}
	if out, err := run("send", "-a", "127.0.0.1:1"); err == nil || !strings.Contains(out, "connecting to the broker") {
		t.Errorf("no broker: %v\n%s", err, out)
	}
}
