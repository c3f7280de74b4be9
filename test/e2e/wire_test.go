package e2e

import (
	"errors"
	"fmt"
	"testing"

	"gomq/test/harness"
	"gomq/test/raw"
)

// vipPort: the port two below serves everything but pulls in the original;
// gomq serves those as well.
func vipPort(t *testing.T, w *world) {
	topic := w.topic(t, "VIP")
	c := dial(t, w.broker.VIPAddr())
	sent, err := c.Send("pg-vip", topic, 2, "", []byte("through the second door"))
	if err != nil || sent.Offset != 0 || sent.Queue != 2 {
		t.Fatalf("%+v, %v", sent, err)
	}
	settled(t, c, topic, 4, 1)
	p, err := c.Pull("g-vip", topic, 2, 0, 1, 0)
	var code *raw.CodeError
	if harness.Kind() == "java" {
		if !errors.As(err, &code) || code.Code != raw.NotSupported {
			t.Fatalf("%+v, %v", p, err)
		}
	} else if err != nil || len(p.Records) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
}

func unknownCode(t *testing.T, w *world) {
	addrs := map[string]string{"broker": w.broker.Addr(), "port-2": w.broker.VIPAddr()}
	if harness.Kind() == "gomq" {
		addrs["namesrv"] = w.ns.Addr() // 4.9 stays silent here
	}
	for name, addr := range addrs {
		cmd, err := dial(t, addr).Call(31999, nil, nil)
		if err != nil || cmd.Code != raw.NotSupported || cmd.Remark != " request type 31999 not supported" {
			t.Errorf("%s: %+v, %v", name, cmd, err)
		}
	}
}

// binaryHeader: the same requests with the ROCKETMQ header.
func binaryHeader(t *testing.T, w *world) {
	topic := w.topic(t, "Binary")
	c := w.dial(t)
	c.Binary = true
	for i := range 5 {
		sent, err := c.Send("pg-binary", topic, 3, raw.Props("KEYS", fmt.Sprint("bin", i)), content(i, 64))
		if err != nil || sent.Offset != int64(i) {
			t.Fatalf("%+v, %v", sent, err)
		}
	}
	settled(t, c, topic, 4, 5)
	recs, err := c.Sweep(topic, 3)
	if err != nil || len(recs) != 5 || recs[4].Keys() != "bin4" {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	ns := dial(t, w.ns.Addr())
	ns.Binary = true
	if r, err := ns.Route(topic); err != nil || r.BrokerDatas[0].BrokerAddrs["0"] != w.broker.Addr() {
		t.Fatalf("%+v, %v", r, err)
	}
}
