package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/message"
	"gomq/internal/protocol"
	"gomq/internal/store"
)

const (
	syncEvery = 10 * time.Second // as in the original (behaviour.md section 18)
	syncRetry = 3 * time.Second  // after a round that failed: the master may be back
	syncSoon  = time.Second      // between two rounds at least
	syncCall  = 3 * time.Second  // for one request
	// maxPushes bounds what one round gives back to the master; the next one goes on.
	maxPushes = 10_000
)

// follower keeps a slave's tables like its master's: topics, groups, consumer
// offsets and how far the delay levels have come. Tables with versions are taken
// when theirs is newer. Consumer offsets are merged (meta/merge.go): what was
// committed here while the master was away is given to it when it is back, and a
// deliberate reset at either outranks both. What cannot be taken of one table does
// not keep the others from being taken.
//
// Nothing is taken or given while the log here is not known to be the master's: on
// another set's disk, offsets that are merged make consumers skip messages.
//
// The master is asked on its port listenPort-2, as Java's slaves do, which works
// with Java's masters as well. All fields belong to run's goroutine.
type follower struct {
	live    *config.Live[Options]
	log     *zap.Logger
	names   *registrar
	client  *client.Client
	topics  *meta.Topics
	groups  *meta.Groups
	offsets *meta.Offsets
	delays  *meta.Delays
	store   *store.Store
	drop    func(topic string) error // removes the queues of a topic that the master has no more
	related func() error             // why the log here is not known to be the master's, nil: it is
	now     func() time.Time
	taken   *atomic.Int64 // when everything was taken last, ms
	soon    chan struct{} // the log follows the master's now, or brings a topic that is not known

	life    masterLife           // the master process of the last round
	seen    protocol.OffsetTable // what that one said last, and what it has been given; nil before
	failing string               // the error that has been logged
}

// masterLife tells one run of a master from the next: a master that has started
// anew may have lost what it was last told.
type masterLife struct {
	Addr string `json:"master"`
	Boot string `json:"bootTimestamp"`
}

// follow keeps this slave's tables like its master's until the broker stops.
func (b *Broker) follow() {
	f := &follower{live: b.live, log: b.log, names: b.names, client: b.outward, topics: b.topics, groups: b.groups, offsets: b.offsets, delays: b.delayed,
		taken: &b.tablesTaken, store: b.store, drop: b.topicAdmin.drop, related: b.related, now: b.with.now, soon: b.role.begins}
	b.store.OnArrive(func(q *store.Queue, max int64) {
		b.pull.arrived(q, max)
		f.arrived(q)
	})
	b.group.Go("synchronisation with the master", f.run)
}

// arrived asks for the master's topics when there are messages of one that is not
// known: it has just been created.
func (f *follower) arrived(q *store.Queue) {
	if f.topics.Has(q.Topic()) || message.IsSystemTopic(q.Topic()) {
		return
	}
	ring(f.soon)
}

// ring wakes who waits for c, now or next.
func ring(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run synchronises once the log follows the master's, every syncEvery, when
// nameservers name another master or a topic is not known, and soon after a round that
// failed.
func (f *follower) run(ctx context.Context) error {
	f.loadLife()
	for ctx.Err() == nil {
		changed := f.names.masterChanged()
		f.settle(ctx)
		err := f.round(ctx)
		wait := syncEvery
		if err != nil {
			wait = syncRetry
			err = errors.Join(err, f.adopt())
		} else {
			f.taken.Store(f.now().UnixMilli())
		}
		f.note(ctx, err)
		if rest(ctx, syncSoon, nil, nil) {
			rest(ctx, wait-syncSoon, changed, f.soon)
		}
	}
	return nil
}

// related says why the log of this slave is not known to be its master's.
func (b *Broker) related() error {
	st, _ := b.replicaState()
	switch {
	case st.Follows:
		return nil
	case st.Err != nil:
		return fmt.Errorf("this slave does not copy its master: %w", st.Err)
	}
	return errors.New("this slave does not copy its master yet")
}

// settle gives the log a moment to find its master.
func (f *follower) settle(ctx context.Context) {
	if f.related() != nil {
		rest(ctx, syncRetry, f.soon, nil)
	}
}

// rest waits for the time given, the end of ctx (false) or one of the events.
func rest(ctx context.Context, wait time.Duration, a, b <-chan struct{}) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-a:
	case <-b:
	case <-t.C:
	}
	return true
}

// adopt makes the topics known that this slave has messages of, when the master
// that created them died before it told: they were acknowledged, and consumers are
// to read them here.
func (f *follower) adopt() error {
	queues := map[string]int32{}
	for _, q := range f.store.Queues() {
		if topic := q.Topic(); q.Max() > 0 && !f.topics.Has(topic) && !message.IsSystemTopic(topic) {
			queues[topic] = max(queues[topic], q.ID()+1)
		}
	}
	var errs []error
	for topic, n := range queues {
		err := f.topics.Adopt(topic, max(n, f.live.Load().DefaultTopicQueueNums))
		if err == nil {
			f.log.Warn("this slave has messages of a topic that its master, which does not answer, had just created; they are served", zap.String("topic", topic))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// note says when the tables stop being the master's, and when they are again.
func (f *follower) note(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == f.failing || ctx.Err() != nil:
	case err != nil:
		f.log.Warn("topics, groups and offsets do not come from the master, what is here is served; it is tried again", zap.Error(err))
	default:
		f.log.Info("topics, groups and offsets come from the master", zap.String("master", f.life.Addr))
	}
	if ctx.Err() == nil {
		f.failing = text
	}
}

// round asks the master for everything once.
func (f *follower) round(ctx context.Context) error {
	master, _ := f.names.master()
	if master == "" {
		return errors.New("no nameserver names a living master yet")
	}
	if err := f.related(); err != nil {
		return err
	}
	addr, err := vipAddr(master)
	if err != nil {
		return err
	}
	var info protocol.KVTable
	if err := f.call(ctx, func(ctx context.Context) (err error) { info, err = f.client.RuntimeInfo(ctx, addr); return err }); err != nil {
		return err
	}
	life := masterLife{Addr: master, Boot: info["bootTimestamp"]}
	return errors.Join(
		f.call(ctx, func(ctx context.Context) error { return f.takeTopics(ctx, addr) }),
		f.call(ctx, func(ctx context.Context) error { return f.takeGroups(ctx, addr) }),
		f.takeOffsets(ctx, addr, life),
		f.call(ctx, func(ctx context.Context) error { return f.takeDelays(ctx, addr) }),
	)
}

func (f *follower) call(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, syncCall)
	defer cancel()
	return fn(ctx)
}

// vipAddr is the second port of a broker, two below.
func vipAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil || n < 3 {
		return "", fmt.Errorf("the nameserver names %q as the master, which is no host:port", addr)
	}
	return net.JoinHostPort(host, strconv.Itoa(n-2)), nil
}

func (f *follower) takeTopics(ctx context.Context, addr string) error {
	topics, version, err := f.client.TopicConfigs(ctx, addr)
	if err != nil {
		return err
	}
	gone, err := f.topics.Take(topics, version)
	for _, topic := range gone {
		f.log.Info("the master has deleted a topic", zap.String("topic", topic))
		err = errors.Join(err, f.drop(topic))
	}
	return errors.Join(err, f.topics.Save())
}

func (f *follower) takeGroups(ctx context.Context, addr string) error {
	groups, version, err := f.client.GroupConfigs(ctx, addr)
	if err != nil {
		return err
	}
	_, err = f.groups.Take(groups, version)
	return errors.Join(err, f.groups.Save())
}

// lifeFile is where the slave remembers which run of its master it followed.
func (f *follower) lifeFile() string { return configFile(f.live.Load(), "slaveSync.json") }

func (f *follower) loadLife() {
	if data, err := os.ReadFile(f.lifeFile()); err == nil {
		_ = json.Unmarshal(data, &f.life) // without it the next master counts as a new one
	}
}

func (f *follower) keepLife(life masterLife) error {
	if f.life == life {
		return nil
	}
	f.life = life
	data, err := json.Marshal(life)
	if err == nil {
		err = config.Replace(f.lifeFile(), data)
	}
	return err
}

// takeDelays keeps how far the master's delay levels have come in delayOffset.json,
// for the day on which this broker is made a master. A level never goes back.
func (f *follower) takeDelays(ctx context.Context, addr string) error {
	table, err := f.client.DelayOffsets(ctx, addr)
	if code, refused := client.Code(err); refused && (code == protocol.RequestCodeNotSupported || code == protocol.SystemError) {
		return nil // it has none
	}
	if err != nil {
		return err
	}
	const mostLevels = 1000
	if len(table) > mostLevels {
		return fmt.Errorf("the master has %d delay levels, at most %d are taken", len(table), mostLevels)
	}
	for level, offset := range table {
		if level > 0 && offset > f.delays.Get(int(level)) {
			f.delays.Set(int(level), offset)
		}
	}
	return f.delays.Save(func() error { return nil }) // what the master calls delivered is on its disk
}
