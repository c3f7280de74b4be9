package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gomq/internal/protocol"
)

// Cluster is what nameservers and brokers say of all clusters at one time.
type Cluster struct {
	Nameservers []Nameserver `json:"nameservers"`
	Sets        []Set        `json:"sets"` // by cluster and name
	// Problems are sentences about what is not as it should be.
	Problems []string `json:"problems"`
}

// Nameserver is one nameserver's answer.
type Nameserver struct {
	Addr    string `json:"address"`
	Brokers int    `json:"brokers"` // that it knows
	Error   string `json:"error,omitempty"`
}

// Set is a master and its slaves.
type Set struct {
	Cluster string   `json:"cluster"`
	Name    string   `json:"name"`
	Brokers []Broker `json:"brokers"` // by id: the master first
}

// Broker is one broker. Figures that it does not tell are nil.
type Broker struct {
	ID      int64    `json:"id"` // 0 is the master
	Addr    string   `json:"address"`
	KnownBy []string `json:"knownBy"` // nameservers
	Version string   `json:"version,omitempty"`
	Gomq    bool     `json:"gomq"`
	Role    string   `json:"role,omitempty"`         // brokerRole of a master, where it tells
	PutTPS  *float64 `json:"putPerSecond,omitempty"` // messages, over the last 10 s
	GetTPS  *float64 `json:"getPerSecond,omitempty"`
	End     *int64   `json:"logEnd,omitempty"` // offset of the log's end
	Slave   *Copy    `json:"copy,omitempty"`   // of a slave
	Error   string   `json:"error,omitempty"`  // why it told nothing

	ha *protocol.HAStatus
}

// Copy is how a slave's log stands to its master's.
type Copy struct {
	// LagBytes is what the slave has not got yet. When the master does not tell
	// (RocketMQ 4.x), it is the difference of two ends that were read one after
	// the other. nil: one of them is not known.
	LagBytes *int64 `json:"lagBytes,omitempty"`
	// LagMessages is the same in messages that readers see; only a gomq master tells.
	LagMessages *int64 `json:"lagMessages,omitempty"`
	// InSync says that the slave counts for SYNC_MASTER and is near enough; nil: it does
	// not tell.
	InSync  *bool      `json:"inSync,omitempty"`
	LastAck *time.Time `json:"lastAck,omitempty"` // nil: not told, or never
	Error   string     `json:"error,omitempty"`   // why the slave does not copy
}

// Cluster asks every nameserver for its brokers and every broker for its figures.
// Whoever does not answer is part of the picture, not an error.
func (n *NameServers) Cluster(ctx context.Context) *Cluster {
	out := &Cluster{Problems: []string{}}
	addrs := n.Addrs()
	infos := make([]*protocol.ClusterInfo, len(addrs))
	out.Nameservers = make([]Nameserver, len(addrs))
	n.c.together(len(addrs), func(i int) {
		ns := Nameserver{Addr: addrs[i]}
		info, err := n.c.ClusterInfoAt(ctx, addrs[i])
		if err != nil {
			ns.Error = err.Error()
		} else {
			infos[i] = info
			for _, b := range info.Brokers {
				ns.Brokers += len(b.Addrs)
			}
		}
		out.Nameservers[i] = ns
	})
	out.Sets = sets(out.Nameservers, infos)
	var all []*Broker
	for i := range out.Sets {
		for k := range out.Sets[i].Brokers {
			all = append(all, &out.Sets[i].Brokers[k])
		}
	}
	n.c.together(len(all), func(i int) { n.c.look(ctx, all[i]) })
	for i := range out.Sets {
		out.Sets[i].compare()
	}
	out.judge()
	return out
}

// sets joins what the nameservers know.
func sets(servers []Nameserver, infos []*protocol.ClusterInfo) []Set {
	type place struct {
		cluster, name string
		id            int64
		addr          string
	}
	known := map[place][]string{}
	for i, info := range infos {
		if info == nil {
			continue
		}
		for name, b := range info.Brokers {
			for id, addr := range b.Addrs {
				p := place{b.Cluster, name, id, addr}
				known[p] = append(known[p], servers[i].Addr)
			}
		}
	}
	list := slices.SortedFunc(maps.Keys(known), func(a, b place) int {
		if c := strings.Compare(a.cluster+"\x00"+a.name, b.cluster+"\x00"+b.name); c != 0 {
			return c
		}
		if a.id != b.id {
			return int(max(min(a.id-b.id, 1), -1))
		}
		return strings.Compare(a.addr, b.addr)
	})
	var out []Set
	for _, p := range list {
		if k := len(out) - 1; k < 0 || out[k].Cluster != p.cluster || out[k].Name != p.name {
			out = append(out, Set{Cluster: p.cluster, Name: p.name})
		}
		s := &out[len(out)-1]
		s.Brokers = append(s.Brokers, Broker{ID: p.id, Addr: p.addr, KnownBy: known[p]})
	}
	return out
}

// look asks one broker.
func (c *Client) look(ctx context.Context, b *Broker) {
	info, err := c.RuntimeInfo(ctx, b.Addr)
	if err != nil {
		b.Error = err.Error()
		return
	}
	b.Version = info["brokerVersionDesc"]
	_, b.Gomq = info["goVersion"]
	b.PutTPS, b.GetTPS = first(info["putTps"]), first(info["getTransferedTps"])
	if end, err := strconv.ParseInt(info["commitLogMaxOffset"], 10, 64); err == nil {
		b.End = &end
	}
	if b.ID == 0 {
		b.Role = c.roleOf(ctx, b.Addr)
	}
	if !b.Gomq && !strings.HasPrefix(b.Version, "V5") {
		return // 4.x does not know the question, and 4.5.2 does not even answer it
	}
	if ha, err := c.HAStatus(ctx, b.Addr); err == nil {
		b.ha = ha
	}
}

// roleOf is the brokerRole of a broker, "" when it does not tell.
func (c *Client) roleOf(ctx context.Context, addr string) string {
	text, _, err := c.Config(ctx, addr)
	if err != nil {
		return "" // who may look at the cluster need not see configurations
	}
	for line := range strings.Lines(text) {
		if role, ok := strings.CutPrefix(line, "brokerRole="); ok {
			return strings.TrimSpace(role)
		}
	}
	return ""
}

// first is the first of the rates that the original writes behind each other: that
// of the last 10 s.
func first(text string) *float64 {
	text, _, _ = strings.Cut(text, " ")
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil
	}
	return &v
}

// HAStatus is how the copies of the log of the broker at addr stand. RocketMQ 4.x
// refuses the question with REQUEST_CODE_NOT_SUPPORTED.
func (c *Client) HAStatus(ctx context.Context, addr string) (*protocol.HAStatus, error) {
	resp, err := c.ask(ctx, addr, protocol.GetBrokerHAStatus, nil, nil)
	return parsed(resp, err, protocol.ParseHAStatus)
}

// compare says how each slave's log stands to that of the set's master.
func (s *Set) compare() {
	var master *Broker
	if len(s.Brokers) > 0 && s.Brokers[0].ID == 0 {
		master = &s.Brokers[0]
	}
	for i := range s.Brokers {
		b := &s.Brokers[i]
		if b.ID == 0 {
			continue
		}
		b.Slave = &Copy{}
		if b.ha != nil && !b.ha.Master {
			b.Slave.Error = b.ha.Client.Why
		}
		if master == nil {
			continue
		}
		if master.End != nil && b.End != nil {
			lag := max(*master.End-*b.End, 0)
			b.Slave.LagBytes = &lag
		}
		if master.ha != nil {
			b.Slave.of(master.ha, b.Addr, len(s.Brokers) == 2)
		}
	}
}

// of takes what the master says of the slave at addr. Only slaves that are gomq
// have a name there; one without is taken to be the only one of the set.
func (y *Copy) of(h *protocol.HAStatus, addr string, only bool) {
	no := false
	for i := range h.Slaves {
		s := &h.Slaves[i]
		switch {
		case s.Broker == "" && !(only && len(h.Slaves) == 1):
			return
		case s.Broker != "" && s.Broker != addr:
			continue
		}
		y.InSync, y.LagBytes = &s.InSync, &s.Diff
		if s.DiffMessages >= 0 {
			y.LagMessages = &s.DiffMessages
		}
		if s.LastAck > 0 {
			at := time.UnixMilli(s.LastAck)
			y.LastAck = &at
		}
		return
	}
	y.InSync = &no
}

// alone says whether the master is a SYNC_MASTER that no slave acknowledges to.
func (s *Set) alone() bool {
	m := &s.Brokers[0]
	switch {
	case m.Role != "SYNC_MASTER":
		return false
	case m.Gomq:
		return m.ha != nil && m.ha.InSync == 0
	}
	// RocketMQ 4.x does not tell who copies it, and 5.x waits for as many as
	// inSyncReplicas says.
	return strings.HasPrefix(m.Version, "V4") && len(s.Brokers) == 1
}

// judge says what is not as it should be.
func (k *Cluster) judge() {
	say := func(format string, args ...any) { k.Problems = append(k.Problems, fmt.Sprintf(format, args...)) }
	up := 0
	for _, ns := range k.Nameservers {
		if ns.Error != "" {
			say("nameserver %s does not answer: %s", ns.Addr, ns.Error)
		} else {
			up++
		}
	}
	for _, s := range k.Sets {
		if s.Brokers[0].ID != 0 {
			say("%s has no living master: its messages are read from its slave, new ones go to the other masters of %s", s.Name, s.Cluster)
		} else if s.alone() {
			say("no slave copies the master of %s: it is a SYNC_MASTER, stores messages in one copy and answers SLAVE_NOT_AVAILABLE", s.Name)
		}
		for _, b := range s.Brokers {
			who := fmt.Sprintf("%s %d at %s", s.Name, b.ID, b.Addr)
			if b.Error != "" {
				say("%s does not answer: %s", who, b.Error)
			}
			if len(b.KnownBy) < up {
				say("%s is known to %s only", who, strings.Join(b.KnownBy, " and "))
			}
			if c := b.Slave; c != nil {
				switch {
				case c.Error != "":
					say("%s does not copy its master: %s", who, c.Error)
				case c.InSync != nil && !*c.InSync && s.Brokers[0].ID == 0:
					say("%s does not count for its master's SYNC_MASTER, or is too far behind", who)
				}
			}
		}
	}
	if up > 0 && len(k.Sets) == 0 {
		say("no broker is registered")
	}
}
