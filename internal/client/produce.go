package client

import (
	"context"
	"fmt"

	"gomq/internal/protocol"
)

// Sent is what a broker said of a message that it has stored.
type Sent struct {
	// Code says how safe it is: SUCCESS, or stored all the same but
	// FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT or SLAVE_NOT_AVAILABLE.
	Code int32
	protocol.SendReply
}

// Send sends a message or, with h.Batch, the encoded messages of a batch to the
// broker at addr, in the short form (310, 320). A broker that did not store it is
// a *protocol.Error.
func (c *Client) Send(ctx context.Context, addr string, h protocol.SendHeader, body []byte) (Sent, error) {
	resp, err := c.Call(ctx, addr, sendRequest(&h, body))
	if err != nil {
		return Sent{}, fmt.Errorf("sending to %s: %w", addr, err)
	}
	sent := Sent{Code: resp.Code}
	switch resp.Code {
	case protocol.Success, protocol.FlushDiskTimeout, protocol.FlushSlaveTimeout, protocol.SlaveNotAvailable:
		err = resp.Decode(&sent.SendReply)
	default:
		err = refusal(resp)
	}
	if err != nil {
		return Sent{}, fmt.Errorf("sending to %s: %w", addr, err)
	}
	return sent, nil
}

// SendOneway sends a message and waits for no answer.
func (c *Client) SendOneway(ctx context.Context, addr string, h protocol.SendHeader, body []byte) error {
	return c.Notify(ctx, addr, sendRequest(&h, body))
}

func sendRequest(h *protocol.SendHeader, body []byte) *protocol.Command {
	h.V2 = true
	code := protocol.SendMessageV2
	if h.Batch {
		code = protocol.SendBatchMessage
	}
	return protocol.NewRequest(code, h, body)
}
