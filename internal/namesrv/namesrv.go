// Package namesrv is the nameserver: it knows which brokers live and which topics
// they serve, tells clients, and keeps a small key-value configuration. Several
// run side by side and know nothing of each other; brokers register with all.
//
// Everything but the key-value configuration lives in memory: a nameserver that
// starts knows nothing until brokers have registered, within 30 s.
package namesrv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/remoting"
	"gomq/internal/task"
)

// Server is a running nameserver.
type Server struct {
	live    *config.Live[Options]
	log     *zap.Logger
	table   *table
	kv      *kv
	door    *remoting.Server
	lane    *remoting.Lane // what writes files
	group   *task.Group
	metrics *metrics
}

const firstScan = 5 * time.Second

// Start starts a nameserver; reg may be nil. It listens when Start returns. When
// ctx ends it closes everything without waiting, Stop is the orderly way. Errors
// say what to do: the port is in use, a certificate cannot be used, a file of the KV
// configuration is damaged.
func Start(ctx context.Context, live *config.Live[Options], log *zap.Logger, reg prometheus.Registerer) (*Server, error) {
	o := live.Load()
	if log == nil {
		log = zap.NewNop()
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	door := remoting.NewMetrics(reg)
	ro, err := o.Door(log, door)
	if err != nil {
		return nil, err
	}
	ro.Listener = o.Listener
	store, err := openKV(o.KVConfigPath, log)
	if err != nil {
		return nil, err
	}
	s := &Server{live: live, log: log, table: newTable(o.BrokerExpiredTimeMillis, now), kv: store,
		group: task.NewGroup(ctx, log, nil)}
	s.metrics = newMetrics(s.table, reg)
	s.lane = remoting.NewLane(ctx, remoting.LaneOptions{Name: "namesrv-files", Workers: 1, Queue: 1000, Log: log, Metrics: door})
	s.tellOrders()
	live.OnUpdate(func(*Options) { s.tellOrders() })
	if s.door, err = remoting.Listen(ctx, ro, s); err != nil {
		s.metrics.unregister()
		return nil, explain(err, o)
	}
	s.group.Go("namesrv sweeper", s.sweep)
	return s, nil
}

// explain says what to do about a listener that could not be had.
func explain(err error, o *Options) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("port %d is in use: stop the process that has it, or set listenPort: %w", o.ListenPort, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine: set listenHost: %w", o.ListenHost, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("port %d may not be used by this user: set listenPort to 1024 or more: %w", o.ListenPort, err)
	}
	return err
}

// Addr is the address listened on, "ip:port".
func (s *Server) Addr() string { return s.door.Addr() }

// Stop accepts and reads no more, answers what it has been asked, closes its
// connections and joins its goroutines; ctx bounds the waiting. It may be called
// more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.group.Stop()
	err := errors.Join(s.door.Stop(ctx), s.lane.Stop(ctx))
	s.metrics.unregister()
	return err
}

// sweep takes brokers away that have fallen silent.
func (s *Server) sweep(ctx context.Context) error {
	every := s.live.Load().ScanNotActiveBrokerInterval
	t := time.NewTimer(min(firstScan, every))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			s.scan()
			t.Reset(every)
		}
	}
}

// scan is one look for silent brokers.
func (s *Server) scan() {
	for _, b := range s.table.expire(s.live.Load().ScanNotActiveBrokerInterval) {
		s.metrics.expired.Inc()
		s.log.Warn("broker expired: it has not registered in time", zap.String("broker", b.name), zap.Int64("id", b.id),
			zap.String("addr", b.addr), zap.Duration("limit", s.table.expiry))
		if c, ok := b.conn.(*remoting.Conn); ok {
			c.Close(errors.New("its broker was not heard of in time"))
		}
	}
}

// Closed implements remoting.Handler: what a connection registered last goes
// with it.
func (s *Server) Closed(c *remoting.Conn) {
	for _, b := range s.table.closed(c) {
		s.metrics.expired.Inc()
		s.log.Warn("broker gone: its connection ended", zap.String("broker", b.name), zap.Int64("id", b.id),
			zap.String("addr", b.addr), zap.NamedError("cause", c.Err()))
	}
}

// tellOrders gives the table what routes are to carry of ORDER_TOPIC_CONFIG.
func (s *Server) tellOrders() {
	if s.live.Load().OrderMessageEnable {
		s.table.setOrders(s.kv.namespace(orderNamespace))
	} else {
		s.table.setOrders(nil)
	}
}

// prepareDir makes the directory of a file.
func prepareDir(file string) error { return os.MkdirAll(filepath.Dir(file), 0o755) }
