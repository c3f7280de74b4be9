package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"gomq/internal/task"
)

// stopLimit is how long a role may take to drain and close after a signal.
const stopLimit = 30 * time.Second

// process is what the roles of one process share: its log, its metrics, the HTTP
// port, and the signals that end it.
type process struct {
	stdout   io.Writer // the lines that scripts grep
	log      *zap.Logger
	level    zap.AtomicLevel
	registry *prometheus.Registry
	group    *task.Group
	http     *httpServer
	signals  chan os.Signal
	asked    chan struct{}     // closed by the first signal
	options  map[string]string // keys that the command line sets, with the option's name
}

// server is a running role. It may also have Wait() error, which returns when it
// has ended, with the reason when nobody asked it to, and Ready() error.
type server interface {
	Stop(context.Context) error
}

// newProcess catches SIGTERM and SIGINT from now on: the first one asks for an
// orderly end, also of a role that is still starting; the second one ends the
// process at once.
func newProcess(ctx context.Context, stdout, stderr io.Writer, level, format string) *process {
	p := &process{stdout: stdout, registry: newRegistry(), signals: make(chan os.Signal, 2), asked: make(chan struct{})}
	p.log, p.level = newLogger(stderr, level, format)
	p.group = task.NewGroup(ctx, p.log, nil)
	signal.Notify(p.signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGPIPE) // whoever reads the log may go; a role goes on
	p.group.Go("signals", p.watchSignals)
	tuneMemory(p.log)
	return p
}

func (p *process) watchSignals(ctx context.Context) error {
	select {
	case s := <-p.signals:
		p.log.Info("stopping; a second signal ends at once", zap.String("signal", s.String()))
		close(p.asked)
	case <-ctx.Done():
		return nil
	}
	select {
	case <-p.signals:
		p.log.Warn("a second signal: ending at once, without flushing")
		_ = p.log.Sync()
		os.Exit(exitException)
	case <-ctx.Done():
	}
	return nil
}

// close ends what the process itself runs.
func (p *process) close() {
	signal.Stop(p.signals)
	p.http.stop()
	p.group.Stop()
	_ = p.log.Sync()
}

// serve runs until a signal, the end of ctx, or until one of the servers ends by
// itself, which is an error. Then it stops them, last one first.
func (p *process) serve(ctx context.Context, servers ...server) error {
	p.http.setReady(func() error {
		var errs []error
		for _, s := range servers {
			if r, ok := s.(interface{ Ready() error }); ok {
				errs = append(errs, r.Ready())
			}
		}
		return errors.Join(errs...)
	})
	ended := make(chan error, len(servers))
	for _, s := range servers {
		if w, ok := s.(interface{ Wait() error }); ok {
			p.group.Go("watch a role", func(context.Context) error { ended <- w.Wait(); return nil })
		}
	}
	var cause error
	select {
	case <-p.asked:
	case <-ctx.Done():
		p.log.Info("stopping")
	case cause = <-ended:
		if cause == nil {
			cause = errors.New("ended by itself")
		}
		p.log.Error("stopping, because something failed", zap.Error(cause))
	}
	p.http.setReady(func() error { return errors.New("stopping") })
	return errors.Join(cause, p.stop(servers))
}

func (p *process) stop(servers []server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	var errs []error
	for i := len(servers) - 1; i >= 0; i-- {
		if err := servers[i].Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("while stopping: %w", err))
		}
	}
	return errors.Join(errs...)
}
