package filter

import "sync"

// Cache keeps compiled expressions, and why others do not compile: clients say
// the same ones again with each heartbeat, and those who post theirs with each
// pull. Its methods may be called from any goroutine.
type Cache struct {
	limit int

	mu  sync.RWMutex
	all map[string]compiled
}

type compiled struct {
	sql *SQL
	err error
}

// NewCache makes a cache of at most limit expressions; beyond that any of them
// gives way to a new one.
func NewCache(limit int) *Cache { return &Cache{limit: limit, all: map[string]compiled{}} }

// SQL is ParseSQL of expr, done once for the same text. It does not allocate for
// a text that it knows.
func (c *Cache) SQL(expr []byte) (*SQL, error) {
	c.mu.RLock()
	known, ok := c.all[string(expr)]
	c.mu.RUnlock()
	if ok {
		return known.sql, known.err
	}
	if len(expr) > MaxExpression {
		return ParseSQL(string(expr)) // refuses it; not worth keeping
	}
	known.sql, known.err = ParseSQL(string(expr))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.limit {
		for old := range c.all {
			delete(c.all, old)
			break
		}
	}
	c.all[string(expr)] = known
	return known.sql, known.err
}
