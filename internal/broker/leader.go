package broker

import (
	"errors"

	"go.uber.org/zap"

	"gomq/internal/protocol"
)

// leader is where a slave finds its master.
type leader struct {
	addr, ha string
	changed  chan struct{} // closed when one of the two changes, and then another one
}

// hear takes what a nameserver says of this slave's master. Nameservers know
// nothing of each other and may disagree for a while: the master that is known
// stays for as long as one of them that answers names it. When none names one it
// stays as well, because that is where a master that died comes back.
func (r *registrar) hear(n *nameserver, reply protocol.RegisterReply) {
	n.mu.Lock()
	n.reply = reply
	n.mu.Unlock()
	if reply.MasterAddr == "" || reply.MasterAddr == brokerAddr(r.live.Load()) {
		return
	}
	known, _ := r.master()
	if known != reply.MasterAddr && known != "" && r.named(known, n) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.leader
	if l.addr == reply.MasterAddr && l.ha == reply.HAServerAddr {
		return
	}
	r.log.Info("a nameserver names the master", zap.String("nameserver", n.addr), zap.String("master", reply.MasterAddr),
		zap.String("replication", reply.HAServerAddr), zap.String("before", l.addr))
	l.addr, l.ha = reply.MasterAddr, reply.HAServerAddr
	close(l.changed)
	l.changed = make(chan struct{})
}

// named says whether a nameserver other than n, one that answers, names addr as
// the master.
func (r *registrar) named(addr string, n *nameserver) bool {
	for _, other := range r.servers {
		if other == n {
			continue
		}
		other.mu.Lock()
		yes := other.up && other.reply.MasterAddr == addr
		other.mu.Unlock()
		if yes {
			return true
		}
	}
	return false
}

// master is the address of this slave's master and that of its replication port
// (haMasterAddress, when it is set). Both are "" until a nameserver has named a
// master; a master that has gone keeps its place until another one is named.
func (r *registrar) master() (addr, ha string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addr, ha = r.leader.addr, r.leader.ha
	if fixed := r.live.Load().HAMasterAddress; fixed != "" {
		ha = fixed
	}
	return addr, ha
}

// masterChanged is closed when master says something else than now.
func (r *registrar) masterChanged() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leader.changed
}

// errSlave is why a slave takes no messages; producers find a master by the route.
var errSlave = errors.New("this broker is a slave")

// onlyMaster refuses a change of topics or groups on a slave: they come from its
// master (requests.md, 17 and 200).
func onlyMaster(o *Options) error {
	if o.BrokerRole == Slave {
		return refuse(protocol.SystemError, "Can't modify topic or subscription group from slave broker, please execute it from master broker.")
	}
	return nil
}
