package broker

import (
	"gomq/internal/ha"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// haStatus is GET_BROKER_HA_STATUS (907) of 5.x: who copies this master, or whom
// this slave copies, and how far each has come.
func (b *Broker) haStatus(*remoting.Call) (remoting.Response, error) {
	o := b.live.Load()
	s := protocol.HAStatus{Master: b.isMaster(), End: b.store.MaxOffset()}
	for _, r := range b.replicas() {
		slave := protocol.HASlave{Addr: r.Addr, Broker: r.Name.Addr, Ack: r.Acked, Diff: max(s.End-r.Acked, 0), From: r.Sent, DiffMessages: -1}
		if n, err := b.store.MessagesFrom(r.Acked); err == nil { // otherwise the store has said what is wrong
			slave.DiffMessages = n
		}
		slave.InSync = inSync(&r, s.End, o)
		if !r.LastAck.IsZero() {
			slave.LastAck = r.LastAck.UnixMilli()
		}
		if slave.InSync {
			s.InSync++
		}
		s.Slaves = append(s.Slaves, slave)
	}
	if r, ok := b.replicaState(); ok {
		s.End = r.MasterEnd
		s.Client = protocol.HAClient{MasterAddr: r.Master, End: r.End, MasterFlush: r.MasterEnd, Activated: r.Connected, Why: text(r.Err)}
		if !r.LastBlock.IsZero() {
			s.Client.LastRead = r.LastBlock.UnixMilli()
		}
		if r.Master == "" && s.Client.Why == "" {
			s.Client.Why = "no nameserver has named a master yet"
		}
	}
	return remoting.Response{Body: s.Append(nil)}, nil
}

// inSync says whether a slave counts for SYNC_MASTER, copies, and is near the end of
// the log.
func inSync(r *ha.ReplicaInfo, end int64, o *Options) bool {
	return r.Counted && r.Started && end-r.Acked < o.HASlaveFallbehindMax
}

// text is an error's, "" of none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
