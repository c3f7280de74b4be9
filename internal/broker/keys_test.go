package broker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gomq/internal/config"
)

// lines gives problems as they are said, without the file's name.
func lines(problems []config.Problem, level config.Level) []string {
	var out []string
	for _, p := range problems {
		if p.Level == level {
			out = append(out, fmt.Sprintf("%d %s", p.Line, p.Key))
		}
	}
	return out
}

// The users' own file loads as it is, says what it has to say about the older
// spellings, and has the effect that its writer expected.
func TestSeedMaster(t *testing.T) {
	o, problems, err := LoadOptions(filepath.Join("testdata", "broker-a.properties"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(problems, config.Warning); len(got) != 0 {
		t.Errorf("warnings %q, want none", got)
	}
	if got, want := lines(problems, config.Note), []string{"22 mapedFileSizeCommitLog", "24 mapedFileSizeConsumeQueue"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	table := Keys(&o)
	for key, want := range map[string]string{
		"brokerClusterName": "rocketmq-cluster", "brokerName": "broker-a", "brokerId": "0",
		"namesrvAddr":           "rocketmq-nameserver1:9876;rocketmq-nameserver2:9876",
		"defaultTopicQueueNums": "4", "autoCreateTopicEnable": "true", "autoCreateSubscriptionGroup": "true",
		"listenPort": "10911", "haListenPort": "10912", "httpPort": "30911",
		"deleteWhen": "04", "fileReservedTime": "120", "diskMaxUsedSpaceRatio": "88",
		"mappedFileSizeCommitLog": "1073741824", "mappedFileSizeConsumeQueue": "6000000",
		"storePathRootDir": "/rocketmq/store", "storePathCommitLog": "/rocketmq/store/commitlog",
		"storePathConsumeQueue": "/rocketmq/store/consumequeue", "storePathIndex": "/rocketmq/store/index",
		"storeCheckpoint": "/rocketmq/store/checkpoint", "abortFile": "/rocketmq/store/abort",
		"maxMessageSize": "65536", "brokerRole": "SYNC_MASTER", "flushDiskType": "SYNC_FLUSH",
	} {
		if got := table.Value(key); got != want {
			t.Errorf("%s=%s, want %s", key, got, want)
		}
	}
	if o.FastListenPort != 10909 || o.HTTPPortConfigured || o.FileReservedTime != 120*time.Hour {
		t.Errorf("fast port %d, HTTP port configured %v, reserved %s", o.FastListenPort, o.HTTPPortConfigured, o.FileReservedTime)
	}
}

// The users' slave loads as it is.
func TestSeedSlave(t *testing.T) {
	o, problems, err := LoadOptions(filepath.Join("testdata", "broker-b-s.properties"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := lines(problems, config.Warning); len(got) != 0 {
		t.Errorf("warnings %q, want none", got)
	}
	if o.BrokerRole != Slave || o.BrokerID != 1 || o.ListenPort != 11011 || o.HAListenPort != 11012 || o.FastListenPort != 11009 ||
		o.FlushDiskType != AsyncFlush || o.StorePathRootDir != "/rocketmq/store-slave" {
		t.Errorf("effective values %+v", o)
	}
}

func load(t *testing.T, text string) (Options, []config.Problem, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "broker.properties")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadOptions(file, nil, nil)
}

// What would break a promise refuses to start, each with its own reason.
func TestRefused(t *testing.T) {
	for line, want := range map[string]string{
		"aclEnable=true":                                "access control",
		"enableDLegerCommitLog=true":                    "DLedger",
		"brokerRole=SLAVE\nbrokerId=0":                  "Slave's brokerId must be > 0",
		"tls.server.mode=on":                            "must be one of",
		"tls.server.need.client.auth=always":            "must be one of",
		"tls.config.file=/nowhere/tls.properties":       "no such file",
		"storeType=defaultRocksDB":                      "RocksDB",
		"enableControllerMode=true":                     "second master",
		"minInSyncReplicas=2":                           "copies",
		"storePathCommitLog=/a,/b":                      "several paths",
		"readOnlyCommitLogStorePaths=/a":                "further commit log paths",
		"deleteWhen=04 ":                                "ends with a blank",
		"deleteWhen=4h":                                 "hours of the day",
		"brokerName=broker-a ":                          "ends with a blank",
		"brokerRole=sync_master":                        "must be one of",
		"flushDiskType=SYNC":                            "must be one of",
		"sendMessageThreadPoolNums=1024*1024":           "whole number",
		"fileReservedTime=48h":                          "hours",
		"namesrvAddr=host":                              "The Name Server Address[host] illegal, please set it as follows, \"127.0.0.1:9876;192.168.0.1:9876\"",
		"namesrvAddr=host:9876 ":                        "ends with a blank",
		"longPollingEnable=yes":                         "neither true nor false",
		"listenPort=99999":                              "outside",
		"listenPort=10911\nhttpPort=10912":              "is needed for listenPort",
		"mapedFileSizeConsumeQueue=lots":                "number of entries",
		"messageDelayLevel=1s 5x":                       "must be delays",
		"haPeers=nobody":                                "addresses or networks",
		"brokerIP1=10.0.0.1:10911":                      "without a port",
		"rocketmq.broker.diskSpaceWarningLevelRatio=90": "ratio",
	} {
		_, _, err := load(t, line+"\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", line, err, want)
		}
	}
}

// What is not there yet and breaks no promise is a warning; what has no effect
// is a note, or a warning where somebody counts on one; a misspelling names the nearest key.
func TestWarned(t *testing.T) {
	_, problems, err := load(t, "disableConsumeIfConsumerReadSlowly=true\nwarmMapedFileEnable=true\nflushDiskTyp=ASYNC_FLUSH\nclientWorkerThreads=4\ndiskMaxUsedSpaceRatio=99\ncheckTransactionMessageEnable=false\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := lines(problems, config.Warning), []string{"1 disableConsumeIfConsumerReadSlowly", "3 flushDiskTyp", "5 diskMaxUsedSpaceRatio", "6 checkTransactionMessageEnable"}; !slices.Equal(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	if got, want := lines(problems, config.Note), []string{"2 warmMapedFileEnable"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	for _, p := range problems {
		if p.Key == "flushDiskTyp" && (!p.Unknown || p.Near != "flushDiskType") {
			t.Errorf("%+v, want an unknown key near flushDiskType", p)
		}
	}
}

func TestOlderSpellings(t *testing.T) {
	o, problems, err := load(t, "mapedFileSizeConsumeQueue=50000\nmapedFileSizeCommitLog=1048576\nmappedFileSizeCommitLog=2097152\n"+
		"haMaxGapNotInSync=1\nmetricsPromExporterPort=5557\nmetricsPromExporterHost=0.0.0.0\nrocketmq.broker.diskSpaceCleanForciblyRatio=0.8\n")
	if err != nil {
		t.Fatal(err, problems)
	}
	if o.MappedFileSizeConsumeQueue != 1_000_000 || o.MappedFileSizeCommitLog != 2<<20 || o.HASlaveFallbehindMax != 1 ||
		o.HTTPPort != 5557 || !o.HTTPPortConfigured || o.HTTPHost != "0.0.0.0" || o.DiskSpaceCleanForciblyRatio != 80 {
		t.Errorf("options %+v", o)
	}
}

// Every default passes its own range and check, and every value that is printed
// can be read back to the same options.
func TestDefaultsRoundTrip(t *testing.T) {
	o := DefaultOptions()
	var text bytes.Buffer
	if err := Keys(&o).Print(&text, false); err != nil {
		t.Fatal(err)
	}
	again, problems, err := load(t, text.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Level == config.Warning && p.Key != "brokerId" {
			t.Errorf("a default is warned of: %s", p)
		}
	}
	var text2 bytes.Buffer
	if err := Keys(&again).Print(&text2, false); err != nil {
		t.Fatal(err)
	}
	if text.String() != text2.String() {
		t.Errorf("printed values do not load as themselves:\n%s\n%s", text.String(), text2.String())
	}
}

// Names, places, addresses, security and sizes of files are never set over the
// network; what config.md marks L is set at once, what it marks B at the next
// start.
func TestUpdateMarks(t *testing.T) {
	var o Options
	table := Keys(&o)
	want := map[config.Change]string{
		config.Fixed: "brokerName brokerClusterName brokerId brokerIP1 brokerIP2 brokerRole flushDiskType listenPort haListenPort listenHost httpPort httpHost " +
			"storePathRootDir storePathCommitLog storePathConsumeQueue storePathIndex storeCheckpoint abortFile mappedFileSizeCommitLog mappedFileSizeConsumeQueue " +
			"rocketmqHome filterServerNums configBlackList aclEnable tls.server.mode useTLS haPeers duplicationEnable readOnlyCommitLogStorePaths",
		config.Hot: "brokerPermission autoCreateTopicEnable autoCreateSubscriptionGroup deleteWhen fileReservedTime diskMaxUsedSpaceRatio " +
			"longPollingEnable waitTimeMillsInSendQueue regionId traceOn maxTransferCountOnMessageInMemory rejectTransactionMessage",
		config.Restart: "namesrvAddr defaultTopicQueueNums flushConsumerOffsetInterval registerNameServerPeriod messageDelayLevel cleanResourceInterval sendThreadPoolQueueCapacity",
	}
	for change, names := range want {
		for _, name := range strings.Fields(names) {
			if k := table.Key(name); k == nil || k.Change != change {
				t.Errorf("%s: change %v, want %v", name, k, change)
			}
		}
	}
}
