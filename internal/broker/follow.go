package broker

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"gomq/internal/client"
	"gomq/internal/ha"
	"gomq/internal/store/segment"
)

const (
	// greetsKey is the entry in the answer to GET_BROKER_RUNTIME_INFO that says that a
	// broker is gomq and understands the greeting of log shipping. It is asked there,
	// because every version answers that request.
	greetsKey = "gomqLogShipping"
	greets    = "1"
	// askWait bounds a question to another broker of the set.
	askWait = 3 * time.Second
	// sizeWait is how long the start of a slave without a log waits for its master to
	// say how large the log's files are.
	sizeWait = 10 * time.Second
)

// doorOf is the address for clients of the broker whose replication port is door:
// it is always one below.
func doorOf(door string) (string, error) {
	host, port, err := net.SplitHostPort(door)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(n-1)), nil
}

// askMaster is what a slave learns of the master behind a door before it connects.
func (r *replication) askMaster(ctx context.Context, door string) (ha.MasterInfo, error) {
	addr, _ := r.names.master()
	if r.live.Load().HAMasterAddress != "" || addr == "" {
		var err error
		if addr, err = doorOf(door); err != nil {
			return ha.MasterInfo{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	return masterInfo(ctx, r.outward, addr)
}

// masterInfo asks the broker at addr, of any version, for its log.
func masterInfo(ctx context.Context, c *client.Client, addr string) (ha.MasterInfo, error) {
	got := ha.MasterInfo{}
	info, err := c.RuntimeInfo(ctx, addr)
	if _, refused := client.Code(err); refused {
		return got, nil // it knows us not (access control): it says nothing of its log
	}
	if err != nil {
		return got, err
	}
	got.Min, _ = strconv.ParseInt(info["commitLogMinOffset"], 10, 64)
	got.End, _ = strconv.ParseInt(info["commitLogMaxOffset"], 10, 64)
	if info[greetsKey] != "" {
		st, err := c.LogState(ctx, addr, 0, 0)
		if err != nil {
			return got, err
		}
		got.Greets, got.FileSize, got.Min, got.End, got.Known = true, st.FileSize, st.Min, st.End, true
		return got, nil
	}
	got.Known = info["commitLogMaxOffset"] != ""
	text, _, err := c.Config(ctx, addr)
	if err != nil {
		return got, err
	}
	for _, line := range strings.Split(text, "\n") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "mappedFileSizeCommitLog="); ok {
			got.FileSize, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return got, nil
}

// logFileSize is the size of log files that a slave without a log opens its store
// with: its master's, because the ends of the files are in the log. 0 means that
// there is a log, or that no master answered in time: then the configured one.
func (b *Broker) logFileSize(ctx context.Context, o *Options) int64 {
	if o.BrokerRole != Slave || o.HAMasterAddress == "" && len(o.NamesrvAddr) == 0 {
		return 0
	}
	so := StoreOptions(o)
	fs := b.with.fs
	if fs == nil {
		fs = segment.Disk{}
	}
	if entries, err := fs.ReadDir(so.CommitLogDir); err != nil || len(entries) > 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, sizeWait)
	defer cancel()
	for said := false; ; said = true {
		addr, err := b.findMaster(ctx, o)
		var info ha.MasterInfo
		if err == nil {
			ask, done := context.WithTimeout(ctx, askWait)
			info, err = masterInfo(ask, b.outward, addr)
			done()
		}
		if err == nil && info.FileSize > 0 {
			if info.FileSize != o.MappedFileSizeCommitLog {
				b.log.Info("this slave has no log yet; its files get the size of its master's", zap.String("master", addr), zap.Int64("bytes", info.FileSize), zap.Int64("configured", o.MappedFileSizeCommitLog))
			}
			return info.FileSize
		}
		if !said {
			b.log.Info("this slave has no log yet and waits for its master to say how large its files are", zap.Duration("atMost", sizeWait), zap.Error(err))
		}
		t := time.NewTimer(repairAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			b.log.Warn("no master said how large its log files are: this slave takes the configured size, and if that is another it has to be started again without its directory", zap.Int64("bytes", o.MappedFileSizeCommitLog))
			return 0
		}
	}
}

// findMaster is the address for clients of a slave's master before anything is
// registered.
func (b *Broker) findMaster(ctx context.Context, o *Options) (string, error) {
	if o.HAMasterAddress != "" {
		return doorOf(o.HAMasterAddress)
	}
	info, err := b.outward.NameServers(o.NamesrvAddr).ClusterInfo(ctx)
	if err != nil {
		return "", err
	}
	if addr := info.Brokers[o.BrokerName].Addrs[0]; addr != "" {
		return addr, nil
	}
	return "", fmt.Errorf("the nameservers list no master of %s", o.BrokerName)
}
