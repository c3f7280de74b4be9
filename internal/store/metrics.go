package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the store measures (metrics.md); its offsets are read when
// they are asked for.
type metrics struct {
	append, sync prometheus.Histogram
}

func newMetrics(s *Store, reg prometheus.Registerer, recovery time.Duration) (*metrics, error) {
	m := &metrics{
		append: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gomq_store_append_seconds",
			Help:    "How long the put lock was held for the batch of a Turn.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 12)}),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "gomq_store_sync_seconds",
			Help:    "How long it took to make the appended part of the log durable.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 16)}),
	}
	if reg == nil {
		return m, nil
	}
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read)
	}
	of := func(read func() int64) func() float64 { return func() float64 { return float64(read()) } }
	file := prometheus.Labels{"storage_type": "local", "storage_medium": "disk"}
	all := []prometheus.Collector{m.append, m.sync,
		gauge("gomq_store_log_min_offset_bytes", "First offset of the log.", nil, of(s.MinOffset)),
		gauge("gomq_store_log_appended_offset_bytes", "End of the log.", nil, of(s.Appended.Load)),
		gauge("gomq_store_log_durable_offset_bytes", "Offset below which the log is on the disk.", nil, of(s.Durable.Load)),
		gauge("gomq_store_log_dispatched_offset_bytes", "Offset below which messages can be read.", nil, of(s.Dispatched.Load)),
		gauge("gomq_store_recovery_seconds", "How long opening the store took.", nil, recovery.Seconds),
		gauge("gomq_store_failed", "1 once the store has failed stop.", nil, func() float64 {
			if s.Err() != nil {
				return 1
			}
			return 0
		}),
		gauge("gomq_store_disk_used_ratio", "Part of the disk under the log that is in use.", nil, func() float64 {
			used, _ := s.diskRatio()
			return used
		}),
		gauge("gomq_store_disk_limit_ratio", "Part of the disk in use at which messages are refused.", nil, func() float64 {
			_, limit := s.diskRatio()
			return limit
		}),
		gauge("rocketmq_storage_size", "Bytes of the log.", file, func() float64 { return float64(s.MaxOffset() - s.MinOffset()) }),
		gauge("rocketmq_storage_flush_behind_bytes", "Bytes appended and not yet on the disk.", file, of(s.Undurable)),
		gauge("rocketmq_storage_dispatch_behind_bytes", "Bytes appended and not yet indexed.", file, func() float64 {
			return float64(s.Appended.Load() - s.Indexed.Load())
		}),
		gauge("rocketmq_storage_message_reserve_time", "Age of the oldest message, ms.", file, func() float64 { return float64(s.reserveTime()) }),
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// reserveTime is the age of the oldest message in ms, 0 if there is none.
func (s *Store) reserveTime() int64 {
	r, err := s.ReadRecord(s.MinOffset())
	if err != nil {
		return 0
	}
	return max(0, s.o.Now().UnixMilli()-r.StoreTime())
}
