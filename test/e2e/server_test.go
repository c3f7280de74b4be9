package e2e

import (
	"bufio"
	"debug/elf"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gomq/test/harness"
	"gomq/test/raw"
)

// TestStaticBinary: the binary asks for no interpreter and no shared library.
func TestStaticBinary(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	f, err := elf.Open(harness.Build(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary has a %v segment", p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("the binary needs %v", libs)
	}
}

// brokerMetrics are the names of RocketMQ 5 and of gomq that a master which
// has stored and delivered messages has to have; namesrvMetrics the same.
var (
	brokerMetrics = []string{
		"rocketmq_broker_permission", "rocketmq_topic_number", "rocketmq_consumer_group_number",
		"rocketmq_messages_in_total", "rocketmq_throughput_in_total", "rocketmq_message_size",
		"rocketmq_messages_out_total", "rocketmq_throughput_out_total",
		"rocketmq_producer_connections", "rocketmq_consumer_connections",
		"rocketmq_storage_size", "rocketmq_storage_flush_behind_bytes", "rocketmq_storage_dispatch_behind_bytes", "rocketmq_storage_message_reserve_time",
		"rocketmq_rpc_latency", "rocketmq_processor_watermark", "rocketmq_topic_create_execution_time",
		"rocketmq_consumer_lag_messages", "rocketmq_consumer_lag_latency", "rocketmq_consumer_inflight_messages", "rocketmq_consumer_ready_messages", "rocketmq_consumer_queueing_latency",
		"gomq_build_info", "gomq_start_time_seconds", "go_goroutines", "go_memstats_mallocs_total", "process_resident_memory_bytes", "process_open_fds",
		"gomq_store_log_min_offset_bytes", "gomq_store_log_appended_offset_bytes", "gomq_store_log_durable_offset_bytes", "gomq_store_log_dispatched_offset_bytes",
		"gomq_store_sync_seconds", "gomq_store_append_seconds", "gomq_store_recovery_seconds",
		"gomq_store_disk_used_ratio", "gomq_store_disk_limit_ratio", "gomq_store_failed",
		"gomq_connections", "gomq_requests_total", "gomq_request_seconds", "gomq_refusals_total", "gomq_parked_pulls",
		"gomq_delay_waiting_messages", "gomq_delay_overdue_seconds", "gomq_transactions_open", "gomq_ha_role", "gomq_ha_in_sync_replicas",
	}
	namesrvMetrics = []string{
		"gomq_namesrv_brokers", "gomq_namesrv_topics", "gomq_namesrv_registrations_total", "gomq_namesrv_expired_total",
		"gomq_connections", "gomq_requests_total", "gomq_request_seconds",
		"gomq_build_info", "gomq_start_time_seconds", "go_goroutines", "process_resident_memory_bytes",
	}
)

func TestMetricsAndHealth(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns, broker := harness.StartPair(t, harness.Config{})
	w := &world{ns, broker}
	topic := w.topic(t, "Metrics")
	c := w.dial(t)
	// The heartbeat of a producer and a consumer, as a Java client sends it.
	beat := `{"clientID":"127.0.0.1@m","producerDataSet":[{"groupName":"pg-metrics"}],"consumerDataSet":[{"groupName":"g-metrics","consumeType":"CONSUME_PASSIVELY",` +
		`"messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","unitMode":false,"subscriptionDataSet":[{"topic":"Metrics","subString":"*","subVersion":1,"expressionType":"TAG"}]}]}`
	if _, err := c.Do(raw.HeartBeat, nil, []byte(beat)); err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		if _, err := c.Send("pg-metrics", topic, 0, "", content(i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := c.Pull("g-metrics", topic, 0, 0, 32, 0); err != nil || len(p.Records) != 25 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := c.Commit("g-metrics", topic, 0, 20); err != nil {
		t.Fatal(err)
	}
	// A refusal, so that its cause is counted.
	if _, err := c.Send("pg-metrics", topic, 0, "", content(1, 5<<20)); err == nil {
		t.Fatal("a message of 5 MiB was accepted")
	}

	m := harness.ReadMetrics(t, broker.HTTP())
	for _, name := range brokerMetrics {
		if m[name] == nil {
			t.Errorf("the broker's /metrics has no %s", name)
		}
	}
	for _, want := range []struct {
		name   string
		labels []string
		value  float64
	}{
		{"rocketmq_messages_in_total", []string{"topic=Metrics"}, 25},
		{"rocketmq_messages_out_total", []string{"topic=Metrics", "consumer_group=g-metrics"}, 25},
		{"rocketmq_consumer_lag_messages", []string{"topic=Metrics", "consumer_group=g-metrics"}, 5},
		{"rocketmq_consumer_inflight_messages", []string{"topic=Metrics", "consumer_group=g-metrics"}, 5},
		{"rocketmq_consumer_ready_messages", []string{"topic=Metrics", "consumer_group=g-metrics"}, 0},
		{"gomq_store_failed", nil, 0},
		{"rocketmq_broker_permission", nil, 6},
	} {
		if got, ok := m.Sum(want.name, want.labels...); !ok || got != want.value {
			t.Errorf("%s%v is %v (there: %v), should be %v", want.name, want.labels, got, ok, want.value)
		}
	}
	appended, _ := m.Sum("gomq_store_log_appended_offset_bytes")
	if dispatched, _ := m.Sum("gomq_store_log_dispatched_offset_bytes"); appended < 25000 || dispatched != appended {
		t.Errorf("appended %v, dispatched %v", appended, dispatched)
	}
	m = harness.ReadMetrics(t, ns.HTTP())
	for _, name := range namesrvMetrics {
		if m[name] == nil {
			t.Errorf("the nameserver's /metrics has no %s", name)
		}
	}
	if n, _ := m.Sum("gomq_namesrv_brokers"); n != 1 {
		t.Errorf("the nameserver counts %v brokers", n)
	}
	for _, s := range []*harness.Server{ns, broker} {
		for _, path := range []string{"/healthz", "/readyz"} {
			if code, text, err := harness.Get(s.HTTP() + path); err != nil || code != 200 {
				t.Errorf("%s %s: %d %q %v", s.Role, path, code, text, err)
			}
		}
		if code, text, err := harness.Get(s.HTTP() + "/debug/pprof/goroutine?debug=1"); err != nil || code != 200 || !strings.Contains(text, "goroutine profile") {
			t.Errorf("%s pprof: %d %v", s.Role, code, err)
		}
	}
}

// TestBootAndStop: the lines that scripts grep, where logs go, and the exit.
func TestBootAndStop(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ns := harness.StartNamesrv(t, harness.Config{})
	broker := harness.StartBroker(t, ns.Addr(), harness.Config{Props: map[string]string{"brokerName": "broker-boot"}})
	waitOut := func(s *harness.Server, want string) {
		t.Helper()
		if !slices.Contains(strings.Split(strings.TrimSpace(s.Stdout()), "\n"), want) {
			t.Errorf("stdout of the %s has no line %q:\n%s", s.Role, want, s.Stdout())
		}
		for line := range strings.Lines(s.Stdout()) {
			if strings.HasPrefix(line, "{") {
				t.Errorf("a log line on stdout: %s", line)
			}
		}
		for line := range strings.Lines(s.Stderr()) {
			if !strings.HasPrefix(line, "{") {
				t.Errorf("a line on stderr that is not JSON, though no terminal: %s", line)
			}
		}
	}
	waitOut(ns, "The Name Server boot success. serializeType=JSON")
	waitOut(broker, fmt.Sprintf("The broker[broker-boot, %s] boot success. serializeType=JSON and name server is %s", broker.Addr(), ns.Addr()))
	for _, s := range []*harness.Server{broker, ns} {
		start := time.Now()
		if code := s.Stop(); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM\n%s", s.Role, code, s.Log())
		}
		t.Logf("%s stopped within %v", s.Role, time.Since(start).Round(time.Millisecond))
		if strings.Contains(s.Log(), "panic") {
			t.Errorf("%s panicked:\n%s", s.Role, s.Log())
		}
	}
	if _, err := os.Stat(filepath.Join(broker.Store(), "abort")); !os.IsNotExist(err) {
		t.Errorf("the abort file after a clean stop: %v", err)
	}
}

// TestStopAnswersWhatIsInFlight: SIGTERM while pulls wait and sends are under
// way; what was acknowledged is there after the next start.
func TestStopAnswersWhatIsInFlight(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{"flushDiskType": "SYNC_FLUSH"}})
	c := dial(t, broker.Addr())
	if err := c.NewTopic("InFlight", 2); err != nil {
		t.Fatal(err)
	}
	parked := dial(t, broker.Addr())
	parked.Limit = 40 * time.Second
	poll, err := parked.Go(raw.PullMessage, map[string]string{"consumerGroup": "g", "topic": "InFlight", "queueId": "1", "queueOffset": "0", "maxMsgNums": "1",
		"sysFlag": "6", "commitOffset": "0", "suspendTimeoutMillis": "30000", "subscription": "*", "subVersion": "0", "expressionType": "TAG"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var waits []func() (*raw.Command, error)
	for i := range 200 {
		wait, err := c.Go(raw.SendMessage, raw.SendExt("pg", "InFlight", 0, ""), content(i, 1000))
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, wait)
	}
	// The first answer shows that the broker works on them.
	if cmd, err := waits[0](); err != nil || cmd.Code != raw.Success {
		t.Fatalf("%+v, %v", cmd, err)
	}
	start := time.Now()
	if code := broker.Stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, broker.Log())
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("stopping took %v", d)
	}
	acked := int64(1)
	for _, wait := range waits[1:] {
		if cmd, err := wait(); err == nil && cmd.Code == raw.Success {
			acked++
		}
	}
	if cmd, err := poll(); err == nil && cmd.Code == raw.Success {
		t.Errorf("the waiting pull found something: %+v", cmd)
	}
	broker.Start()
	n, err := dial(t, broker.Addr()).Offset(raw.MaxOffset, "InFlight", 0)
	if err != nil || n < acked {
		t.Fatalf("%d acknowledged, %d there, %v", acked, n, err)
	}
}

// TestLogReaderGone: a role outlives whoever reads its log.
func TestLogReaderGone(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ports, dir := harness.NewPorts(t), harness.Dir(t)
	file := filepath.Join(dir, "broker.properties")
	text := fmt.Sprintf("listenPort=%d\nlistenHost=127.0.0.1\nbrokerIP1=127.0.0.1\nhttpPort=0\nlogLevel=debug\nstorePathRootDir=%s\nmappedFileSizeCommitLog=1048576\n", ports.Listen, filepath.Join(dir, "store"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(harness.Build(t), "broker", "-c", file)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	w.Close()
	for lines := bufio.NewScanner(r); !strings.Contains(lines.Text(), "boot success"); {
		if !lines.Scan() {
			t.Fatal("no boot success: ", lines.Err())
		}
	}
	r.Close()
	c := dial(t, fmt.Sprintf("127.0.0.1:%d", ports.Listen))
	for i := range 3 { // each is a line of the log
		if err := c.NewTopic(fmt.Sprint("Unread", i), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the broker ended with %v", err)
	}
}

// startFails starts a role that cannot start and looks at what it says: one line, no
// stack.
func startFails(t *testing.T, code int, says string, args ...string) {
	t.Helper()
	p := harness.Start(t, harness.Spec{Name: "fails", Path: harness.Build(t), Args: args})
	if got := p.Wait(30 * time.Second); got != code {
		t.Errorf("gomq %v: exit code %d instead of %d\n%s", args, got, code, p.Log())
	}
	if !regexp.MustCompile(says).MatchString(p.Stderr()) {
		t.Errorf("gomq %v does not say %q:\n%s", args, says, p.Log())
	}
	if strings.Contains(p.Stderr(), "goroutine ") || strings.Contains(p.Stderr(), "stacktrace") {
		t.Errorf("gomq %v shows a stack:\n%s", args, p.Log())
	}
	if strings.Contains(p.Stdout(), "boot success") {
		t.Errorf("gomq %v says that it has booted:\n%s", args, p.Stdout())
	}
}

func TestStartErrors(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	dir := harness.Dir(t)
	props := func(pairs ...string) string {
		f, err := os.CreateTemp(dir, "*.properties")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		ports := harness.NewPorts(t)
		fmt.Fprintf(f, "listenPort=%d\nhttpPort=%d\nbrokerIP1=127.0.0.1\nstorePathRootDir=%s.store\nmappedFileSizeCommitLog=1048576\n", ports.Listen, ports.HTTP, f.Name())
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(f, "%s=%s\n", pairs[i], pairs[i+1])
		}
		return f.Name()
	}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)

	for name, c := range map[string]struct {
		code int
		says string
		args []string
	}{
		"port in use":        {255, `(?i)in use`, []string{"broker", "-c", props("listenPort", taken)}},
		"namesrv port":       {255, `(?i)in use`, []string{"namesrv", "-c", props("listenPort", taken, "kvConfigPath", filepath.Join(dir, "kv.json"))}},
		"http port":          {255, `(?i)httpPort.*in use|in use.*httpPort`, []string{"broker", "-c", props("httpPort", taken)}},
		"no such file":       {255, `no such file|does not exist`, []string{"broker", "-c", filepath.Join(dir, "missing.properties")}},
		"bad value":          {255, `flushDiskType`, []string{"broker", "-c", props("flushDiskType", "sync_flush")}},
		"bad number":         {255, `maxMessageSize`, []string{"broker", "-c", props("maxMessageSize", "4M")}},
		"trailing blank":     {255, `brokerRole`, []string{"broker", "-c", props("brokerRole", "SYNC_MASTER ")}},
		"bad nameserver":     {253, `(?i)name ?server`, []string{"broker", "-c", props("namesrvAddr", "nowhere")}},
		"bad nameserver -n":  {253, `(?i)name ?server`, []string{"broker", "-n", "nowhere", "-c", props()}},
		"slave with id 0":    {253, `(?i)brokerId`, []string{"broker", "-c", props("brokerRole", "SLAVE", "brokerId", "0")}},
		"acl":                {255, `aclEnable`, []string{"broker", "-c", props("aclEnable", "true")}},
		"dledger":            {255, `enableDLegerCommitLog`, []string{"broker", "-c", props("enableDLegerCommitLog", "true")}},
		"unknown option":     {1, `(?i)unknown`, []string{"broker", "--no-such-option"}},
		"unknown subcommand": {1, `(?i)unknown`, []string{"brocker"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { startFails(t, c.code, c.says, c.args...) })
	}
}

// TestStoreLocked: a second broker on the same store says whose it is.
func TestStoreLocked(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{})
	ports := harness.NewPorts(t)
	conf := filepath.Join(broker.Dir, "second.properties")
	text := fmt.Sprintf("listenPort=%d\nhttpPort=%d\nbrokerIP1=127.0.0.1\nstorePathRootDir=%s\n", ports.Listen, ports.HTTP, broker.Store())
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	startFails(t, 253, fmt.Sprintf(`lock.*\b%d\b|\b%d\b.*lock`, broker.PID(), broker.PID()), "broker", "-c", conf)
	if _, err := dial(t, broker.Addr()).Call(raw.TopicList, nil, nil); err != nil {
		t.Fatalf("the first broker suffered: %v", err)
	}
}

// TestMisspeltKey: a key that does not exist warns with the nearest one and
// starts; `config check` fails on it.
func TestMisspeltKey(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	broker := harness.StartBroker(t, "", harness.Config{Props: map[string]string{"flushDiskTyp": "SYNC_FLUSH"}})
	broker.WaitLine(`flushDiskTyp\b.*flushDiskType`, 20*time.Second)
	p := harness.Start(t, harness.Spec{Name: "check", Path: harness.Build(t), Args: []string{"config", "check", broker.Conf}})
	if code := p.Wait(30 * time.Second); code == 0 || !strings.Contains(p.Stdout()+p.Stderr(), "flushDiskType") {
		t.Errorf("config check: exit code %d\n%s", code, p.Log())
	}
}

// TestPrintOptions: -p, -m and -h print and exit.
func TestPrintOptions(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	for args, want := range map[string][]string{
		"broker -p":  {"brokerName=", "flushDiskType=ASYNC_FLUSH", "fileReservedTime=72", "listenPort=10911"},
		"broker -m":  {"brokerRole=ASYNC_MASTER", "namesrvAddr="},
		"broker -h":  {"-c", "-n"},
		"namesrv -p": {"listenPort=9876", "kvConfigPath="},
		"namesrv -h": {"-c"},
		"version":    {"4.9.8"},
	} {
		p := harness.Start(t, harness.Spec{Name: "print", Path: harness.Build(t), Args: strings.Fields(args)})
		if code := p.Wait(30 * time.Second); code != 0 {
			t.Errorf("gomq %s: exit code %d\n%s", args, code, p.Log())
		}
		for _, w := range want {
			if !strings.Contains(p.Stdout(), w) {
				t.Errorf("gomq %s does not print %q:\n%s", args, w, p.Log())
			}
		}
	}
}

// TestStandalone: both roles in one process without configuration, and the
// default HTTP port.
func TestStandalone(t *testing.T) {
	harness.OnlyGomq(t)
	t.Parallel()
	ports, ns := harness.PortsWithDefaultHTTP(t), harness.NewPorts(t)
	dir := harness.Dir(t)
	args := []string{"standalone", "--data", filepath.Join(dir, "data"), "--port", fmt.Sprint(ports.Listen), "--namesrv-port", fmt.Sprint(ns.Listen)}
	p := harness.Start(t, harness.Spec{Name: "standalone", Path: harness.Build(t), Args: args, Dir: dir})
	p.WaitLine(`^The Name Server boot success\.`, time.Minute)
	p.WaitLine(`^The broker\[.*\] boot success\.`, time.Minute)
	p.WaitLine(regexp.QuoteMeta(filepath.Join(dir, "data")), time.Minute)
	nsAddr := fmt.Sprintf("127.0.0.1:%d", ns.Listen)
	waitRoute(t, nsAddr, "TBW102")
	c := dial(t, fmt.Sprintf("127.0.0.1:%d", ports.Listen))
	if s, err := c.Send("pg", "FromNothing", 0, "", []byte("x")); err != nil || s.Offset != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	waitRoute(t, nsAddr, "FromNothing")
	harness.ReadMetrics(t, fmt.Sprintf("http://127.0.0.1:%d", ports.HTTP))
	// Only loopback.
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			for _, port := range []int{ports.Listen, ports.VIP, ns.Listen, ports.HTTP} {
				if harness.Reachable(fmt.Sprintf("%s:%d", ip.IP, port)) {
					t.Errorf("standalone listens on %s:%d", ip.IP, port)
				}
			}
		}
	}
	if code := p.Stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, p.Log())
	}
}
