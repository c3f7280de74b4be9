// Package broker is a broker: the handlers of its requests, the table that says
// which handler serves which code, and the wiring of the rooms below. State
// lives in the desks (meta, clients, hold) and in the store; this package is the
// only one that knows both them and the sockets.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/hold"
	"gomq/internal/broker/meta"
	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/filter"
	"gomq/internal/remoting"
	"gomq/internal/store"
	"gomq/internal/store/segment"
	"gomq/internal/task"
)

// Broker is a running broker. Its methods may be called from any goroutine.
type Broker struct {
	live  *config.Live[Options]
	log   *zap.Logger
	group *task.Group // the periodic tasks and the wakers of pulls
	with  seams

	store     *store.Store
	topics    *meta.Topics
	groups    *meta.Groups
	offsets   *meta.Offsets
	delayed   *meta.Delays
	filters   *meta.Filters
	producers *clients.Producers[*remoting.Conn]
	consumers *clients.Consumers[*remoting.Conn]
	stats     *stats
	outward   *client.Client
	names     *registrar
	lanes     *lanes
	server    *remoting.Server
	role      *replication
	// tablesTaken is when a slave took its master's tables last, ms; 0: never.
	tablesTaken atomic.Int64
	tls         struct{ serve, dial *remoting.TLS } // nil: none

	table       *table
	send        *sender
	inner       *inner
	delays      *delayer // nil on a slave
	retry       *retryDesk
	pull        *puller
	offset      *offsetDesk
	query       *queryDesk
	clients     *clientDesk
	locks       *lockDesk
	trans       *transDesk
	topicAdmin  *topicDesk
	groupAdmin  *groupDesk
	relay       *relayDesk
	reply       *replyDesk
	brokerAdmin *brokerDesk
	logState    *logDesk

	stopOnce sync.Once
	stopErr  error
	done     chan struct{} // closed when the broker has failed or has been told to stop
	failOnce sync.Once
	failure  error // why it failed; written before done is closed
}

// Start opens the store, listens and registers; when it returns without an error
// the broker serves. What a broker needs is begun in this order, and what has
// been begun is ended again when a later step fails: the store with its lock, the
// tables, the doors, the nameservers. ctx bounds the start only. reg may be nil.
//
// Errors are sentences that say what to do: a port in use, a store that is locked
// or damaged, a table that does not parse, a role that gomq does not have yet.
func Start(ctx context.Context, live *config.Live[Options], log *zap.Logger, reg prometheus.Registerer) (*Broker, error) {
	return start(ctx, live, log, reg, seams{now: time.Now, memory: machineMemory()})
}

// seams are what a test puts in the place of the machine.
type seams struct {
	now    func() time.Time
	memory int64      // bytes the machine has
	fs     segment.FS // under the store; nil is the disk
}

func start(ctx context.Context, live *config.Live[Options], log *zap.Logger, reg prometheus.Registerer, with seams) (*Broker, error) {
	if log == nil {
		log = zap.NewNop()
	}
	o := live.Load()
	if err := lacking(o); err != nil {
		return nil, err
	}
	b := &Broker{live: live, log: log, with: with, done: make(chan struct{})}
	if err := b.open(ctx, o, reg); err != nil {
		b.close(context.WithoutCancel(ctx))
		return nil, err
	}
	b.group.Go("watch of the store", b.watchStore)
	if ip, err := netip.ParseAddr(o.ListenHost); err != nil || !ip.IsLoopback() {
		log.Warn("whoever reaches this port may send, read and administrate: there is no access control yet; keep strangers away or set listenHost", zap.String("listen", b.Addr()))
	}
	return b, nil
}

// lacking refuses options whose feature gomq does not have yet where going on
// without it would break a promise (decisions.md, Configuration).
func lacking(o *Options) error {
	switch {
	case o.ACLEnable:
		return fmt.Errorf("aclEnable=true: access control is %s, and without it anyone could do anything; set it to false only where the network keeps strangers away", notYet)
	}
	return nil
}

// open begins everything in order.
func (b *Broker) open(ctx context.Context, o *Options, reg prometheus.Registerer) (err error) {
	b.group = task.NewGroup(context.WithoutCancel(ctx), b.log, nil)
	b.stats = newStats(b.with.now)
	b.producers, b.consumers = clients.NewProducers[*remoting.Conn](), clients.NewConsumers[*remoting.Conn]()
	outTLS, err := o.DialTLS()
	if err != nil {
		return err
	}
	b.tls.dial = outTLS
	b.outward = client.New(context.WithoutCancel(ctx), client.Options{Timeout: o.RegisterBrokerTimeoutMills, Remoting: remoting.Options{Log: b.log, TLS: outTLS}, Log: b.log})
	so := StoreOptions(o)
	so.FS, so.Now = b.with.fs, b.with.now
	if size := b.logFileSize(ctx, o); size > 0 {
		so.CommitLogFileSize = size
	}
	var storeReg prometheus.Registerer
	if reg != nil {
		storeReg = prometheus.WrapRegistererWith(nodeLabels(o), reg)
	}
	if b.store, err = store.Open(ctx, so, b.log, storeReg); err != nil {
		return err
	}
	if err = b.load(o); err != nil {
		return err
	}
	metrics := remoting.NewMetrics(reg)
	ro, err := o.Door(b.log, metrics)
	if err != nil {
		return err
	}
	ro.MaxCalls = maxAskedOfOne
	b.tls.serve = ro.TLS
	b.names = newRegistrar(ctx, b.live, b.log, b.topics, b.outward)
	b.lanes = newLanes(ctx, o, b.log, metrics)
	if err = b.wire(o, metrics); err != nil {
		return err
	}
	if err = b.startRole(ctx, o); err != nil {
		return err
	}
	if b.delays != nil {
		b.delays.begin()
	}
	if reg != nil {
		if err = reg.Register(newCollector(b)); err != nil {
			return fmt.Errorf("registering the broker's metrics: %w", err)
		}
		if err = reg.Register(metrics.RPCLatency(nodeLabels(o))); err != nil {
			return fmt.Errorf("registering the broker's metrics: %w", err)
		}
	}
	b.store.OnArrive(func(q *store.Queue, max int64) {
		b.pull.arrived(q, max)
		if b.delays != nil {
			b.delays.arrived(q, max)
		}
	})
	b.live.OnUpdate(func(o *Options) {
		if err := b.store.SetRetention(StoreOptions(o)); err != nil {
			b.log.Error("a change of the retention has no effect", zap.Error(err)) // the key table has checked every value
		}
	})
	b.tasks(o)
	if err = b.listen(ctx, o, ro); err != nil {
		return err
	}
	first, cancel := context.WithTimeout(ctx, announceWait)
	defer cancel()
	b.names.start(first)
	if o.BrokerRole == Slave {
		b.follow()
	}
	return nil
}

// load reads the tables.
func (b *Broker) load(o *Options) (err error) {
	if err = makeConfigDir(o); err != nil {
		return fmt.Errorf("making the directory of the tables: %w", err)
	}
	bloom := filter.NewBloom(o.MaxErrorRateOfBloomFilter, o.ExpectConsumerNumUseFilter)
	if b.filters, err = meta.LoadFilters(configFile(o, "consumerFilter.json"), bloom, b.with.now); err != nil {
		return err
	}
	limits := meta.TopicLimits{Topics: func() int { return b.live.Load().MaxTopics }, Queues: func() int32 { return b.live.Load().MaxQueuesPerTopic }}
	if b.topics, err = meta.LoadTopics(configFile(o, "topics.json"), topicDefaults(o).BuiltinTopics(), limits, b.with.now); err != nil {
		return err
	}
	if b.offsets, err = meta.LoadOffsets(configFile(o, "consumerOffset.json"), b.with.now); err != nil {
		return err
	}
	if b.groups, err = meta.LoadGroups(configFile(o, "subscriptionGroup.json"), func() int { return b.live.Load().MaxGroups }, b.with.now); err != nil {
		return err
	}
	if b.delayed, err = meta.LoadDelays(configFile(o, "delayOffset.json")); err != nil {
		return err
	}
	if o.BrokerRole != Slave {
		b.topics.OpenDeadLetters()
	}
	b.topics.Follow(o.BrokerRole == Slave)
	b.groups.Follow(o.BrokerRole == Slave)
	return nil
}

// wire makes the handlers, each with the desks that it uses.
func (b *Broker) wire(o *Options, metrics *remoting.Metrics) error {
	at, err := storeHost(o)
	if err != nil {
		return err
	}
	create := &topicMaker{live: b.live, log: b.log, topics: b.topics, lane: b.lanes.create, names: b.names, stats: b.stats}
	b.send = &sender{live: b.live, log: b.log, store: b.store, topics: b.topics, groups: b.groups, create: create, stats: b.stats, levels: delayLevels(o),
		storeAt: at, sync: o.FlushDiskType == SyncFlush, refused: newRefusals(metrics)}
	b.inner = &inner{send: b.send, create: create, now: b.with.now}
	if o.BrokerRole != Slave {
		b.delays = &delayer{live: b.live, log: b.log, store: b.store, inner: b.inner, table: b.delayed, stats: b.stats, levels: b.send.levels, now: b.with.now}
	}
	compiled := filter.NewCache(maxFilters)
	b.pull = &puller{live: b.live, log: b.log, store: b.store, topics: b.topics, groups: b.groups, offsets: b.offsets, consumers: b.consumers, filters: compiled,
		lane: b.lanes.pull, stats: b.stats, memory: b.with.memory, parking: parking{held: hold.New[*store.Queue, *parked](maxParked, time.Now()), group: b.group}}
	b.offset = &offsetDesk{log: b.log, store: b.store, topics: b.topics, offsets: b.offsets, pulls: b.pull}
	b.query = &queryDesk{live: b.live, log: b.log, store: b.store}
	b.clients = &clientDesk{live: b.live, log: b.log, topics: b.topics, groups: b.groups, producers: b.producers, consumers: b.consumers, filters: compiled, kept: b.filters,
		create: create, notify: &notifier{log: b.log}, now: b.with.now}
	b.relay = &relayDesk{live: b.live, log: b.log, store: b.store, topics: b.topics, offsets: b.offsets, consumers: b.consumers, notify: b.clients.notify, wait: clientWait}
	b.reply = &replyDesk{log: b.log, send: b.send, inner: b.inner, producers: b.producers, notify: b.clients.notify, lane: b.lanes.reply,
		now: b.with.now, stop: b.group.Context(), wait: clientWait}
	b.retry = &retryDesk{live: b.live, log: b.log, store: b.store, topics: b.topics, groups: b.groups, create: create, inner: b.inner}
	b.locks = newLockDesk(b.with.now)
	b.trans = newTransDesk(b.live, b.log, b.topics, b.offsets, b.producers, b.inner, b.with.now)
	b.topicAdmin = &topicDesk{live: b.live, log: b.log, store: b.store, topics: b.topics, offsets: b.offsets, consumers: b.consumers, names: b.names, pulls: b.pull, stats: b.stats}
	b.groupAdmin = &groupDesk{live: b.live, log: b.log, store: b.store, topics: b.topics, groups: b.groups, offsets: b.offsets, producers: b.producers, consumers: b.consumers, stats: b.stats}
	b.logState = &logDesk{live: b.live, store: b.store, settle: b.settle, stop: b.group.Context()}
	b.brokerAdmin = &brokerDesk{live: b.live, log: b.log, store: b.store, topics: b.topics, names: b.names, stats: b.stats, send: b.send, delays: b.delays, lanes: b.lanes}
	b.table = newTable(b.routes())
	return nil
}

// tasks starts what runs by the clock.
func (b *Broker) tasks(o *Options) {
	b.group.Every("clock of waiting pulls", hold.Tick, b.pull.tick)
	b.group.Every("statistics", time.Second, b.stats.tick)
	b.group.Every("expiry of clients", 10*time.Second, b.clients.expire)
	b.group.Every("check of half messages", o.TransactionCheckInterval, b.trans.check)
	if b.delays != nil {
		b.delays.start(b.group, o.FlushDelayOffsetInterval)
	}
	b.group.Every("saving of offsets and groups", o.FlushConsumerOffsetInterval, func(context.Context) error { return b.save() })
}

// save writes the tables that have changed.
func (b *Broker) save() error {
	b.filters.Clean(b.live.Load().FilterDataCleanTimeSpan)
	return errors.Join(b.offsets.Save(), b.groups.Save(), b.topics.Save(), b.filters.Save())
}

// listen opens both doors.
func (b *Broker) listen(ctx context.Context, o *Options, ro remoting.Options) (err error) {
	if b.server, err = remoting.Listen(context.WithoutCancel(ctx), ro, b); err != nil {
		return fmt.Errorf("listenPort=%d: %w; another process has it, or set another one", o.ListenPort, err)
	}
	if err = b.server.Also(ctx, net.JoinHostPort(o.ListenHost, strconv.Itoa(o.FastListenPort))); err != nil {
		return fmt.Errorf("listenPort-2=%d, which clients with the VIP channel and slaves use: %w; another process has it, or set another listenPort", o.FastListenPort, err)
	}
	return nil
}

// watchStore ends the broker when the store has failed.
func (b *Broker) watchStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-b.store.Failed():
		b.fail(fmt.Errorf("the store has failed, the broker stops: %w", b.store.Err()))
	}
	return nil
}

// fail ends Wait with err; the first call counts.
func (b *Broker) fail(err error) {
	b.failOnce.Do(func() {
		b.failure = err
		if err != nil {
			b.log.Error("the broker fails", zap.Error(err))
		}
		close(b.done)
	})
}

// Addr is the address listened on, "ip:port".
func (b *Broker) Addr() string { return b.server.Addr() }

// Wait blocks until the broker has failed, and says why, or until Stop has been
// called (nil). After a failure Stop is still to be called.
func (b *Broker) Wait() error {
	<-b.done
	return b.failure
}

// Ready says whether the broker does its work: the store takes messages and a
// nameserver, if any is configured, knows the broker. The error says what is
// missing.
func (b *Broker) Ready() error {
	select {
	case <-b.done:
		if b.failure != nil {
			return b.failure
		}
		return errors.New("the broker is stopping")
	default:
	}
	if err := b.store.CheckWritable(); err != nil {
		return err
	}
	return b.names.ready()
}

// Stop ends the broker in the reverse of the order in which it was started: it
// unregisters, answers what is in hand, saves the tables, flushes and closes the
// store. ctx bounds the waiting for peers. It may be called more than once; the
// error is that of the first call.
func (b *Broker) Stop(ctx context.Context) error {
	b.stopOnce.Do(func() {
		b.fail(nil)
		b.stopErr = b.close(ctx)
	})
	return b.stopErr
}

// saveAtEnd saves the tables for the last time. After a failure, which mostly is
// one of the same disk, ctx bounds that: the tables of some seconds ago are there.
func (b *Broker) saveAtEnd(ctx context.Context) error {
	if b.failure == nil {
		return b.save()
	}
	done := make(chan error, 1)
	task.NewGroup(ctx, b.log, nil).Go("saving of offsets and groups at the end", func(context.Context) error {
		done <- b.save()
		return nil
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the disk did not take the tables in time: %w", ctx.Err())
	}
}

// failedGrace bounds how long a broker whose store has failed waits for peers: it
// is to be gone within a second.
const failedGrace = 300 * time.Millisecond

// close ends what has been begun.
func (b *Broker) close(ctx context.Context) error {
	var errs []error
	if b.failure != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, failedGrace)
		defer cancel()
	}
	if b.names != nil {
		bye, cancel := context.WithTimeout(ctx, 3*time.Second)
		b.names.stop(bye)
		cancel()
	}
	if b.pull != nil {
		b.pull.close()
	}
	if b.server != nil {
		errs = append(errs, b.server.Stop(ctx))
	}
	if b.lanes != nil {
		errs = append(errs, b.lanes.stop(ctx))
	}
	if b.group != nil {
		b.group.Stop()
	}
	b.role.stop()
	if b.offsets != nil && b.groups != nil {
		errs = append(errs, b.saveAtEnd(ctx))
	}
	if b.store != nil {
		err := b.store.Close()
		errs = append(errs, err)
		if b.delays != nil && err == nil {
			errs = append(errs, b.delays.saveAtEnd())
		}
	}
	if b.outward != nil {
		errs = append(errs, b.outward.Stop(ctx))
	}
	return errors.Join(errs...)
}
