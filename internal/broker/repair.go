package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"gomq/internal/ha"
	"gomq/internal/protocol"
)

// repairAgain is the pause between two rounds of questions to slaves.
const repairAgain = 500 * time.Millisecond

// repair brings back what a master that was not closed has lost of the end of its
// log, from a slave that has it, before anybody is served: whoever was told OK by
// way of the slave then finds the message. It waits for the slaves that are known
// for haRepairWaitSeconds at most; one that answers and has no more is not waited
// for. A slave whose log differs is left alone and said loudly.
func (r *replication) repair(ctx context.Context, o *Options) error {
	if r.store.Clean() || o.BrokerRole == Slave || o.HARepairWaitSeconds <= 0 {
		return nil
	}
	r.peers.refresh(ctx)
	if len(r.peers.addrs()) == 0 {
		return nil
	}
	wait := o.HARepairWaitSeconds
	if o.BrokerRole == SyncMaster && o.FlushDiskType == SyncFlush {
		// Slaves were only sent what was on this disk; a look is enough.
		wait = min(wait, time.Second)
	}
	r.log.Info("this master was not closed; slaves are asked for what it may have lost", zap.Int64("end", r.store.MaxOffset()),
		zap.Strings("slaves", r.peers.addrs()), zap.Duration("atMost", wait))
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ahead, silent := r.furthest(ctx)
	if len(silent) > 0 {
		r.log.Warn("slaves did not say what they have: should one have more than this master it will not follow, see haRepairWaitSeconds", zap.Strings("slaves", silent))
	}
	if len(ahead) == 0 {
		r.log.Info("no slave that has answered has more of the log than this master")
	}
	// What has been found is brought home however long it takes. A slave whose log
	// does not fit, or begins later, may stand before one that has some of it.
	for _, t := range ahead {
		if err := r.fetchTail(context.WithoutCancel(ctx), t); err != nil {
			return err
		}
	}
	return nil
}

// tailOf is a slave that has more of the log than its master.
type tailOf struct {
	addr string
	protocol.LogStateReply
}

// furthest asks all slaves until each has answered or ctx ends: those that have
// more than this master, the one with the most first, and those that did not
// answer.
func (r *replication) furthest(ctx context.Context) (ahead []tailOf, silent []string) {
	mine := r.store.MaxOffset()
	defer func() { slices.SortFunc(ahead, func(a, b tailOf) int { return cmp.Compare(b.End, a.End) }) }()
	silent = r.peers.addrs()
	for {
		var again []string
		for _, addr := range silent {
			st, err := r.askState(ctx, addr, 0, 0)
			var other *protocol.Error
			switch {
			case errors.As(err, &other), errors.Is(err, errNotGomq):
				r.log.Info("a slave cannot say what it has of the log", zap.String("slave", addr), zap.Error(err))
			case err != nil:
				again = append(again, addr)
			case st.End > mine:
				ahead = append(ahead, tailOf{addr, st})
			}
		}
		if silent = again; len(silent) == 0 {
			return ahead, nil
		}
		t := time.NewTimer(repairAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ahead, silent
		}
	}
}

// errNotGomq tells that a broker does not know gomq's requests.
var errNotGomq = errors.New("it is not gomq")

// askState asks a gomq broker for the state of its log; another one is not asked
// what it may never answer.
func (r *replication) askState(ctx context.Context, addr string, from, to int64) (st protocol.LogStateReply, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	info, err := r.outward.RuntimeInfo(ctx, addr)
	if err != nil {
		return st, err
	}
	if info[greetsKey] == "" {
		return st, errNotGomq
	}
	return r.outward.LogState(ctx, addr, from, to)
}

// fetchTail appends what a slave has more than this master.
func (r *replication) fetchTail(ctx context.Context, t tailOf) error {
	s := r.store
	at := s.MaxOffset()
	if t.End <= at {
		return nil // another one has given it
	}
	log := r.log.With(zap.String("slave", t.addr), zap.Int64("end", at), zap.Int64("its", t.End))
	n, err := ha.Repair(ctx, s, r.me(), remoteLog{r, t.addr})
	if n > 0 {
		log.Warn("this master had lost the end of its log; it has fetched it from a slave", zap.Int64("bytes", n))
	}
	if err != nil && n == 0 {
		log.Error("a slave has more of the log than this master, which cannot be taken. The master opens with what it has; the slave keeps its data and does not follow until an operator has chosen",
			zap.Int64("bytes", t.End-s.MaxOffset()), zap.Error(err))
	}
	if err != nil && n > 0 {
		log.Error("the slave gave a part of it only", zap.Error(err))
	}
	return s.Durable.Wait(ctx, s.MaxOffset())
}

// remoteLog is the log of the gomq broker at addr.
type remoteLog struct {
	r    *replication
	addr string
}

// State implements ha.Remote.
func (l remoteLog) State(ctx context.Context, from, to int64) (ha.RemoteState, error) {
	st, err := l.r.askState(ctx, l.addr, from, to)
	return ha.RemoteState{Name: ha.Name{Cluster: st.ClusterName, Broker: st.BrokerName, ID: st.BrokerID, Addr: l.addr},
		FileSize: st.FileSize, Min: st.Min, End: st.End, Empty: st.Empty, Sum: uint32(st.Sum)}, err
}

// Read implements ha.Remote.
func (l remoteLog) Read(ctx context.Context, from int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askWait)
	defer cancel()
	return l.r.outward.ReadLog(ctx, l.addr, from, mostReadLog)
}
