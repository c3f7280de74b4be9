package protocol

import (
	"hash/crc32"
	"math"
)

// RegisterHeader is the header of REGISTER_BROKER (103). What 5.x adds besides
// is ignored.
type RegisterHeader struct {
	BrokerName   string
	BrokerAddr   string // ip:port
	ClusterName  string
	HAServerAddr string // ip:port
	BrokerID     int64  // 0 is the master
	// Compressed is what the header says of the body. 5.3.3 says it wrongly:
	// ParseRegisterBody looks at the body instead (wire.md section 17).
	Compressed bool
	BodyCRC32  int32 // see RegisterCRC; 0 is not checked
}

// RegisterReply is the header of the answer to 103; both are only told to slaves.
type RegisterReply struct{ HAServerAddr, MasterAddr string }

// BrokerHeader is the header of UNREGISTER_BROKER (104) and QUERY_DATA_VERSION
// (322).
type BrokerHeader struct {
	BrokerName  string
	BrokerAddr  string
	ClusterName string
	BrokerID    int64
}

// DataVersionReply is the header of the answer to 322. Its body is the
// nameserver's DataVersion of the broker, or none when it does not know it.
type DataVersionReply struct{ Changed bool }

// RegisterBody is the body of REGISTER_BROKER: the broker's topics.
type RegisterBody struct {
	Topics        map[string]TopicConfig
	Version       DataVersion
	FilterServers []string
}

// RegisterCRC is the checksum of a body of 103 as RegisterHeader.BodyCRC32 has
// it: CRC-32 (IEEE) of the bytes as sent, without the sign bit.
func RegisterCRC(body []byte) int32 { return int32(crc32.ChecksumIEEE(body) & math.MaxInt32) }

// Fields implements Header.
func (h *RegisterHeader) Fields(f *Fields) {
	f.String("brokerName", &h.BrokerName, true)
	f.String("brokerAddr", &h.BrokerAddr, true)
	f.String("clusterName", &h.ClusterName, true)
	f.String("haServerAddr", &h.HAServerAddr, false)
	f.Int64("brokerId", &h.BrokerID, true)
	f.Bool("compressed", &h.Compressed, false)
	f.Int32("bodyCrc32", &h.BodyCRC32, false)
}

// Fields implements Header.
func (h *RegisterReply) Fields(f *Fields) {
	f.String("haServerAddr", &h.HAServerAddr, false)
	f.String("masterAddr", &h.MasterAddr, false)
}

// Fields implements Header.
func (h *BrokerHeader) Fields(f *Fields) {
	f.String("brokerName", &h.BrokerName, true)
	f.String("brokerAddr", &h.BrokerAddr, true)
	f.String("clusterName", &h.ClusterName, true)
	f.Int64("brokerId", &h.BrokerID, true)
}

// Fields implements Header.
func (h *DataVersionReply) Fields(f *Fields) { f.Bool("changed", &h.Changed, true) }
