package broker

import (
	"context"
	"errors"
	"fmt"
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
	best, silent := r.furthest(ctx)
	if len(silent) > 0 {
		r.log.Warn("slaves did not say what they have: should one have more than this master it will not follow, see haRepairWaitSeconds", zap.Strings("slaves", silent))
	}
	if best == nil {
		return nil
	}
	// What has been found is brought home however long it takes.
	return r.fetchTail(context.WithoutCancel(ctx), best)
}

// tailOf is a slave that has more of the log than its master.
type tailOf struct {
	addr string
	protocol.LogStateReply
}

// furthest asks all slaves until each has answered or ctx ends: the one with the
// most of the log, nil if none has more than this master, and those that did not
// answer.
func (r *replication) furthest(ctx context.Context) (best *tailOf, silent []string) {
	mine := r.store.MaxOffset()
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
			case st.End > mine && (best == nil || st.End > best.End):
				best = &tailOf{addr, st}
			}
		}
		if silent = again; len(silent) == 0 {
			return best, nil
		}
		t := time.NewTimer(repairAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return best, silent
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

// fetchTail appends what a slave has more than this master, if the two logs are
// the same up to there.
func (r *replication) fetchTail(ctx context.Context, t *tailOf) error {
	s := r.store
	at := s.MaxOffset()
	log := r.log.With(zap.String("slave", t.addr), zap.Int64("end", at), zap.Int64("its", t.End))
	o := r.live.Load()
	differs := func(why string) error {
		log.Error("a slave has more of the log than this master, and it is not taken: "+why+". The master opens with what it has, the slave keeps its data and does not follow until an operator has chosen", zap.Int64("bytes", t.End-at))
		return nil
	}
	switch {
	case t.BrokerName != o.BrokerName || t.ClusterName != o.BrokerClusterName:
		return differs("it is of the set " + t.BrokerName + " in " + t.ClusterName)
	case t.FileSize != s.FileSize():
		return differs(fmt.Sprintf("its log has files of %d bytes, this one of %d", t.FileSize, s.FileSize()))
	case t.Min > at || s.Empty() && t.Min != 0:
		return differs(fmt.Sprintf("it begins at %d", t.Min))
	}
	from := max(at-mostSum, t.Min, s.MinOffset())
	mine, err := ha.Sum(s, from, at)
	if err != nil {
		return err
	}
	st, err := r.askState(ctx, t.addr, from, at)
	if err != nil {
		return differs("it did not answer any more: " + err.Error())
	}
	if uint32(st.Sum) != mine {
		return differs(fmt.Sprintf("the two logs differ in [%d, %d)", from, at))
	}
	if err := r.copyTail(ctx, t, at); err != nil {
		return differs(err.Error())
	}
	log.Warn("this master had lost the end of its log; it has fetched it from a slave", zap.Int64("bytes", s.MaxOffset()-at))
	return s.Durable.Wait(ctx, s.MaxOffset())
}

// copyTail appends [at, t.End) of the slave's log.
func (r *replication) copyTail(ctx context.Context, t *tailOf, at int64) error {
	var rest []byte
	for from := at; from < t.End; {
		step, cancel := context.WithTimeout(ctx, 2*askWait)
		p, err := r.outward.ReadLog(step, t.addr, from, mostReadLog)
		cancel()
		if err != nil {
			return err
		}
		if len(p) == 0 {
			return fmt.Errorf("it has nothing at %d", from)
		}
		from += int64(len(p))
		rest = append(rest, p...)
		used, err := r.store.AppendRaw(at, rest)
		if err != nil {
			return err
		}
		at += int64(used)
		rest = rest[:copy(rest, rest[used:])]
	}
	return nil
}
