package broker

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"gomq/internal/config"
)

// storageKeys says where data lies and in what pieces (config.md sections 3, 6).
func storageKeys(o *Options) config.Section {
	return config.Section{Title: "Storage", Doc: "Where data lies and in what pieces. The files of an existing store decide their own sizes.", Keys: []config.Key{
		{Name: "storePathRootDir", Field: &o.StorePathRootDir, Default: "~/store", Auto: homeStore, Check: notEmpty, Tier: 1, Important: true,
			Doc: "Directory of everything the broker keeps; ~ is the home of the user in the passwd file."},
		{Name: "storePathCommitLog", Field: &o.StorePathCommitLog, Check: onePath, Tier: 1, Important: true,
			Doc: "Directory of the commit log. Empty: commitlog under the root, as in RocketMQ 4.9."},
		{Name: "storePathConsumeQueue", Field: &o.StorePathConsumeQueue, Tier: 1,
			Doc: "Directory of the consume queues. Empty: consumequeue under the root. RocketMQ 4.x ignores this key and always looks there, so another place makes the store unreadable for it."},
		{Name: "storePathIndex", Field: &o.StorePathIndex, Tier: 1,
			Doc: "Directory of the key index. Empty: index under the root. RocketMQ 4.x ignores this key."},
		{Name: "storeCheckpoint", Field: &o.StoreCheckpoint, Tier: 1,
			Doc: "The checkpoint file. Empty: checkpoint under the root. RocketMQ 4.x ignores this key."},
		{Name: "abortFile", Field: &o.AbortFile, Tier: 1,
			Doc: "The file that exists while a broker runs. Empty: abort under the root. RocketMQ 4.x ignores this key."},
		{Name: "mappedFileSizeCommitLog", Field: &o.MappedFileSizeCommitLog, Default: "1073741824", Unit: "B", Range: "65536..2147483647", Tier: 1,
			Aliases: []config.Alias{{Name: "mapedFileSizeCommitLog",
				Note: "is the spelling of RocketMQ before 4.4 and counts here on a new store; RocketMQ 4.5 and later ignore it, there the key is mappedFileSizeCommitLog"}},
			Doc: "Size of a commit log file."},
		{Name: "mappedFileSizeConsumeQueue", Field: &o.MappedFileSizeConsumeQueue, Default: "6000000", Unit: "B", Range: "20..2147483640", Tier: 1,
			Aliases: []config.Alias{{Name: "mapedFileSizeConsumeQueue", Convert: entries,
				Note: "counts entries of 20 bytes and counts here on a new store; RocketMQ 4.5 and later ignore it, there the key is mappedFileSizeConsumeQueue and counts bytes"}},
			Doc: "Size of a consume queue file, rounded up to a multiple of 20."},
		{Name: "maxMappedQueues", Field: &o.MaxMappedQueues, Default: "16000", Range: "64..", Change: config.Restart, Tier: 3,
			Doc: "gomq's own: how many queue files are mapped at a time; a process may have 65,530 mappings on most Linux systems."},
		{Name: "enableConsumeQueueExt", Field: &o.EnableConsumeQueueExt, Default: "false", Change: config.Restart, Tier: 2,
			Check: refuseIf("true", "asks for consume queue extension files, which gomq does not write; queues that refer to them would be unreadable"),
			Doc:   "Extension files with filter bits beside the consume queues."},
		{Name: "messageIndexEnable", Field: &o.MessageIndexEnable, Default: "true", Change: config.Restart, Tier: 2, Important: true,
			Doc: "Index messages by key and unique key."},
		{Name: "messageIndexSafe", Field: &o.MessageIndexSafe, Default: "false", Change: config.Restart, Tier: 3, Important: true, Effect: config.NoEffect,
			Doc: "Recovery starts before the index checkpoint too; gomq always does."},
		{Name: "maxHashSlotNum", Field: &o.MaxHashSlotNum, Default: "5000000", Range: "1..100000000", Change: config.Restart, Tier: 3,
			Doc: "Hash slots of an index file. RocketMQ opens only files of its own setting."},
		{Name: "maxIndexNum", Field: &o.MaxIndexNum, Default: "20000000", Range: "2..100000000", Change: config.Restart, Tier: 3,
			Doc: "Entries of an index file. RocketMQ opens only files of its own setting."},
		{Name: "maxMsgsNumBatch", Field: &o.MaxMsgsNumBatch, Default: "64", Range: "1..1024", Change: config.Hot, Tier: 3,
			Doc: "Most messages in the answer to a query by key."},
		{Name: "defaultQueryMaxNum", Field: &o.DefaultQueryMaxNum, Default: "32", Range: "1..1024", Change: config.Hot, Tier: 3,
			Doc: "Most messages in the answer to a query by unique key."},
		{Name: "checkCRCOnRecover", Field: &o.CheckCRCOnRecover, Default: "true", Change: config.Restart, Tier: 2, Effect: config.NoEffect,
			Doc: "Check the bodies' CRC when the log is recovered; gomq always does."},
	}}
}

// entries turns a count of 20-byte queue entries into bytes.
func entries(value string) (string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt32/20 {
		return "", fmt.Errorf("must be a number of entries from 1 to %d", math.MaxInt32/20)
	}
	return strconv.FormatInt(n*20, 10), nil
}

// percent turns the ratio of a system property of the original (0.90) into the
// percent of the key.
func percent(value string) (string, error) {
	r, err := strconv.ParseFloat(value, 64)
	if err != nil || !(r > 0 && r <= 1) {
		return "", errors.New("must be a ratio such as 0.90")
	}
	return strconv.Itoa(int(math.Round(r * 100))), nil
}

func notEmpty(value string) error {
	if value == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// flushKeys says when bytes reach the disk (config.md sections 5, 6).
func flushKeys(o *Options) config.Section {
	return config.Section{Title: "Flushing", Doc: "When bytes reach the disk.", Keys: []config.Key{
		{Name: "flushDiskType", Field: &o.FlushDiskType, Default: "ASYNC_FLUSH", Range: "ASYNC_FLUSH | SYNC_FLUSH", Tier: 1, Important: true,
			Doc: "SYNC_FLUSH: a send is answered, and its message seen, once the disk has it. ASYNC_FLUSH: answered from memory; a power failure may lose the last flushIntervalCommitLog."},
		{Name: "flushIntervalCommitLog", Field: &o.FlushIntervalCommitLog, Default: "500", Unit: "ms", Range: "1..60000", Change: config.Restart, Tier: 2, Important: true,
			Doc: "Pause between two flushes of the commit log under ASYNC_FLUSH; each flushes everything."},
		{Name: "flushIntervalConsumeQueue", Field: &o.FlushIntervalConsumeQueue, Default: "1000", Unit: "ms", Range: "1..60000", Change: config.Restart, Tier: 2,
			Doc: "Pause between two flushes of queues and index, each followed by a checkpoint."},
		{Name: "syncFlushTimeout", Field: &o.SyncFlushTimeout, Default: "5000", Unit: "ms", Range: "1..", Change: config.Hot, Tier: 2,
			Doc: "A send under SYNC_FLUSH is answered FLUSH_DISK_TIMEOUT after this time; its message stays stored."},
		{Name: "writeWithoutMmap", Field: &o.WriteWithoutMmap, Default: "", Tier: 3,
			Doc: "Write the commit log by system calls (true) or through the mapping (false). Empty: by system calls under SYNC_FLUSH. The files are the same bytes."},
		{Name: "flushConsumerOffsetInterval", Field: &o.FlushConsumerOffsetInterval, Default: "5000", Unit: "ms", Range: "10..", Change: config.Restart, Tier: 2,
			Doc: "Time between two writes of the consumers' offsets; so much is consumed again after a crash."},
		{Name: "flushDelayOffsetInterval", Field: &o.FlushDelayOffsetInterval, Default: "10000", Unit: "ms", Range: "10..", Change: config.Restart, Tier: 2,
			Doc: "Time between two writes of the progress of delayed messages; so much is delivered again after a crash, and about 20,000 messages at most."},
	}}
}

// retentionKeys says when data goes (config.md sections 2, 5, 6).
func retentionKeys(o *Options) config.Section {
	return config.Section{Title: "Retention", Doc: "When data goes.", Keys: []config.Key{
		{Name: "deleteWhen", Field: &o.DeleteWhen, Default: "04", Check: checkHours, Change: config.Hot, Tier: 1, Important: true,
			Doc: "Hours of the day, local time, at which files past their age go; 04 or 04;16."},
		{Name: "fileReservedTime", Field: &o.FileReservedTime, Default: "72", Unit: "h", Range: "1..876000", Change: config.Hot, Tier: 1, Important: true,
			Doc: "Age at which a commit log file may go, by the time it was last written."},
		{Name: "diskMaxUsedSpaceRatio", Field: &o.DiskMaxUsedSpaceRatio, Default: "75", Unit: "%", Range: "10..95", Clamp: true, Change: config.Hot, Tier: 1,
			Doc: "Above this use of the disk, files past their age go at any hour."},
		{Name: "diskSpaceCleanForciblyRatio", Field: &o.DiskSpaceCleanForciblyRatio, Default: "85", Unit: "%", Range: "30..98", Clamp: true, Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "rocketmq.broker.diskSpaceCleanForciblyRatio", Convert: percent, Quiet: true}},
			Doc:     "Above this use of the disk the oldest files go whatever their age, if cleanFileForciblyEnable is on. Key of RocketMQ 5."},
		{Name: "diskSpaceWarningLevelRatio", Field: &o.DiskSpaceWarningLevelRatio, Default: "90", Unit: "%", Range: "35..99", Clamp: true, Change: config.Restart, Tier: 2,
			Aliases: []config.Alias{{Name: "rocketmq.broker.diskSpaceWarningLevelRatio", Convert: percent, Quiet: true}},
			Doc:     "Above this use of the disk no message is taken until there is space again. Key of RocketMQ 5."},
		{Name: "cleanFileForciblyEnable", Field: &o.CleanFileForciblyEnable, Default: "true", Change: config.Hot, Tier: 2, Important: true,
			Doc: "Allows deletion before a file's age when the disk is nearly full."},
		{Name: "cleanResourceInterval", Field: &o.CleanResourceInterval, Default: "10000", Unit: "ms", Range: "10..", Change: config.Restart, Tier: 2,
			Doc: "Time between two looks at ages and disk space."},
		{Name: "deleteCommitLogFilesInterval", Field: &o.DeleteCommitLogFilesInterval, Default: "100", Unit: "ms", Range: "0..60000", Change: config.Hot, Tier: 3,
			Doc: "Pause between two deletions of commit log files."},
		{Name: "deleteConsumeQueueFilesInterval", Field: &o.DeleteConsumeQueueFilesInterval, Default: "100", Unit: "ms", Range: "0..60000", Change: config.Hot, Tier: 3, Effect: config.NoEffect,
			Doc: "Pause between two deletions of consume queue files, which follow the log here."},
		{Name: "destroyMapedFileIntervalForcibly", Field: &o.DestroyMapedFileIntervalForcibly, Default: "120000", Unit: "ms", Range: "0..", Change: config.Hot, Tier: 1, Effect: config.NoEffect,
			Doc: "How long the original lets readers of a deleted file go on; in gomq a reader copies and holds no file."},
		{Name: "redeleteHangedFileInterval", Field: &o.RedeleteHangedFileInterval, Default: "120000", Unit: "ms", Range: "0..", Change: config.Hot, Tier: 1, Effect: config.NoEffect,
			Doc: "How often the original tries again to delete a file that readers hold; gomq tries at each look."},
		{Name: "disableConsumeIfConsumerReadSlowly", Field: &o.DisableConsumeIfConsumerReadSlowly, Default: "false", Change: config.Hot, Tier: 3, Effect: config.NotYet,
			Doc: "Switch off groups that lag too far."},
		{Name: "consumerFallbehindThreshold", Field: &o.ConsumerFallbehindThreshold, Default: "17179869184", Unit: "B", Range: "0..", Change: config.Hot, Tier: 3, Effect: config.NotYet,
			Doc: "How far is too far."},
	}}
}
