package main

import (
	"strings"
	"testing"
	"time"

	"gomq/internal/client"
)

func TestPrintCluster(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	ack, yes, lag, messages, tps := now.Add(-1500*time.Millisecond), true, int64(42), int64(3), 3.25
	k := &client.Cluster{
		Nameservers: []client.Nameserver{{Addr: "ns1:9876", Brokers: 2}, {Addr: "ns2:9876", Error: "refused"}},
		Sets: []client.Set{{Cluster: "C", Name: "broker-a", Brokers: []client.Broker{
			{Addr: "10.0.0.1:10911", Version: "V4_9_8", Gomq: true, PutTPS: &tps},
			{ID: 1, Addr: "10.0.0.2:11011", Version: "V4_5_2", Slave: &client.Copy{LagBytes: &lag, InSync: &yes, LastAck: &ack}},
			{ID: 2, Addr: "10.0.0.3:11011", Error: "timeout", Slave: &client.Copy{}},
			{ID: 3, Addr: "10.0.0.4:11011", Version: "V4_9_8", Gomq: true, Slave: &client.Copy{LagBytes: &lag, LagMessages: &messages, InSync: &yes}},
		}}},
		Problems: []string{"nameserver ns2:9876 does not answer: refused"},
	}
	var b strings.Builder
	if err := printCluster(&b, k, now); err != nil {
		t.Fatal(err)
	}
	want := `NAMESERVER  BROKERS
ns1:9876    2
ns2:9876    no answer

CLUSTER  BROKER    ROLE     ADDRESS         VERSION          PUT/s  GET/s  LAG          IN SYNC  LAST ACK
C        broker-a  master   10.0.0.1:10911  gomq V4_9_8      3.2    -
C        broker-a  slave 1  10.0.0.2:11011  RocketMQ V4_5_2  -      -      42 B         yes      1.5s
C        broker-a  slave 2  10.0.0.3:11011  no answer        -      -      -            -        -
C        broker-a  slave 3  10.0.0.4:11011  gomq V4_9_8      -      -      42 B, 3 msg  yes      -

! nameserver ns2:9876 does not answer: refused
`
	var got []string
	for line := range strings.Lines(b.String()) {
		got = append(got, strings.TrimRight(line, " \n"))
	}
	if text := strings.Join(got, "\n") + "\n"; text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
