package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"go.uber.org/zap"

	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/ha"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/task"
	"gomq/internal/watermark"
)

// replication is the broker's part in its set: a master ships its log to whoever
// connects, a slave follows its master. One of the two ends is nil.
type replication struct {
	live    *config.Live[Options]
	log     *zap.Logger
	store   *store.Store
	names   *registrar
	outward *client.Client
	serve   *remoting.TLS // of the door for slaves; nil: none
	dial    *remoting.TLS // towards a gomq master; nil: none
	group   *task.Group

	peers   *peers
	master  *ha.Master
	replica *ha.Replica
	begins  chan struct{} // a slave has begun to follow its master
}

// isMaster says whether this broker takes messages.
func (b *Broker) isMaster() bool { return b.live.Load().BrokerRole != Slave }

// replicaState says how a slave stands to its master; ok is false on a master.
func (b *Broker) replicaState() (s ha.ReplicaState, ok bool) {
	if r := b.replica(); r != nil {
		return r.State(), true
	}
	return s, false
}

// settle lets what a slave has of its old master come to rest; a master's log is its
// own.
func (b *Broker) settle(ctx context.Context) error {
	if r := b.replica(); r != nil {
		return r.Settle(ctx)
	}
	return nil
}

// replica is a slave's end of log shipping; nil on a master, and before the role begins.
func (b *Broker) replica() *ha.Replica {
	if b.role == nil {
		return nil
	}
	return b.role.replica
}

// replicas are the slaves that are connected to this master.
func (b *Broker) replicas() []ha.ReplicaInfo {
	if b.role == nil || b.role.master == nil {
		return nil
	}
	return b.role.master.Replicas()
}

// me is what this broker says of itself to a gomq peer.
func (r *replication) me() ha.Name {
	o := r.live.Load()
	return ha.Name{Cluster: o.BrokerClusterName, Broker: o.BrokerName, ID: o.BrokerID, Addr: brokerAddr(o)}
}

// nearEnd is how far behind a slave may be to get the log as fast as it can take it.
const nearEnd = 32 << 20

func (r *replication) tuning() ha.Tuning {
	o := r.live.Load()
	t := ha.Tuning{Batch: o.HATransferBatchSize, Heartbeat: o.HASendHeartbeatInterval, Silence: o.HAHousekeepingInterval,
		CatchUp: o.HACatchUpRate, Near: nearEnd}
	if o.BrokerRole == SyncMaster {
		t.Near = max(t.Near, o.HASlaveFallbehindMax) // sends may wait for who is so close
	}
	return t
}

// startRole begins the role of the options: the store is open, and nobody is
// served yet. A master brings back what it has lost first.
func (b *Broker) startRole(ctx context.Context, o *Options) (err error) {
	r := &replication{live: b.live, log: b.log, store: b.store, names: b.names, outward: b.outward, serve: b.tls.serve, dial: b.tls.dial, group: task.NewGroup(context.WithoutCancel(ctx), b.log, nil), begins: make(chan struct{}, 1)}
	b.role = r
	b.log.Info("what this broker promises", zap.String("brokerRole", string(o.BrokerRole)), zap.String("flushDiskType", string(o.FlushDiskType)), zap.String("promise", promise(o)))
	if o.BrokerRole == Slave {
		r.follow(o, &b.stats.stored)
		return nil
	}
	if r.peers, err = loadPeers(b.live, b.log, b.names, b.with.now); err != nil {
		return err
	}
	if err = r.repair(ctx, o); err != nil {
		return err
	}
	if err = r.lead(ctx, o); err != nil {
		return err
	}
	if o.BrokerRole == SyncMaster {
		b.send.replicas = r.master
	}
	return nil
}

// promise is what SEND_OK means under these options (reliability.md section 3).
func promise(o *Options) string {
	window := (o.FlushIntervalCommitLog + time.Second/2).String()
	switch {
	case o.BrokerRole == Slave && o.FlushDiskType == SyncFlush:
		return "a slave: it takes no messages, and acknowledges to its master what is on its own disk"
	case o.BrokerRole == Slave:
		return "a slave: it takes no messages, and acknowledges to its master what it has in memory"
	case o.BrokerRole == SyncMaster && o.FlushDiskType == SyncFlush:
		return "SEND_OK: the message is on this disk and a slave has it; without a slave SLAVE_NOT_AVAILABLE. Nothing is lost by a power failure here"
	case o.BrokerRole == SyncMaster:
		return "SEND_OK: the message is in memory here and a slave has it; without a slave SLAVE_NOT_AVAILABLE. A power failure here takes the last " + window + " at most, which the slave gives back"
	case o.FlushDiskType == SyncFlush:
		return "SEND_OK: the message is on this disk; slaves copy it later. Nothing is lost by a power failure here"
	}
	return "SEND_OK: the message is in memory; a power failure may take the last " + window + ", the loss of this host what slaves have not copied yet (gomq_ha_lag_bytes)"
}

// lead opens the door for slaves. What they get is what is appended; a master that
// promises its own disk first ships what is on it, so that a slave never has what
// a power cut takes from its master.
func (r *replication) lead(ctx context.Context, o *Options) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", net.JoinHostPort(o.ListenHost, strconv.Itoa(o.HAListenPort)))
	if err != nil {
		return fmt.Errorf("listenPort+1=%d, which slaves use: %w; another process has it, or set another listenPort", o.HAListenPort, err)
	}
	r.master = ha.NewMaster(r.group.Context(), ln, ha.MasterOptions{Log: r.store, Ship: r.ship(o), Tune: r.tuning, Me: r.me,
		Counts: r.peers.counts, Unknown: r.peers.ask, Secure: r.serve.Accept, Zap: r.log})
	r.peers.fresh = r.master.Recount
	r.group.Go("list of slaves", func(ctx context.Context) error { return r.peers.keep(ctx, r.master.Uncounted) })
	return nil
}

// ship is the mark up to which a master's log may be sent.
func (r *replication) ship(o *Options) *watermark.Mark {
	if o.BrokerRole == SyncMaster && o.FlushDiskType == SyncFlush {
		return r.store.Durable
	}
	return r.store.Appended
}

// follow starts to copy the master's log. A slave under SYNC_FLUSH reports what is
// on its disk, as its master's SYNC_MASTER is then taken to mean.
func (r *replication) follow(o *Options, stored *counters) {
	ro := ha.ReplicaOptions{Log: copyLog{r.store, stored}, Confirm: r.store.Appended, Tune: r.tuning, Me: r.me, Temporary: noSpace, Begins: func() { ring(r.begins) }, Ask: r.askMaster, Secure: r.dial.Client, Zap: r.log,
		Master: func() string {
			_, addr := r.names.master()
			return addr
		}}
	if o.FlushDiskType == SyncFlush {
		ro.Confirm, ro.Late = r.store.Durable, true
	}
	r.replica = ha.NewReplica(r.group.Context(), ro)
	r.group.Go("address of the master", func(ctx context.Context) error {
		for {
			changed := r.names.masterChanged()
			r.replica.Kick()
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// copyLog is the log of a slave: what is appended to it is stored, as Java's slaves
// count it too.
type copyLog struct {
	*store.Store
	stored *counters
}

// AppendRaw implements ha.Log.
func (l copyLog) AppendRaw(at int64, p []byte) (used int, err error) {
	used, err = l.Store.AppendRaw(at, p)
	l.stored.add(store.CountRaw(p[:used]))
	return used, err
}

// noSpace says whether an error of the store goes away when there is space again.
func noSpace(err error) bool {
	var refused *store.RefusedError
	return errors.As(err, &refused) && refused.Cause == store.CauseDiskFull
}

// stop ends the role.
func (r *replication) stop() {
	if r == nil {
		return
	}
	if r.replica != nil {
		r.replica.Stop()
	}
	if r.master != nil {
		r.master.Stop()
	}
	r.group.Stop()
}
