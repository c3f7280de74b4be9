//go:build interop || interop_all

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// mixedSets are the kinds of a master and its slave.
var mixedSets = []struct{ master, slave string }{
	{"4.9.7", "gomq"}, {"4.5.2", "gomq"}, {"gomq", "4.9.7"}, {"gomq", "4.5.2"},
}

// mixedSet is a master and its slave, one of them of Java.
type mixedSet struct {
	*testing.T
	master, slave *harness.Server
	conn          *raw.Conn // to the master
	name, topic   string
	bodies        []string // of what was acknowledged into the topic
}

const (
	mixedGroup, mixedPlace = "g-mixed", 17
	logFile                = 1 << 20
)

// TestMixedSets: a gomq slave of Java masters and Java slaves of a gomq master, all
// of them at a gomq nameserver and at one of 4.5.2. The master answers SEND_OK when
// the slave is there, the logs are equal byte for byte, the tables are the master's,
// and consumers go on at the slave when the master dies.
func TestMixedSets(t *testing.T) {
	needJava(t)
	t.Parallel()
	ns := harness.StartNamesrv(t, gomqServer(nil)).Addr()
	namesrv := ns + ";" + harness.StartNamesrv(t, javaServer(t, "4.5.2", nil)).Addr()
	d := startJava(t, "4.9.8", "JSON", ns)
	t.Run("Sets", func(t *testing.T) {
		for _, kinds := range mixedSets {
			t.Run(kinds.slave+"-of-"+kinds.master, func(t *testing.T) {
				t.Parallel()
				s := &mixedSet{T: t, name: "set-" + strings.ReplaceAll(kinds.slave+"-of-"+kinds.master, ".", "")}
				s.topic = "Mixed-" + s.name
				s.start(namesrv, kinds.master, kinds.slave)
				s.fill()
				s.equalLogs()
				s.equalTables()
				s.restarts()
				s.wiped()
				s.masterDies(d, ns)
			})
		}
	})
}

// start starts the master, which alone does not say SEND_OK, and then the slave.
func (s *mixedSet) start(namesrv, master, slave string) {
	props := func(role, id, flush string) map[string]string {
		return map[string]string{"brokerName": s.name, "brokerClusterName": "Mixed", "brokerRole": role, "brokerId": id, "flushDiskType": flush,
			"brokerFastFailureEnable": "false", "mappedFileSizeCommitLog": fmt.Sprint(logFile),
			// Waits are not under test; so that the machine may be slow. 4.5.2 waits
			// for a slave as long as for the disk.
			"slaveTimeout": "20000", "syncFlushTimeout": "20000",
			// What the originals do every 5 or 10 seconds.
			"haSendHeartbeatInterval": "1000", "flushConsumerOffsetInterval": "1000", "flushDelayOffsetInterval": "1000",
			// Nobody is asked about transactions: a question appends to the log.
			"transactionCheckInterval": "3600000"}
	}
	flush := "ASYNC_FLUSH"
	if master == "gomq" {
		flush = "SYNC_FLUSH"
	}
	s.master = harness.StartBroker(s, namesrv, serverOf(s, master, props("SYNC_MASTER", "0", flush)))
	s.conn = dial(s, s.master.Addr())
	s.conn.Limit = arrival
	if err := s.conn.NewTopic(s.topic, 2); err != nil {
		s.Fatal(err)
	}
	if code := s.send("alone"); code != raw.SlaveNotAvailable {
		s.Errorf("without a slave a send is answered with %d, want %d", code, raw.SlaveNotAvailable)
	}
	s.slave = harness.StartBroker(s, namesrv, serverOf(s, slave, props("SLAVE", "1", "ASYNC_FLUSH")))
	s.joined()
}

// joined sends until the slave counts.
func (s *mixedSet) joined() {
	s.Helper()
	harness.Eventually(s, arrival, "SEND_OK, because the slave is there", func() bool {
		return s.send(fmt.Sprint("joining-", len(s.bodies))) == raw.Success
	})
}

// send sends one message that waits for the slave and returns the answer's code.
func (s *mixedSet) send(what string) int {
	s.Helper()
	body := what + strings.Repeat(".", 8<<10)
	r, err := s.conn.Send("pg-mixed", s.topic, len(s.bodies)%2, raw.Props("KEYS", what, "TAGS", "T", "WAIT", "true"), []byte(body))
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	s.bodies = append(s.bodies, body)
	return r.Code
}

// fill sends enough to fill some log files, delayed messages and transactions, and
// has the group stand somewhere.
func (s *mixedSet) fill() {
	for i := range 300 {
		if code := s.send(fmt.Sprint("m", i)); code != raw.Success {
			s.Fatalf("message %d is answered with %d", i, code)
		}
	}
	_, err := s.conn.Do(raw.CreateGroup, nil, []byte(`{"groupName":"`+mixedGroup+`","consumeEnable":true,"consumeFromMinEnable":true,"consumeBroadcastEnable":false,"retryQueueNums":2,"retryMaxTimes":3,"brokerId":0,"whichBrokerWhenConsumeSlowly":1,"notifyConsumerIdsChangedEnable":true}`))
	s.ok("group", err)
	s.ok("place", s.conn.Commit(mixedGroup, s.topic, 1, mixedPlace))
	s.ok("producer", s.conn.Produce("mixed", "pg-mixed"))
	for i, outcome := range []int{raw.Commit, raw.Rollback, raw.Unknown} {
		what := fmt.Sprint("transaction-", i)
		h, err := s.conn.Begin("pg-mixed", s.topic, 0, fmt.Sprintf("%032X", i), what, []byte(what))
		s.ok("begin", err)
		if outcome != raw.Unknown {
			s.ok("end", s.conn.End(h, outcome))
		}
	}
	for i, level := range []string{"1", "1", "18"} {
		what := fmt.Sprint("delayed-", i)
		_, err := s.conn.Send("pg-mixed", s.topic, 0, raw.Props("KEYS", what, "DELAY", level), []byte(what))
		s.ok("delayed", err)
	}
	s.bodies = append(s.bodies, "transaction-0", "delayed-0", "delayed-1")
	harness.Eventually(s, arrival, "all is delivered that will be", func() bool { return s.high(s.conn, s.topic, 0)+s.high(s.conn, s.topic, 1) == int64(len(s.bodies)) })
}

func (s *mixedSet) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *mixedSet) high(c *raw.Conn, topic string, queue int) int64 {
	s.Helper()
	n, err := c.Offset(raw.MaxOffset, topic, queue)
	s.ok("the end of "+topic, err)
	return n
}

// equalLogs waits until the slave has everything and compares the files, over some
// ends of files at least.
func (s *mixedSet) equalLogs() {
	s.Helper()
	if size := harness.SameLog(s, arrival, s.master, s.slave); size < 2*logFile {
		s.Errorf("only %d bytes were compared, no end of a file among them", size)
	}
	y := dial(s, s.slave.Addr())
	defer y.Close()
	for q := range 2 {
		harness.Eventually(s, arrival, "the slave's queues", func() bool { return s.high(y, s.topic, q) == s.high(s.conn, s.topic, q) })
	}
}

// restarts stops and starts the slave and then the master; each time the slave goes
// on where it was.
func (s *mixedSet) restarts() {
	s.slave.Restart()
	s.joined()
	s.conn.Close()
	s.master.Restart()
	s.conn = dial(s, s.master.Addr())
	s.conn.Limit = arrival
	s.joined()
	s.equalLogs()
}

// wiped: a slave that has lost its store gets all of a gomq master's log. A Java
// master gives its last file only, and the gomq slave says what it lacks.
func (s *mixedSet) wiped() {
	aside := s.slave.Store() + ".aside"
	s.slave.Signal(syscall.SIGTERM)
	s.slave.Wait(time.Minute)
	s.ok("putting the store aside", os.Rename(s.slave.Store(), aside))
	s.slave.Start()
	if s.master.Kind == "gomq" {
		s.joined()
		s.equalLogs()
		return
	}
	s.slave.WaitLine("its master gives it a part of its own only", arrival)
	s.joined()
	s.slave.Stop()
	s.ok("removing the new store", os.RemoveAll(s.slave.Store()))
	s.ok("putting the store back", os.Rename(aside, s.slave.Store()))
	s.slave.Start()
	s.joined()
	s.equalLogs()
}

var bareKey = regexp.MustCompile(`([{,]\s*)(-?\d+)(\s*:)`)

// readTable is a file of a broker's config directory; Java writes numbers as keys
// without quotes. A file that is not there is empty.
func readTable(s *harness.Server, file, table string) map[string]any {
	b, err := os.ReadFile(filepath.Join(s.Store(), "config", file))
	if err != nil {
		return nil
	}
	var all map[string]any
	if json.Unmarshal(bareKey.ReplaceAll(b, []byte(`$1"$2"$3`)), &all) != nil {
		return nil // is just being written
	}
	m, _ := all[table].(map[string]any)
	return m
}

// equalTables waits until the slave's files say what the master's say.
func (s *mixedSet) equalTables() {
	for _, f := range []struct {
		file, table, key string
		is               any // nil: anything
	}{
		{"topics.json", "topicConfigTable", s.topic, nil}, {"subscriptionGroup.json", "subscriptionGroupTable", mixedGroup, nil},
		{"consumerOffset.json", "offsetTable", s.topic + "@" + mixedGroup, map[string]any{"1": float64(mixedPlace)}},
		{"delayOffset.json", "offsetTable", "1", float64(2)}, // two are delivered
	} {
		var want, got map[string]any
		defer func() {
			if s.Failed() {
				s.Logf("%s: the master's %v, the slave's %v", f.file, want, got)
			}
		}()
		harness.Eventually(s, arrival, f.file+" of the slave says what the master's says", func() bool {
			want, got = readTable(s.master, f.file, f.table), readTable(s.slave, f.file, f.table)
			if f.file == "delayOffset.json" { // 4.5.2 lists levels that are at their beginning
				maps.DeleteFunc(want, func(_ string, at any) bool { return at == float64(0) })
			}
			return want[f.key] != nil && (f.is == nil || reflect.DeepEqual(want[f.key], f.is)) && contains(got, want)
		})
	}
	y := dial(s, s.slave.Addr())
	defer y.Close()
	if at, err := y.Committed(mixedGroup, s.topic, 1); err != nil || at != mixedPlace {
		s.Errorf("the group stands at %d at the slave, want %d, %v", at, mixedPlace, err)
	}
}

// contains says whether every entry of want is in got. What brokers of different
// versions say of one thing is compared where both say it.
func contains(got, want map[string]any) bool {
	return !slices.ContainsFunc(slices.Collect(maps.Keys(want)), func(k string) bool {
		a, isMap := got[k].(map[string]any)
		b, _ := want[k].(map[string]any)
		if !isMap {
			return !reflect.DeepEqual(got[k], want[k])
		}
		same := 0
		for field := range b {
			if _, both := a[field]; both {
				if !reflect.DeepEqual(a[field], b[field]) {
					return true
				}
				same++
			}
		}
		return same == 0 && len(b) > 0
	})
}

// masterDies: a new group reads everything from the slave, which takes no messages.
func (s *mixedSet) masterDies(d *driver, namesrv string) {
	s.conn.Close()
	s.master.Kill()
	consumer := d.fresh("c")
	do[none](s, d, "push", "name", consumer, "namesrv", namesrv, "topic", s.topic, "group", d.fresh("g"))
	defer do[none](s, d, "stop", "name", consumer)
	got := bodies(d.await(s, len(s.bodies), arrival, consumer))
	slices.Sort(s.bodies)
	if !slices.Equal(got, s.bodies) {
		more, less := apart(got, s.bodies)
		s.Errorf("from the slave came %.200q and not %.200q", more, less)
	}
	y := dial(s, s.slave.Addr())
	defer y.Close()
	if _, err := y.Send("pg-mixed", s.topic, 0, "", []byte("x")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("code %d", raw.NotAvailable)) {
		s.Errorf("a send to the slave: %v, want code %d", err, raw.NotAvailable)
	}
	s.slave.Stop()
	if s.slave.Kind == "gomq" {
		verified(s, s.slave)
	}
}
