package protocol

// LogStateHeader is the header of GOMQ_LOG_STATE (209001), gomq's own: what a
// broker has of its log, with the checksum of a part.
type LogStateHeader struct {
	From, To int64 // of the part; equal: none
}

// LogStateReply is the answer to 209001.
type LogStateReply struct {
	ClusterName string
	BrokerName  string
	BrokerID    int64
	FileSize    int64 // of the log's files
	Min, End    int64 // of the log
	Empty       bool  // it has never had a record
	Sum         int64 // CRC-32C of the part asked for
}

// ReadLogHeader is the header of GOMQ_READ_LOG (209002), gomq's own: bytes of the
// log as they are. The answer's body has at least one and ends with a file at the
// latest.
type ReadLogHeader struct {
	From int64
	Most int32 // bytes
}

// Fields implements Header.
func (h *LogStateHeader) Fields(f *Fields) {
	f.Int64("from", &h.From, true)
	f.Int64("to", &h.To, true)
}

// Fields implements Header.
func (h *LogStateReply) Fields(f *Fields) {
	f.String("clusterName", &h.ClusterName, true)
	f.String("brokerName", &h.BrokerName, true)
	f.Int64("brokerId", &h.BrokerID, true)
	f.Int64("fileSize", &h.FileSize, true)
	f.Int64("min", &h.Min, true)
	f.Int64("end", &h.End, true)
	f.Bool("empty", &h.Empty, true)
	f.Int64("sum", &h.Sum, true)
}

// Fields implements Header.
func (h *ReadLogHeader) Fields(f *Fields) {
	f.Int64("from", &h.From, true)
	f.Int32("most", &h.Most, true)
}
