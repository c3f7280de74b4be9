package namesrv

import "github.com/prometheus/client_golang/prometheus"

// metrics are gomq_namesrv_brokers, _topics, _registrations_total and
// _expired_total.
type metrics struct {
	registrations prometheus.Counter
	expired       prometheus.Counter

	reg prometheus.Registerer // nil: nowhere
	all []prometheus.Collector
}

func newMetrics(t *table, reg prometheus.Registerer) *metrics {
	m := &metrics{reg: reg,
		registrations: prometheus.NewCounter(prometheus.CounterOpts{Name: "gomq_namesrv_registrations_total", Help: "Registrations of brokers taken."}),
		expired:       prometheus.NewCounter(prometheus.CounterOpts{Name: "gomq_namesrv_expired_total", Help: "Brokers taken away because they fell silent or their connection ended."}),
	}
	m.all = []prometheus.Collector{m.registrations, m.expired,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gomq_namesrv_brokers", Help: "Living brokers, slaves included."},
			func() float64 { n, _ := t.size(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "gomq_namesrv_topics", Help: "Topics that have a route."},
			func() float64 { _, n := t.size(); return float64(n) }),
	}
	if reg != nil {
		reg.MustRegister(m.all...)
	}
	return m
}

// unregister takes the metrics back, so that another server may have them.
func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
