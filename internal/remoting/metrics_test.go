package remoting

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gomq/internal/protocol"
)

// TestMetricsGather: whatever was answered in its Turn and later, the metrics are
// a set without duplicates, and add up.
func TestMetricsGather(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	if err := reg.Register(m.RPCLatency(prometheus.Labels{"cluster": "c"})); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int32{protocol.SendMessageV2, protocol.PullMessage, 200050, 999999} {
		for _, status := range []int32{protocol.Success, protocol.PullNotFound, 999, -1} {
			m.stat(code).add(status, false, 3, time.Millisecond)
			m.answered(code, status, time.Second)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			counts[f.GetName()] += s.GetHistogram().GetSampleCount() + uint64(s.GetCounter().GetValue())
		}
	}
	for _, name := range []string{"rocketmq_rpc_latency", "gomq_request_seconds", "gomq_requests_total"} {
		if counts[name] != 4*4*4 {
			t.Errorf("%s counts %d answers, want %d", name, counts[name], 4*4*4)
		}
	}
}
