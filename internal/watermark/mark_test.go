package watermark

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gomq/internal/chance"
)

// TestOrder: waiters are told in the order of what they wait for, each once, none
// before the mark is there.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	m := New(10)
	told := map[int]int{}
	last := int64(0)
	n, value := 0, int64(10)
	for range 3000 {
		if r.IntN(3) > 0 {
			at, id := value+r.Int64N(40)-5, n
			n++
			m.When(at, time.Time{}, Func(func(err error) {
				if err != nil || m.Load() < at {
					t.Fatalf("waiter for %d told %v at %d", at, err, m.Load())
				}
				if at > value && at < last {
					t.Fatalf("%d after %d", at, last)
				}
				last = at
				told[id]++
			}))
			continue
		}
		last = 0
		m.Advance(value + r.Int64N(20))
		value = m.Load()
	}
	m.Advance(value + 100)
	if len(told) != n || m.Waiting() != 0 {
		t.Fatalf("%d of %d told, %d wait", len(told), n, m.Waiting())
	}
	for id, k := range told {
		if k != 1 {
			t.Fatalf("waiter %d told %d times", id, k)
		}
	}
	m.Advance(5)
	if m.Load() < value {
		t.Error("the mark fell")
	}
}

func TestDeadline(t *testing.T) {
	m := New(0)
	start := time.Unix(1000, 0)
	var got []string
	note := func(name string) Func {
		return func(err error) {
			if errors.Is(err, ErrDeadline) {
				name += " late"
			}
			got = append(got, name)
		}
	}
	m.When(5, start.Add(2*time.Second), note("b"))
	m.When(3, start.Add(time.Second), note("a"))
	m.When(7, time.Time{}, note("c"))
	m.Expire(start)
	m.Expire(start.Add(time.Second))
	m.Expire(start.Add(3 * time.Second))
	m.Advance(7)
	want := []string{"a late", "b late", "c"}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestFail(t *testing.T) {
	m := New(0)
	boom := errors.New("boom")
	var errs []error
	note := Func(func(err error) { errs = append(errs, err) })
	m.When(5, time.Time{}, note)
	m.Advance(3)
	m.Fail(boom)
	m.Fail(errors.New("later"))
	m.When(3, time.Time{}, note)
	m.When(4, time.Time{}, note)
	if len(errs) != 3 || errs[0] != boom || errs[1] != nil || errs[2] != boom {
		t.Error(errs)
	}
	if err := m.Wait(t.Context(), 9); err != boom {
		t.Error(err)
	}
}

// TestConcurrent: with one advancer and many who wait, nobody is forgotten.
func TestConcurrent(t *testing.T) {
	m := New(0)
	var told atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 2000 {
				m.When(m.Load()+1+rand.Int64N(3), time.Time{}, Func(func(error) { told.Add(1) }))
			}
		})
	}
	stop := make(chan struct{})
	var adv sync.WaitGroup
	adv.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				m.Advance(m.Load() + 1)
			}
		}
	})
	all.Wait()
	close(stop)
	adv.Wait()
	m.Advance(m.Load() + 10)
	if told.Load() != 16000 {
		t.Errorf("%d told", told.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Wait(ctx, m.Load()+1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Whoever comes when the mark has passed already, while others are still being told,
// is told behind those who wait for no more: whatever happens to the mark meanwhile.
func TestOrderOfLateComers(t *testing.T) {
	for name, meanwhile := range map[string]func(m *Mark){
		"nothing": func(*Mark) {},
		"expire":  func(m *Mark) { m.Expire(time.Now().Add(time.Hour)) },
	} {
		m := New(0)
		inside, release, advanced := make(chan bool), make(chan bool), make(chan bool)
		var order []int
		told := func(i int) Waiter {
			return Func(func(err error) {
				if err != nil {
					t.Errorf("%s: %d was told %v", name, i, err)
				}
				if i == 1 {
					inside <- true
					<-release
				}
				order = append(order, i)
			})
		}
		m.When(1, time.Time{}, told(1))
		go func() { m.Advance(5); close(advanced) }()
		<-inside
		m.When(3, time.Now(), told(3))
		m.When(2, time.Now(), told(2))
		meanwhile(m)
		release <- true
		<-advanced
		m.When(4, time.Time{}, told(4)) // nobody is being told any more: at once
		if !slices.Equal(order, []int{1, 2, 3, 4}) {
			t.Errorf("%s: told in the order %v", name, order)
		}
	}
}
