// Package clients knows which producers and consumers are connected: what their
// heartbeats said, until they leave, their connection closes, or nothing has
// been heard of them for Expiry. C is the connection, only ever compared.
package clients

import (
	"errors"
	"slices"
	"time"

	"gomq/internal/protocol"
)

// Expiry is how long a client counts as present without a heartbeat
// (wire.md section 9: clients send one every 30 s).
const Expiry = 120 * time.Second

// maxGroups is how many groups of each kind one connection may be a member of.
const maxGroups = 1000

// ErrTooManyGroups is returned when a connection would be in more than 1,000
// producer or 1,000 consumer groups.
var ErrTooManyGroups = errors.New("this connection is a member of 1000 groups already, the most that a broker takes")

// Client is one connected client as its last heartbeat described it.
type Client[C comparable] struct {
	Conn     C
	ID       string
	Language protocol.Language
	Version  int32
	Seen     time.Time
}

// joined says which groups each connection is in, so that a close does not have
// to look at all of them.
type joined[C comparable] map[C][]string

func (j joined[C]) add(conn C, group string) error {
	if len(j[conn]) >= maxGroups {
		return ErrTooManyGroups
	}
	j[conn] = append(j[conn], group)
	return nil
}

func (j joined[C]) drop(conn C, group string) {
	left := slices.DeleteFunc(j[conn], func(g string) bool { return g == group })
	if len(left) == 0 {
		delete(j, conn)
		return
	}
	j[conn] = left
}
