// Package task owns goroutines. Every goroutine of gomq is started by a Group,
// which can name what it runs and ends only when all of it has ended.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Group is a set of goroutines that end together. Its methods may be called
// from any goroutine.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	log    *zap.Logger
	fail   func(name string, err error)
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the rest
	stopped  bool
	periodic []*Status
}

// Status describes a periodic task for people.
type Status struct {
	Name     string
	Interval time.Duration
	Runs     int64
	LastRun  time.Time // zero before the first run
	Took     time.Duration
	Err      error // of the last run
}

// NewGroup makes a group whose goroutines see a context that ends with ctx or
// with Stop. log may be nil. fail (nil: log only) is told of a goroutine that
// returned an error or panicked; it is called on that goroutine and must not
// call Stop.
func NewGroup(ctx context.Context, log *zap.Logger, fail func(name string, err error)) *Group {
	if log == nil {
		log = zap.NewNop()
	}
	g := &Group{log: log, fail: fail}
	g.ctx, g.cancel = context.WithCancel(ctx)
	return g
}

// Context ends when the group is told to stop.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs fn in a goroutine of the group; after Stop it does nothing and
// returns false. fn must return soon after its context ends.
func (g *Group) Go(name string, fn func(ctx context.Context) error) bool {
	g.mu.Lock()
	if g.stopped {
		g.mu.Unlock()
		return false
	}
	g.wg.Add(1)
	g.mu.Unlock()
	go func() {
		defer g.wg.Done()
		if err := g.run(name, fn); err != nil && !errors.Is(err, context.Canceled) {
			g.report(name, err)
		}
	}()
	return true
}

// Every runs fn each interval until the group stops, first after one interval.
// An error or a panic of one run is reported and the next run comes all the
// same. A run that takes longer than the interval delays the next one.
func (g *Group) Every(name string, interval time.Duration, fn func(ctx context.Context) error) {
	s := &Status{Name: name, Interval: interval}
	g.mu.Lock()
	g.periodic = append(g.periodic, s)
	g.mu.Unlock()
	g.Go(name, func(ctx context.Context) error {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.C:
			}
			start := time.Now()
			err := g.run(name, fn)
			g.mu.Lock()
			s.Runs, s.LastRun, s.Took, s.Err = s.Runs+1, start, time.Since(start), err
			g.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				g.report(name, err)
			}
		}
	})
}

// Periodic lists the tasks started with Every, by name.
func (g *Group) Periodic() []Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Status, len(g.periodic))
	for i, s := range g.periodic {
		out[i] = *s
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Stop ends the group's context, waits until every goroutine has returned, and
// lets no new one start. It may be called more than once, not from one of them.
func (g *Group) Stop() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
}

// run calls fn; a panic becomes an error with its stack.
func (g *Group) run(name string, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s panicked: %v\n%s", name, v, debug.Stack())
		}
	}()
	return fn(g.ctx)
}

func (g *Group) report(name string, err error) {
	g.log.Error("a task failed", zap.String("task", name), zap.Error(err))
	if g.fail != nil {
		g.fail(name, err)
	}
}
