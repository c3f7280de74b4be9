package broker

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gomq/internal/broker/meta"
	"gomq/internal/message"
	"gomq/internal/store"
)

// StoreOptions are what the broker of these options opens its store with.
func StoreOptions(o *Options) store.Options {
	so := store.Options{
		Root: o.StorePathRootDir, CommitLogDir: o.StorePathCommitLog, ConsumeQueueDir: o.StorePathConsumeQueue, IndexDir: o.StorePathIndex,
		CheckpointFile: o.StoreCheckpoint, AbortFile: o.AbortFile,
		CommitLogFileSize: o.MappedFileSizeCommitLog, ConsumeQueueFileSize: o.MappedFileSizeConsumeQueue,
		SyncFlush: o.FlushDiskType == SyncFlush, WriteWithoutMmap: o.WriteWithoutMmap,
		FlushInterval: o.FlushIntervalCommitLog, FlushQueueInterval: o.FlushIntervalConsumeQueue, SyncFlushTimeout: o.SyncFlushTimeout,
		MaxMessageSize: o.MaxMessageSize,
		IndexEnabled:   o.MessageIndexEnable, MaxHashSlots: o.MaxHashSlotNum, MaxIndexEntries: o.MaxIndexNum,
		DeleteWhen: o.DeleteWhen, FileReserved: o.FileReservedTime, DiskMaxUsedPct: o.DiskMaxUsedSpaceRatio,
		DiskCleanForciblyPct: o.DiskSpaceCleanForciblyRatio, DiskWarningPct: o.DiskSpaceWarningLevelRatio, NoForcedClean: !o.CleanFileForciblyEnable,
		RetentionInterval: o.CleanResourceInterval, DeleteInterval: o.DeleteCommitLogFilesInterval,
		MaxMappedQueues: o.MaxMappedQueues, TagsCode: scheduleTags(o.MessageDelayLevel),
	}
	if so.CommitLogDir == "" {
		so.CommitLogDir = filepath.Join(so.Root, "commitlog")
	}
	return so
}

// scheduleTags gives the queues of the schedule topic entries that carry when
// their message is due instead of the hash of its tags (behaviour.md section
// 11). Delayed messages are not taken yet, but a store may hold some.
func scheduleTags(levels string) func(topic string) func(message.Record) int64 {
	var delays []time.Duration
	for _, text := range strings.Fields(levels) {
		unit := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[text[len(text)-1]]
		n, _ := strconv.Atoi(text[:len(text)-1]) // checked when the key was read
		delays = append(delays, time.Duration(n)*unit)
	}
	due := func(r message.Record) int64 {
		v, _ := message.Prop(r.Props(), message.PropDelay)
		level, err := strconv.Atoi(string(v))
		if err != nil || level <= 0 || len(delays) == 0 {
			return message.TagsCode(r.Props())
		}
		return r.StoreTime() + delays[min(level, len(delays))-1].Milliseconds()
	}
	return func(topic string) func(message.Record) int64 {
		if topic == message.TopicSchedule {
			return due
		}
		return nil
	}
}

// topicDefaults are the topics that exist from the start.
func topicDefaults(o *Options) meta.TopicDefaults {
	d := meta.TopicDefaults{Cluster: o.BrokerClusterName, Broker: o.BrokerName, ClusterPerm: o.ClusterTopicEnable, BrokerPerm: o.BrokerTopicEnable,
		AutoCreate: o.AutoCreateTopicEnable, DefaultQueues: o.DefaultTopicQueueNums}
	if o.TraceTopicEnable {
		d.TraceTopic = o.MsgTraceTopicName
	}
	return d
}

// storeHost is the address that records and message ids carry.
func storeHost(o *Options) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(o.BrokerIP1)
	if err != nil {
		list, lookup := net.LookupHost(o.BrokerIP1)
		if lookup == nil && len(list) > 0 {
			ip, lookup = netip.ParseAddr(list[0])
		}
		if lookup != nil {
			return netip.AddrPort{}, fmt.Errorf("brokerIP1=%s is no address and cannot be resolved: %w", o.BrokerIP1, lookup)
		}
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(o.ListenPort)), nil
}

// configFile is a file of the broker's tables.
func configFile(o *Options, name string) string {
	return filepath.Join(o.StorePathRootDir, "config", name)
}

// makeConfigDir makes the directory of the tables.
func makeConfigDir(o *Options) error {
	return os.MkdirAll(filepath.Dir(configFile(o, "x")), 0o700)
}

// machineMemory is how much memory the machine has; 8 GiB when it does not say.
func machineMemory() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 8 << 30
	}
	return int64(info.Totalram) * int64(info.Unit)
}
