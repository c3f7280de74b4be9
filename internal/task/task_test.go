package task

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopJoins(t *testing.T) {
	g := NewGroup(t.Context(), nil, nil)
	var ended atomic.Int32
	for range 10 {
		g.Go("waits", func(ctx context.Context) error {
			<-ctx.Done()
			ended.Add(1)
			return ctx.Err()
		})
	}
	g.Stop()
	if ended.Load() != 10 {
		t.Errorf("%d ended", ended.Load())
	}
	if g.Go("late", func(context.Context) error { t.Error("runs after Stop"); return nil }) {
		t.Error("Go after Stop says that it runs")
	}
	g.Stop()
}

func TestFailuresAreReported(t *testing.T) {
	errs := make(chan string, 2)
	g := NewGroup(t.Context(), nil, func(name string, err error) { errs <- name + ": " + err.Error() })
	g.Go("fails", func(context.Context) error { return errors.New("broken") })
	if got := <-errs; got != "fails: broken" {
		t.Error(got)
	}
	g.Go("panics", func(context.Context) error { panic("boom") })
	if got := <-errs; !strings.HasPrefix(got, "panics: panics panicked: boom") {
		t.Error(got)
	}
	g.Stop()
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		g := NewGroup(t.Context(), nil, func(string, error) { failed++ })
		runs := 0
		g.Every("b", time.Second, func(context.Context) error {
			runs++
			if runs == 2 {
				return errors.New("once")
			}
			return nil
		})
		g.Every("a", time.Hour, func(context.Context) error { return nil })
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		list := g.Periodic()
		if runs != 3 || failed != 1 || len(list) != 2 || list[0].Name != "a" || list[1].Runs != 3 || list[1].Err != nil {
			t.Errorf("%d runs, %d failed, %+v", runs, failed, list)
		}
		g.Stop()
	})
}
