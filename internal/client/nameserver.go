package client

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"gomq/internal/protocol"
)

// NameServers is a list of nameservers that know nothing of each other: what is
// written goes to all of them, what is read comes from the first that answers.
type NameServers struct {
	c *Client

	mu    sync.Mutex // guards the rest
	addrs []string
	first int // the one that answered last, asked first
}

// NameServers makes the list of addrs ("host:port" each).
func (c *Client) NameServers(addrs []string) *NameServers {
	return &NameServers{c: c, addrs: slices.Clone(addrs)}
}

// Addrs is the list.
func (n *NameServers) Addrs() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.addrs)
}

// SetAddrs replaces the list.
func (n *NameServers) SetAddrs(addrs []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs, n.first = slices.Clone(addrs), 0
}

// Outcome is what one nameserver made of a request that went to all.
type Outcome struct {
	Addr string
	Err  error
}

// each calls fn for every address at once and returns what they returned, in the
// list's order.
func each[T any](n *NameServers, fn func(addr string) T) []T {
	addrs := n.Addrs()
	out := make([]T, len(addrs))
	n.c.together(len(addrs), func(i int) { out[i] = fn(addrs[i]) })
	return out
}

// together calls fn for 0 to n-1, a few dozen beside each other, and returns when
// all have.
func (c *Client) together(n int, fn func(i int)) {
	const most = 32
	turns := make(chan struct{}, most)
	var all sync.WaitGroup
	for i := range n {
		turns <- struct{}{}
		all.Add(1)
		run := func(context.Context) error {
			defer func() { <-turns; all.Done() }()
			fn(i)
			return nil
		}
		if n == 1 || !c.group.Go("one of several calls", run) {
			_ = run(nil) // the only one; or the client has been stopped, and the call will say so
		}
	}
	all.Wait()
}

// all sends the same request to every nameserver.
func (n *NameServers) all(ctx context.Context, code int32, header func() protocol.Header) []Outcome {
	return each(n, func(addr string) Outcome {
		_, err := n.c.ask(ctx, addr, code, header(), nil)
		return Outcome{addr, err}
	})
}

// any asks one nameserver after the other until one gives a good answer. When
// none does, the error is the last one's: a refusal rather than a failure to
// connect.
func (n *NameServers) any(ctx context.Context, code int32, header protocol.Header, body []byte, reply protocol.Header) (*protocol.Command, error) {
	n.mu.Lock()
	addrs, first := slices.Clone(n.addrs), n.first
	n.mu.Unlock()
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s: no nameserver is configured", requestName(code))
	}
	var failed error
	for i := range addrs {
		at := (first + i) % len(addrs)
		resp, err := n.c.askFor(ctx, addrs[at], code, header, body, reply)
		if err == nil {
			n.mu.Lock()
			if at < len(n.addrs) {
				n.first = at
			}
			n.mu.Unlock()
			return resp, nil
		}
		if _, refused := Code(err); refused || failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// Registration is what a broker tells its nameservers.
type Registration struct {
	Header protocol.RegisterHeader // Compressed and BodyCRC32 are set when sending
	Body   protocol.RegisterBody
	// Compressed sends the body deflated; topics' order and sysFlag do not fit in
	// that form (wire.md section 17).
	Compressed bool
}

// Registered is one nameserver's answer to a registration.
type Registered struct {
	Addr  string
	Reply protocol.RegisterReply // master and its HA address, for a slave
	Order protocol.KVTable       // namespace ORDER_TOPIC_CONFIG; nil when there is none
	Err   error
}

func (r *Registration) request() *protocol.Command {
	h := r.Header
	var body []byte
	if r.Compressed {
		body = r.Body.AppendCompressed(nil)
	} else {
		body = r.Body.Append(nil)
	}
	h.Compressed, h.BodyCRC32 = r.Compressed, protocol.RegisterCRC(body)
	return protocol.NewRequest(protocol.RegisterBroker, &h, body)
}

// Register registers with every nameserver at once and returns their answers in
// the list's order. ctx bounds all of it; without a deadline each has the
// client's timeout.
func (n *NameServers) Register(ctx context.Context, r Registration) []Registered {
	req := r.request()
	return each(n, func(addr string) Registered {
		got := Registered{Addr: addr}
		var resp *protocol.Command
		if resp, got.Err = n.c.Call(ctx, addr, req.Clone()); got.Err == nil {
			got.Err = got.read(resp)
		}
		if got.Err != nil {
			got.Err = fmt.Errorf("registering with %s: %w", addr, got.Err)
		}
		return got
	})
}

func (r *Registered) read(resp *protocol.Command) (err error) {
	if resp.Code != protocol.Success {
		return refusal(resp)
	}
	if err = resp.Decode(&r.Reply); err != nil || len(resp.Body) == 0 {
		return err
	}
	r.Order, err = protocol.ParseKVTable(resp.Body)
	return err
}

// RegisterOneway registers with every nameserver and waits for no answer.
func (n *NameServers) RegisterOneway(ctx context.Context, r Registration) []Outcome {
	req := r.request()
	return each(n, func(addr string) Outcome {
		return Outcome{addr, n.c.Notify(ctx, addr, req.Clone())}
	})
}

// Unregister takes a broker off every nameserver.
func (n *NameServers) Unregister(ctx context.Context, h protocol.BrokerHeader) []Outcome {
	return n.all(ctx, protocol.UnregisterBroker, func() protocol.Header { h := h; return &h })
}

// VersionCheck is one nameserver's answer to QueryDataVersion.
type VersionCheck struct {
	Addr    string
	Changed bool                  // it has another version or none
	Version *protocol.DataVersion // its own; nil when it does not know the broker
	Err     error
}

// QueryDataVersion asks every nameserver whether it has this version of the
// broker's topics; one that has takes it as a sign of life.
func (n *NameServers) QueryDataVersion(ctx context.Context, h protocol.BrokerHeader, v protocol.DataVersion) []VersionCheck {
	body := v.Append(nil)
	return each(n, func(addr string) VersionCheck {
		h := h
		var reply protocol.DataVersionReply
		got := VersionCheck{Addr: addr}
		resp, err := n.c.askFor(ctx, addr, protocol.QueryDataVersion, &h, body, &reply)
		if err == nil && len(resp.Body) > 0 {
			var has protocol.DataVersion
			if has, err = protocol.ParseDataVersion(resp.Body); err == nil {
				got.Version = &has
			}
		}
		got.Changed, got.Err = reply.Changed, err
		return got
	})
}

// PutKV sets a key of the KV configuration on every nameserver.
func (n *NameServers) PutKV(ctx context.Context, namespace, key, value string) []Outcome {
	return n.all(ctx, protocol.PutKVConfig, func() protocol.Header {
		return &protocol.KVHeader{Put: true, Namespace: namespace, Key: key, Value: value}
	})
}

// DeleteKV deletes a key on every nameserver.
func (n *NameServers) DeleteKV(ctx context.Context, namespace, key string) []Outcome {
	return n.all(ctx, protocol.DeleteKVConfig, func() protocol.Header {
		return &protocol.KVHeader{Namespace: namespace, Key: key}
	})
}

// GetKV reads a key; a missing one is refused with QUERY_NOT_FOUND.
func (n *NameServers) GetKV(ctx context.Context, namespace, key string) (string, error) {
	var reply protocol.KVReply
	_, err := n.any(ctx, protocol.GetKVConfig, &protocol.KVHeader{Namespace: namespace, Key: key}, nil, &reply)
	return reply.Value, err
}

// KVs reads a namespace; a missing one is refused with QUERY_NOT_FOUND.
func (n *NameServers) KVs(ctx context.Context, namespace string) (protocol.KVTable, error) {
	resp, err := n.any(ctx, protocol.GetKVListByNamespace, &protocol.NamespaceHeader{Namespace: namespace}, nil, nil)
	return parsed(resp, err, protocol.ParseKVTable)
}

// NameServerConfig is the configuration of the nameserver at addr: key=value lines.
func (c *Client) NameServerConfig(ctx context.Context, addr string) (string, error) {
	resp, err := c.ask(ctx, addr, protocol.GetNamesrvConfig, nil, nil)
	if err != nil {
		return "", err
	}
	return string(resp.Body), nil
}

// UpdateConfig changes the configuration of every nameserver; text is properties.
func (n *NameServers) UpdateConfig(ctx context.Context, text string) []Outcome {
	return each(n, func(addr string) Outcome {
		_, err := n.c.ask(ctx, addr, protocol.UpdateNamesrvConfig, nil, []byte(text))
		return Outcome{addr, err}
	})
}
