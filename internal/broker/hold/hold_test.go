package hold

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gomq/internal/chance"
)

// A model: a plain slice of what is parked. Random operations on both must hand
// out the same pulls.
func TestAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(chance.Seed(t), 1))
	now := time.Unix(1000, 0)
	h := New[int, int](500, now)
	type parked struct {
		key    int
		offset int64
		due    time.Time
		id     int
	}
	var model []parked
	next := 0
	check := func(op string, got []int, gone func(parked) bool) {
		t.Helper()
		var want []int
		model = slices.DeleteFunc(model, func(p parked) bool {
			if gone(p) {
				want = append(want, p.id)
				return true
			}
			return false
		})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%s handed out %v, want %v", op, got, want)
		}
		if h.Len() != len(model) {
			t.Fatalf("%s: %d parked, want %d", op, h.Len(), len(model))
		}
	}
	for range 20000 {
		switch r.IntN(6) {
		case 0, 1, 2:
			p := parked{r.IntN(20), r.Int64N(50), now.Add(time.Duration(r.Int64N(int64(90 * time.Second)))), next}
			next++
			if ok := h.Park(p.key, p.offset, p.due, p.id); ok != (len(model) < 500) {
				t.Fatalf("Park said %v with %d parked", ok, len(model))
			} else if ok {
				model = append(model, p)
			}
		case 3:
			k, m := r.IntN(20), r.Int64N(50)
			check("Arrived", h.Arrived(k, m, nil), func(p parked) bool { return p.key == k && p.offset < m })
		case 4:
			now = now.Add(time.Duration(r.Int64N(int64(3 * time.Second)))).Truncate(Tick)
			// The wheel rounds up to a Tick and never hands out in the tick of parking.
			got := h.Expire(now, nil)
			for _, id := range got {
				i := slices.IndexFunc(model, func(p parked) bool { return p.id == id })
				if i < 0 || model[i].due.After(now) {
					t.Fatalf("pull %d expired early", id)
				}
				model = slices.Delete(model, i, i+1)
			}
			for _, p := range model {
				if p.due.Before(now.Add(-Tick)) {
					t.Fatalf("pull %d due %v still parked at %v", p.id, p.due, now)
				}
			}
		case 5:
			if r.IntN(20) == 0 {
				k := r.IntN(20)
				check("Drop", h.Drop(k, nil), func(p parked) bool { return p.key == k })
			}
		}
	}
	check("Drain", h.Drain(nil), func(parked) bool { return true })
	if len(h.queues) != 0 {
		t.Fatal("queues left behind")
	}
}

func TestArrivedKeepsOrder(t *testing.T) {
	now := time.Unix(0, 0)
	h := New[string, int](10, now)
	for i := range 5 {
		h.Park("q", int64(i), now.Add(time.Minute), i)
	}
	if got := h.Arrived("q", 3, nil); !slices.Equal(got, []int{0, 1, 2}) {
		t.Fatalf("got %v", got)
	}
}

func BenchmarkLeaveAndEnter(b *testing.B) {
	now := time.Unix(0, 0)
	h := New[int, int](1<<20, now)
	for i := range 100_000 {
		h.Park(i, 0, now.Add(15*time.Second), i)
	}
	b.ReportAllocs()
	var out []int
	i := 0
	for b.Loop() {
		i = (i + 1) % 100_000
		out = h.Arrived(i, 1, out[:0])
		h.Park(i, 0, now.Add(15*time.Second), i)
	}
}
