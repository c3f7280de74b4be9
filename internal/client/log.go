package client

import (
	"context"

	"gomq/internal/protocol"
)

// LogState is what the gomq broker at addr has of its log, with the CRC-32C of
// [from, to) unless that is empty. Any other broker refuses.
func (c *Client) LogState(ctx context.Context, addr string, from, to int64) (protocol.LogStateReply, error) {
	var r protocol.LogStateReply
	_, err := c.askFor(ctx, addr, protocol.LogState, &protocol.LogStateHeader{From: from, To: to}, nil, &r)
	return r, err
}

// ReadLog is bytes of the log of the gomq broker at addr from the offset from on,
// at most most and never across the end of a file.
func (c *Client) ReadLog(ctx context.Context, addr string, from int64, most int32) ([]byte, error) {
	resp, err := c.ask(ctx, addr, protocol.ReadLog, &protocol.ReadLogHeader{From: from, Most: most}, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
