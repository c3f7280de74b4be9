package ha

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"
)

const (
	// magic opens a connection between gomq peers: a negative report, which no slave
	// of the 4.x protocol sends. Its last byte is the version of the greeting.
	magic uint64 = 0xF0676f6d71686101 // F0 g o m q h a 01
	// greetWait bounds a greeting.
	greetWait = 5 * time.Second
	// mostGreeting bounds a message of it.
	mostGreeting = 4 << 10
	// proofSize is how much of the log's end the two compare.
	proofSize = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Name says who a gomq peer is.
type Name struct {
	Cluster string `json:"cluster"`
	Broker  string `json:"broker"` // brokerName
	ID      int64  `json:"id"`     // brokerId
	Addr    string `json:"addr"`   // host:port for clients
}

// hello is what both say first: who they are and what they have.
type hello struct {
	Name
	FileSize int64 `json:"fileSize"`
	Min      int64 `json:"min"`
	End      int64 `json:"end"`
	Empty    bool  `json:"empty"`
}

// proof is the checksum (CRC-32C) of [From, To) of the replica's log.
type proof struct {
	From int64  `json:"from"`
	To   int64  `json:"to"`
	Sum  uint32 `json:"sum"`
}

// verdict is the master's answer: where its blocks begin, or why there are none.
type verdict struct {
	Start int64  `json:"start"`
	Why   string `json:"why,omitempty"`
	Stop  bool   `json:"stop,omitempty"` // it does not go away by itself
}

// about is what is to be compared: the last 64 KiB that both have.
func about(a, b hello) (from, to int64) {
	if a.Empty || b.Empty {
		return 0, 0
	}
	to = min(a.End, b.End)
	return max(to-proofSize, a.Min, b.Min), to
}

// Sum is the checksum of [from, to) of a log, 0 for nothing.
func Sum(l Log, from, to int64) (sum uint32, err error) {
	buf := make([]byte, min(max(to-from, 0), proofSize))
	for from < to {
		n, err := l.ReadRaw(buf, from, to)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, fmt.Errorf("the log has no bytes at %d", from)
		}
		sum = crc32.Update(sum, castagnoli, buf[:n])
		from += int64(n)
	}
	return sum, nil
}

func describe(l Log, me Name) hello {
	return hello{Name: me, FileSize: l.FileSize(), Min: l.MinOffset(), End: l.MaxOffset(), Empty: l.Empty()}
}

// judge is what a master says to a replica whose tail it could compare.
func judge(me, peer hello, p proof, mine uint32) verdict {
	stop := func(format string, args ...any) verdict {
		return verdict{Stop: true, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case peer.Broker != me.Broker || peer.Cluster != me.Cluster:
		return stop("it is of the set %s in %s, this one is %s in %s", peer.Broker, peer.Cluster, me.Broker, me.Cluster)
	case peer.FileSize != me.FileSize:
		return stop("its log has files of %d bytes, this one of %d: empty its store, it then takes the master's size", peer.FileSize, me.FileSize)
	case peer.Empty:
		return verdict{Start: me.Min}
	case p.Sum != mine:
		return stop("the two logs differ in [%d, %d): one of the two has taken messages that the other has not. Nothing is changed; keep what is right, empty the store of the other", p.From, p.To)
	case peer.End > me.End:
		return stop("the slave has the log up to %d, the master up to %d only: the master has lost its end. Nothing is changed. A gomq master that was killed fetches what it lost when it starts (haRepairWaitSeconds), one that was restored from a backup does not: give it this slave's store, or empty the slave's", peer.End, me.End)
	case peer.End < me.Min:
		return stop("the slave ends at %d, the master's log begins at %d: what lies between was deleted by age. Empty the slave's store, it then begins anew", peer.End, me.Min)
	}
	return verdict{Start: peer.End}
}

// greet answers the greeting of a gomq replica, whose first 8 bytes have been read.
func (f *feed) greet(first [ReportSize]byte) (start, have int64, err error) {
	if binary.BigEndian.Uint64(first[:]) != magic {
		_, _, err = LastReport(first[:])
		return 0, 0, err
	}
	f.conn.SetDeadline(time.Now().Add(greetWait))
	defer f.conn.SetDeadline(time.Time{})
	var peer hello
	if err := hear(f.conn, &peer); err != nil {
		return 0, 0, err
	}
	l := f.m.o.Log
	me := describe(l, f.m.o.Me())
	if err := say(f.conn, binary.BigEndian.AppendUint64(nil, magic), me); err != nil {
		return 0, 0, err
	}
	var p proof
	if err := hear(f.conn, &p); err != nil {
		return 0, 0, err
	}
	var v verdict
	if from, to := about(me, peer); p.From != from || p.To != to {
		v = verdict{Why: fmt.Sprintf("it compares [%d, %d), asked was [%d, %d)", p.From, p.To, from, to)}
	} else if mine, err := Sum(l, from, to); err != nil {
		v = verdict{Why: err.Error()}
	} else {
		v = judge(me, peer, p, mine)
	}
	if err := say(f.conn, nil, v); err != nil {
		return 0, 0, err
	}
	if v.Why != "" {
		return 0, 0, errors.New(v.Why)
	}
	name := peer.Name
	f.name.Store(&name)
	return v.Start, peer.End, nil
}

// greet opens a connection to a gomq master and compares the two logs.
func (s *session) greet() error {
	l := s.r.o.Log
	s.conn.SetDeadline(time.Now().Add(greetWait))
	defer s.conn.SetDeadline(time.Time{})
	me := describe(l, s.r.o.Me())
	if err := say(s.conn, binary.BigEndian.AppendUint64(nil, magic), me); err != nil {
		return err
	}
	var first [ReportSize]byte
	if _, err := io.ReadFull(s.conn, first[:]); err != nil {
		return fmt.Errorf("the master does not answer the greeting: %w", err)
	}
	if binary.BigEndian.Uint64(first[:]) != magic {
		return errors.New("the master answers the greeting with something else")
	}
	var peer hello
	if err := hear(s.conn, &peer); err != nil {
		return err
	}
	from, to := about(me, peer)
	sum, err := Sum(l, from, to)
	if err != nil {
		return err
	}
	if err := say(s.conn, nil, proof{From: from, To: to, Sum: sum}); err != nil {
		return err
	}
	var v verdict
	if err := hear(s.conn, &v); err != nil {
		return err
	}
	switch {
	case v.Why != "" && v.Stop:
		return &Stopped{errors.New(v.Why)}
	case v.Why != "":
		return errors.New(v.Why)
	case !me.Empty && v.Start != me.End:
		return fmt.Errorf("the master wants to begin at %d, this slave ends at %d", v.Start, me.End)
	}
	s.at = v.Start
	s.reported.Store(me.End)
	s.r.note(func(st *ReplicaState) { st.MasterEnd = peer.End })
	return nil
}

// say sends a message of the greeting behind prefix: its length, u32, and JSON.
func say(c net.Conn, prefix []byte, m any) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint32(prefix, uint32(len(body))), body...))
	return err
}

// hear reads a message of the greeting.
func hear(c net.Conn, m any) error {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > mostGreeting {
		return fmt.Errorf("a greeting of %d bytes, at most %d are possible", n, mostGreeting)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, m); err != nil {
		return fmt.Errorf("the greeting does not parse: %w", err)
	}
	return nil
}
