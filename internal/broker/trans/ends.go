package trans

import (
	"sync"

	"gomq/internal/message"
)

// mostRemembered bounds the ended transactions, and the copies of half messages,
// that a desk remembers: some megabytes each.
const mostRemembered = 1 << 17

// ends remembers which transactions were ended in this run and which copies of
// half messages belong together, so that a message is not stored twice because
// its producer answered twice: late, and to a question of the broker. What it has
// forgotten, or never knew, is answered for by the op records alone. A transaction
// is known by its root: the offset of its first half message as far as known.
type ends struct {
	mu       sync.Mutex
	underWay map[int64]bool          // roots that are being ended
	outcome  memory[message.SysFlag] // root -> commit or rollback
	root     memory[int64]           // copy -> root
}

// memory is a map that forgets its oldest entries.
type memory[V any] struct {
	most  int
	m     map[int64]V
	order []int64 // the keys, the oldest at at once there are most
	at    int
}

func newMemory[V any](most int) memory[V] { return memory[V]{most: most, m: map[int64]V{}} }

// put adds an entry; a key comes once.
func (r *memory[V]) put(key int64, v V) {
	if _, known := r.m[key]; known {
		r.m[key] = v
		return
	}
	r.m[key] = v
	if len(r.order) < r.most {
		r.order = append(r.order, key)
		return
	}
	delete(r.m, r.order[r.at])
	r.order[r.at] = key
	r.at = (r.at + 1) % r.most
}

func newEnds(most int) *ends {
	return &ends{underWay: map[int64]bool{}, outcome: newMemory[message.SysFlag](most), root: newMemory[int64](most)}
}

// rootOf is the root of the half message r.
func (e *ends) rootOf(r message.Record) int64 {
	e.mu.Lock()
	root, ok := e.root.m[r.QueueOffset()]
	e.mu.Unlock()
	if ok {
		return root
	}
	if half, ok := first(r); ok {
		return half
	}
	return r.QueueOffset()
}

// begin asks whether a transaction may be ended now. done: it has been ended in
// this way before. When it is neither done nor an error, end is to follow.
func (e *ends) begin(root int64, outcome message.SysFlag) (done bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch was := e.outcome.m[root]; {
	case e.underWay[root]:
		return false, ErrUnderWay
	case was == 0:
		e.underWay[root] = true
		return false, nil
	case was == outcome:
		return true, nil
	case was == message.Commit:
		return false, ErrCommitted
	}
	return false, ErrRolledBack
}

// end notes what became of a transaction; outcome 0: it was not ended after all.
func (e *ends) end(root int64, outcome message.SysFlag) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.underWay, root)
	if outcome != 0 {
		e.outcome.put(root, outcome)
	}
}

// has says whether the transaction was ended.
func (e *ends) has(root int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outcome.m[root] != 0
}

// moved notes that the half message of root now is the copy at half.
func (e *ends) moved(half, root int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.root.put(half, root)
}
