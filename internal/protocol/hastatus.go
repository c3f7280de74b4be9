package protocol

// HAStatus is the body of the answer to GET_BROKER_HA_STATUS (907) of 5.x: how the
// copies of a broker's log stand.
type HAStatus struct {
	Master bool
	End    int64 // masterCommitLogMaxOffset
	InSync int32 // inSyncSlaveNums
	Slaves []HASlave
	Client HAClient // of a slave
}

// HASlave is a slave that is connected to a master.
type HASlave struct {
	Addr   string // where its connection comes from
	Ack    int64  // slaveAckOffset
	Diff   int64  // bytes of the log that it has not acknowledged
	InSync bool   // 5.x: close enough; gomq: its acknowledgements satisfy SYNC_MASTER
	From   int64  // transferFromWhere: sent below
	Rate   int64  // transferredByteInSecond

	// gomq's own: the slave's address as a broker ("" when it is not gomq), when it
	// acknowledged last, ms (0: never), and how many messages it has not acknowledged
	// (-1: not told).
	Broker       string
	LastAck      int64
	DiffMessages int64
}

// HAClient is a slave's side of the link.
type HAClient struct {
	MasterAddr  string // of the replication port
	End         int64  // maxOffset of the slave's log
	LastRead    int64  // ms
	MasterFlush int64  // masterFlushOffset; gomq: up to where the master is known to have the log
	Activated   bool   // connected and copying
	Why         string // gomq's own: why not, or why nothing is taken
}

// ParseHAStatus reads the body.
func ParseHAStatus(b []byte) (*HAStatus, error) {
	s := &HAStatus{}
	err := readBody("replication status", b, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "master":
				r.bool(&s.Master)
			case "mastercommitlogmaxoffset":
				r.int64(&s.End)
			case "insyncslavenums":
				r.int32(&s.InSync)
			case "haconnectioninfo":
				r.list(func() {
					if len(s.Slaves) >= 1024 {
						r.fail("more than 1024 slaves")
						return
					}
					s.Slaves = append(s.Slaves, r.haSlave())
				})
			case "haclientruntimeinfo":
				s.Client = r.haClient()
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (r *reader) haSlave() (s HASlave) {
	s.DiffMessages = -1
	r.bean(func(name []byte) {
		switch string(name) {
		case "addr":
			r.str(&s.Addr)
		case "slaveackoffset":
			r.int64(&s.Ack)
		case "diff":
			r.int64(&s.Diff)
		case "insync":
			r.bool(&s.InSync)
		case "transferfromwhere":
			r.int64(&s.From)
		case "transferredbyteinsecond":
			r.int64(&s.Rate)
		case "gomqbroker":
			r.str(&s.Broker)
		case "gomqlastack":
			r.int64(&s.LastAck)
		case "gomqdiffmessages":
			r.int64(&s.DiffMessages)
		}
	})
	return s
}

func (r *reader) haClient() (c HAClient) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "masteraddr":
			r.str(&c.MasterAddr)
		case "maxoffset":
			r.int64(&c.End)
		case "lastreadtimestamp":
			r.int64(&c.LastRead)
		case "masterflushoffset":
			r.int64(&c.MasterFlush)
		case "activated":
			r.bool(&c.Activated)
		case "gomqwhy":
			r.str(&c.Why)
		}
	})
	return c
}

// Append appends the body.
func (s *HAStatus) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("haClientRuntimeInfo")
	w.haClient(&s.Client)
	w.key("haConnectionInfo")
	w.open('[')
	for i := range s.Slaves {
		w.item()
		w.haSlave(&s.Slaves[i])
	}
	w.endList()
	w.int("inSyncSlaveNums", int64(s.InSync))
	w.bool("master", s.Master)
	w.int("masterCommitLogMaxOffset", s.End)
	w.end()
	return w.b
}

func (w *writer) haSlave(s *HASlave) {
	w.open('{')
	w.str("addr", s.Addr)
	w.int("diff", s.Diff)
	w.optional("gomqBroker", s.Broker)
	if s.DiffMessages >= 0 {
		w.int("gomqDiffMessages", s.DiffMessages)
	}
	w.int("gomqLastAck", s.LastAck)
	w.bool("inSync", s.InSync)
	w.int("slaveAckOffset", s.Ack)
	w.int("transferFromWhere", s.From)
	w.int("transferredByteInSecond", s.Rate)
	w.end()
}

func (w *writer) haClient(c *HAClient) {
	w.open('{')
	w.bool("activated", c.Activated)
	w.optional("gomqWhy", c.Why)
	w.int("lastReadTimestamp", c.LastRead)
	w.optional("masterAddr", c.MasterAddr)
	w.int("masterFlushOffset", c.MasterFlush)
	w.int("maxOffset", c.End)
	w.end()
}
