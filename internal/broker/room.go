package broker

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"gomq/internal/broker/delay"
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
		MaxMappedQueues: o.MaxMappedQueues, TagsCode: scheduleTags(delayLevels(o)),
	}
	if so.CommitLogDir == "" {
		so.CommitLogDir = filepath.Join(so.Root, "commitlog")
	}
	return so
}

// scheduleTags gives the queues of the schedule topic entries that carry when
// their message is due instead of the hash of its tags (behaviour.md section 11).
func scheduleTags(levels delay.Levels) func(topic string) func(message.Record) int64 {
	return func(topic string) func(message.Record) int64 {
		if topic == message.TopicSchedule {
			return levels.Due
		}
		return nil
	}
}

// delayLevels are the levels of the options.
func delayLevels(o *Options) delay.Levels {
	levels, _ := delay.ParseLevels(o.MessageDelayLevel) // checked when the key was read
	return levels
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
