package broker

import (
	"sync/atomic"

	"gomq/internal/filter"
	"gomq/internal/remoting"
)

// desk is the state of one connection, kept from Turn to Turn. It belongs to the
// connection's reader, except for what says otherwise.
type desk struct {
	conn  *remoting.Conn
	out   *outgoing // the sends of the Turn; nil when it has none
	tags  map[string]*filter.Tags
	pulls pullCount // any goroutine
}

// maxTags bounds the compiled expressions that a desk remembers.
const maxTags = 64

// tagsOf compiles a tag expression that came with a pull; pulls mostly bring the
// same ones. cold says that this is not the connection's reader.
func (d *desk) tagsOf(expr []byte, cold bool) *filter.Tags {
	if cold {
		return filter.ParseTags(string(expr))
	}
	if t, ok := d.tags[string(expr)]; ok {
		return t
	}
	t := filter.ParseTags(string(expr))
	if d.tags == nil || len(d.tags) >= maxTags {
		d.tags = map[string]*filter.Tags{}
	}
	d.tags[string(expr)] = t
	return t
}

// pullCount counts the parked pulls of a connection.
type pullCount struct{ n atomic.Int32 }

func (c *pullCount) enter(most int) bool {
	if int(c.n.Add(1)) > most {
		c.n.Add(-1)
		return false
	}
	return true
}

func (c *pullCount) leave() { c.n.Add(-1) }
