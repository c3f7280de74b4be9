package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/ha"
)

const (
	// peersPeriod is how often the nameservers are asked for the slaves of the set,
	// peersSoon how often while a slave is connected that they do not list.
	peersPeriod, peersSoon = 10 * time.Second, time.Second
	// peersKept is how long a slave stays listed that no nameserver lists any more:
	// what they forget a broker after (decisions.md, Replication).
	peersKept = 2 * time.Minute
	// mostPeers bounds the slaves of a set.
	mostPeers = 64
)

// peers is who the slaves of this master's set are: those that the nameservers
// list under its brokerName. The last known list is kept in config/haPeers.json
// for the time when no nameserver answers.
type peers struct {
	live  *config.Live[Options]
	log   *zap.Logger
	names *registrar
	now   func() time.Time
	file  string
	kick  chan struct{} // somebody is there who is not listed
	fresh func()        // told when the list may have changed

	known atomic.Pointer[peerList]

	mu    sync.Mutex // guards the rest
	seen  map[string]time.Time
	saved string
}

// peerList is the slaves that are known.
type peerList struct {
	brokers map[string]int64    // brokerAddr to brokerId
	hosts   map[netip.Addr]bool // theirs
	fixed   []netip.Prefix      // of haPeers
}

// peersFile is what is kept on the disk.
type peersFile struct {
	BrokerName string           `json:"brokerName"`
	Slaves     map[string]int64 `json:"slaves"` // brokerAddr to brokerId
}

// loadPeers reads the list; one that is missing is empty.
func loadPeers(live *config.Live[Options], log *zap.Logger, names *registrar, now func() time.Time) (*peers, error) {
	o := live.Load()
	p := &peers{live: live, log: log, names: names, now: now, file: configFile(o, "haPeers.json"), kick: make(chan struct{}, 1), seen: map[string]time.Time{}}
	data, err := os.ReadFile(p.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var f peersFile
	if err == nil {
		if err := json.Unmarshal(data, &f); err != nil {
			return nil, fmt.Errorf("%s: %w; remove it, it is made again", p.file, err)
		}
	}
	if f.BrokerName != o.BrokerName || len(f.Slaves) > mostPeers {
		f.Slaves = nil
	}
	for addr := range f.Slaves {
		p.seen[addr] = now()
	}
	p.saved = fmt.Sprint(f.Slaves)
	p.use(f.Slaves)
	return p, nil
}

// use makes the list from what is registered; names are looked up.
func (p *peers) use(brokers map[string]int64) {
	l := &peerList{brokers: brokers, hosts: map[netip.Addr]bool{}}
	for addr := range brokers {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			continue
		}
		for _, a := range lookup(host) {
			l.hosts[a] = true
		}
	}
	for _, text := range p.live.Load().HAPeers {
		text = strings.TrimSpace(text)
		if a, err := netip.ParseAddr(text); err == nil {
			l.fixed = append(l.fixed, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		} else if n, err := netip.ParsePrefix(text); err == nil {
			l.fixed = append(l.fixed, n.Masked())
		}
	}
	p.known.Store(l)
}

// lookup is the addresses of a host, none when it has no name here.
func lookup(host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range list {
		list[i] = list[i].Unmap()
	}
	return list
}

// counts says whether a peer is a slave of this set: it comes from the address of
// one that is registered, or from one that haPeers names, or it has greeted as one
// that is registered.
func (p *peers) counts(peer ha.Peer) bool {
	l := p.known.Load()
	if l.hosts[peer.Addr] || slices.ContainsFunc(l.fixed, func(n netip.Prefix) bool { return n.Contains(peer.Addr) }) {
		return true
	}
	id, ok := l.brokers[peer.Name.Addr]
	return ok && id == peer.Name.ID && peer.Name.Broker == p.live.Load().BrokerName
}

// addrs are the client addresses of the slaves that are known.
func (p *peers) addrs() []string {
	return slices.Sorted(maps.Keys(p.known.Load().brokers))
}

// keep asks the nameservers again and again.
func (p *peers) keep(ctx context.Context, urgent func() bool) error {
	for {
		p.refresh(ctx)
		wait := peersPeriod
		if urgent() {
			wait = peersSoon
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-p.kick:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		t.Stop()
		if !urgent() {
			continue
		}
		// Whoever has just come is mostly just registering.
		select {
		case <-time.After(peersSoon / 10):
		case <-ctx.Done():
			return nil
		}
	}
}

// ask has the nameservers asked soon.
func (p *peers) ask(ha.Peer) {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// refresh asks every nameserver for the slaves of the set. What any of them lists
// is one; what none lists any more goes after a while, if one answers at all.
func (p *peers) refresh(ctx context.Context) {
	o := p.live.Load()
	answered := false
	p.mu.Lock()
	defer p.mu.Unlock()
	brokers := maps.Clone(p.known.Load().brokers)
	if brokers == nil {
		brokers = map[string]int64{}
	}
	for _, n := range p.names.servers {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		info, err := p.names.client.ClusterInfoAt(ask, n.addr)
		cancel()
		if err != nil {
			continue
		}
		answered = true
		for id, addr := range info.Brokers[o.BrokerName].Addrs {
			if _, known := brokers[addr]; id > 0 && (known || len(brokers) < mostPeers) {
				brokers[addr], p.seen[addr] = id, p.now()
			}
		}
	}
	if answered {
		maps.DeleteFunc(brokers, func(addr string, _ int64) bool { return p.now().Sub(p.seen[addr]) > peersKept })
	}
	p.use(brokers)
	p.save(o, brokers)
	if p.fresh != nil {
		p.fresh()
	}
}

// save writes the list when it has changed. Held: mu.
func (p *peers) save(o *Options, brokers map[string]int64) {
	if fmt.Sprint(brokers) == p.saved {
		return
	}
	data, err := json.Marshal(peersFile{BrokerName: o.BrokerName, Slaves: brokers})
	if err == nil {
		err = config.Replace(p.file, data)
	}
	if err != nil {
		p.log.Error("the list of slaves could not be kept on the disk", zap.Error(err))
		return
	}
	p.saved = fmt.Sprint(brokers)
	var list []string
	for addr, id := range brokers {
		list = append(list, addr+" (brokerId "+strconv.FormatInt(id, 10)+")")
	}
	slices.Sort(list)
	p.log.Info("slaves of this set, as the nameservers list them", zap.Strings("slaves", list))
}
