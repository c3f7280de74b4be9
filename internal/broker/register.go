package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"gomq/internal/broker/meta"
	"gomq/internal/client"
	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/task"
	"gomq/internal/watermark"
)

const (
	// announceWait is how long the creation of a topic waits for the nameservers
	// that answer (decisions.md, Topics).
	announceWait = time.Second
	// retryFirst and retryMost are the pauses before a nameserver that failed is
	// tried again.
	retryFirst, retryMost = time.Second, 5 * time.Second
	// wholeTable is the number of topics up to which each registration carries all
	// of them. Above it a registration that follows a change carries what has
	// changed since the one before on the same connection: nameservers add to what
	// they have, and forget it when the connection ends.
	wholeTable = 256
)

// registrar tells every nameserver which topics this broker has: at the start,
// every registerNameServerPeriod, at once when a topic changes, and again when a
// nameserver comes back. Nameservers know nothing of each other, so each has a
// goroutine and a state of its own, and one that is away delays no other.
type registrar struct {
	live   *config.Live[Options]
	log    *zap.Logger
	topics *meta.Topics
	client *client.Client
	group  *task.Group

	servers []*nameserver // never changes once started

	mu     sync.Mutex // guards the rest
	wanted int64      // rises with every change that nameservers are to hear of
	leader leader     // of a slave
}

// newRegistrar makes a registrar for the nameservers of the configuration; start
// starts it.
func newRegistrar(ctx context.Context, live *config.Live[Options], log *zap.Logger, topics *meta.Topics, c *client.Client) *registrar {
	r := &registrar{live: live, log: log, topics: topics, client: c, group: task.NewGroup(context.WithoutCancel(ctx), log, nil),
		leader: leader{changed: make(chan struct{})}}
	for _, addr := range live.Load().NamesrvAddr {
		r.servers = append(r.servers, &nameserver{addr: addr, set: c.NameServers([]string{addr}), kick: make(chan struct{}, 1), tried: make(chan struct{}), told: watermark.New(0)})
	}
	return r
}

// nameserver is one of them as the broker sees it. Its goroutine owns the fields
// without a comment.
type nameserver struct {
	addr  string
	set   *client.NameServers // of this one
	kick  chan struct{}       // something has changed
	tried chan struct{}       // closed after the first try
	told  *watermark.Mark     // the newest wanted that it has accepted

	pause time.Duration // before the next try after a failure
	away  bool          // it has been said that it does not take the registration
	no    bool          // it has been said that it answers with a refusal
	whole time.Time     // when it was last told everything
	sent  map[string]*protocol.TopicConfig
	perm  int32

	mu  sync.Mutex // guards the rest
	up  bool       // it accepted the last registration
	err error      // why it did not
	reg time.Time  // of the last one accepted
	// reply is what it said of this slave's master.
	reply protocol.RegisterReply
}

// start starts a goroutine for each nameserver and waits until each has been
// tried once or ctx ends.
func (r *registrar) start(ctx context.Context) {
	for _, n := range r.servers {
		r.group.Go("registration with "+n.addr, func(ctx context.Context) error { return r.keep(ctx, n) })
	}
	for _, n := range r.servers {
		select {
		case <-n.tried:
		case <-ctx.Done():
			return
		}
	}
}

// keep is a nameserver's goroutine: register, then wait for the next reason to.
func (r *registrar) keep(ctx context.Context, n *nameserver) error {
	for {
		err := r.register(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
		wait := r.period()
		if err != nil {
			n.pause = min(max(2*n.pause, retryFirst), retryMost)
			wait = n.pause
		} else {
			n.pause = 0
		}
		r.note(n, err)
		if !n.rest(ctx, wait, r.broken(ctx, n, err)) {
			return nil
		}
	}
}

// period is the time between two registrations.
func (r *registrar) period() time.Duration {
	return min(max(r.live.Load().RegisterNameServerPeriod, 10*time.Second), time.Minute)
}

// broken is closed when the connection to the nameserver ends: it has gone, and
// when it is back it knows nothing of us.
func (r *registrar) broken(ctx context.Context, n *nameserver, err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := r.client.Conn(ctx, n.addr) // there is one, it has just been used
	if err != nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	return conn.Done()
}

// rest waits until there is a reason to register again; false: ctx has ended.
func (n *nameserver) rest(ctx context.Context, wait time.Duration, broken <-chan struct{}) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	kick := n.kick
	if n.pause > 0 {
		kick = nil // a change does not make a nameserver that is away answer sooner
	}
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-kick:
	case <-broken:
		n.sent = nil
		n.mu.Lock()
		n.up, n.err = false, errors.New("the connection has ended")
		n.mu.Unlock()
	}
	return true
}

// note keeps what became of a registration and says it when that is news: also that a
// nameserver which did not answer before has a reason of its own now, such as another
// living master of this name.
func (r *registrar) note(n *nameserver, err error) {
	n.mu.Lock()
	was := n.up
	n.up, n.err = err == nil, err
	if err == nil {
		n.reg = time.Now()
	}
	n.mu.Unlock()
	select {
	case <-n.tried:
	default:
		close(n.tried)
	}
	var answer *protocol.Error
	no := errors.As(err, &answer)
	switch {
	case err == nil && !was:
		n.away, n.no = false, false
		r.log.Info("registered with a nameserver", zap.String("nameserver", n.addr))
	case err != nil && (!n.away || no && !n.no):
		n.away, n.no = true, no
		r.log.Warn("a nameserver does not take the registration, it is tried again until it does", zap.String("nameserver", n.addr), zap.Error(err))
	}
}

// register tells the nameserver once.
func (r *registrar) register(ctx context.Context, n *nameserver) error {
	o := r.live.Load()
	r.mu.Lock()
	wanted := r.wanted
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, o.RegisterBrokerTimeoutMills)
	defer cancel()
	topics, version := r.topics.Snapshot()
	if !o.ForceRegister && n.sent != nil && r.knows(ctx, n, o, version) {
		n.told.Advance(wanted)
		return nil
	}
	got := n.set.Register(ctx, r.registration(n, o, topics, version))[0]
	if got.Err != nil {
		n.sent = nil
		return got.Err
	}
	n.sent, n.perm = topics, o.BrokerPermission
	n.told.Advance(wanted)
	if o.BrokerRole == Slave {
		r.hear(n, got.Reply)
		return nil // which topics are ordered comes from the master, like everything else
	}
	if got.Order != nil {
		if err := r.topics.SetOrder(got.Order); err != nil {
			r.log.Error("the order configuration of the nameserver could not be kept", zap.Error(err))
		}
	}
	return nil
}

// knows asks whether the nameserver has this version already; that question is a
// sign of life too.
func (r *registrar) knows(ctx context.Context, n *nameserver, o *Options, v protocol.DataVersion) bool {
	check := n.set.QueryDataVersion(ctx, brokerHeader(o), v)[0]
	return check.Err == nil && !check.Changed
}

// registration is what the nameserver is told: the whole table, or, of a large
// one, what it has not been told on this connection.
func (r *registrar) registration(n *nameserver, o *Options, topics map[string]*protocol.TopicConfig, version protocol.DataVersion) client.Registration {
	whole := n.sent == nil || len(topics) <= wholeTable || n.perm != o.BrokerPermission || time.Since(n.whole) >= r.period()
	if whole {
		n.whole = time.Now()
	}
	body := protocol.RegisterBody{Topics: make(map[string]protocol.TopicConfig), Version: version, FilterServers: []string{}}
	for name, c := range topics {
		if !whole && n.sent[name] == c {
			continue // an entry is never changed in place
		}
		t := *c
		if all := int32(meta.PermRead | meta.PermWrite); o.BrokerPermission&all != all {
			t.Perm = o.BrokerPermission
		}
		body.Topics[name] = t
	}
	return client.Registration{Body: body, Compressed: o.CompressedRegister,
		Header: protocol.RegisterHeader{BrokerName: o.BrokerName, BrokerAddr: brokerAddr(o), ClusterName: o.BrokerClusterName, HAServerAddr: haAddr(o), BrokerID: o.BrokerID}}
}

// brokerAddr is where clients find this broker.
func brokerAddr(o *Options) string {
	return net.JoinHostPort(o.BrokerIP1, strconv.Itoa(o.ListenPort))
}

func haAddr(o *Options) string { return net.JoinHostPort(o.BrokerIP2, strconv.Itoa(o.HAListenPort)) }

func brokerHeader(o *Options) protocol.BrokerHeader {
	return protocol.BrokerHeader{BrokerName: o.BrokerName, BrokerAddr: brokerAddr(o), ClusterName: o.BrokerClusterName, BrokerID: o.BrokerID}
}

// announce has every nameserver told of a change. With wait it returns once those
// that accepted their last registration have accepted this one, at most after
// announceWait; the others learn it when they come back.
func (r *registrar) announce(wait bool) {
	r.mu.Lock()
	r.wanted++
	wanted := r.wanted
	r.mu.Unlock()
	for _, n := range r.servers {
		select {
		case n.kick <- struct{}{}:
		default:
		}
	}
	if !wait {
		return
	}
	ctx, cancel := context.WithTimeout(r.group.Context(), announceWait)
	defer cancel()
	for _, n := range r.servers {
		n.mu.Lock()
		up := n.up
		n.mu.Unlock()
		if up {
			_ = n.told.Wait(ctx, wanted) // whoever is slow learns it all the same
		}
	}
}

// ready says whether somebody can find this broker: no nameserver is configured,
// or one has accepted the registration.
func (r *registrar) ready() error {
	var last error
	for _, n := range r.servers {
		n.mu.Lock()
		up, err := n.up, n.err
		n.mu.Unlock()
		if up {
			return nil
		}
		last = err
	}
	switch {
	case len(r.servers) == 0:
		return nil
	case last == nil:
		return errors.New("no nameserver has answered yet")
	}
	return fmt.Errorf("no nameserver knows this broker: %w", last)
}

// reached are the nameservers that accepted the last registration.
func (r *registrar) reached() *client.NameServers {
	var addrs []string
	for _, n := range r.servers {
		n.mu.Lock()
		if n.up {
			addrs = append(addrs, n.addr)
		}
		n.mu.Unlock()
	}
	return r.client.NameServers(addrs)
}

// stop ends the registrations and takes the broker off every nameserver that has
// it; ctx bounds that.
func (r *registrar) stop(ctx context.Context) {
	r.group.Stop()
	for _, out := range r.reached().Unregister(ctx, brokerHeader(r.live.Load())) {
		if out.Err != nil {
			r.log.Warn("a nameserver was not told that this broker ends; it forgets it by itself", zap.String("nameserver", out.Addr), zap.Error(out.Err))
		}
	}
}
