// Package clients knows which producers and consumers are connected: what their
// heartbeats said, until they leave, their connection closes, or nothing has
// been heard of them for Expiry. C is the connection, only ever compared.
package clients

import (
	"time"

	"gomq/internal/protocol"
)

// Expiry is how long a client counts as present without a heartbeat
// (wire.md section 9: clients send one every 30 s).
const Expiry = 120 * time.Second

// Client is one connected client as its last heartbeat described it.
type Client[C comparable] struct {
	Conn     C
	ID       string
	Language protocol.Language
	Version  int32
	Seen     time.Time
}
