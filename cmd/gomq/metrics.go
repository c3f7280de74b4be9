package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry holds what every process says of itself (metrics.md, "what gomq
// adds"); the roles add theirs.
func newRegistry() *prometheus.Registry {
	b := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gomq_build_info", Help: "1, with the build as labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.Go}})
	info.Set(1)
	start := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gomq_start_time_seconds", Help: "When the process started, in seconds since 1970."})
	start.Set(float64(time.Now().UnixMilli()) / 1000)
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info, start)
	return r
}
