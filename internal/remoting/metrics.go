package remoting

import (
	"errors"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gomq/internal/protocol"
)

// Metrics counts what passes the door: gomq_connections{port},
// gomq_tls_connections{port}, gomq_tls_certificate_not_after_seconds{port},
// gomq_requests_total{code,status}, gomq_request_seconds{code},
// gomq_refusals_total{cause} and gomq_request_panics_total. One Metrics may
// serve several servers. A Turn's answers are counted together, so a request
// costs no more than an addition.
type Metrics struct {
	panics atomic.Int64

	codes [1024]atomic.Pointer[codeStat] // by request code; made on first use

	mu       sync.Mutex // guards the maps, never what they point to
	ports    map[string]*portStat
	rare     map[int32]*codeStat // codes beyond the array, and unknownCode
	refusals map[string]*atomic.Uint64
}

type portStat struct {
	open, tls atomic.Int64
	cert      atomic.Pointer[TLS] // of the port; nil: none
}

// codeStat is the times of one request code's answers, by response code: those
// given in their Turn, and those given later. Made on first use.
type codeStat struct {
	soon, late [otherStatus + 1]atomic.Pointer[histogram]
}

const otherStatus = 255 // response codes that are none of RocketMQ 4's

func (s *codeStat) add(status int32, late bool, n uint64, took time.Duration) {
	by := &s.soon
	if late {
		by = &s.late
	}
	at := &by[min(uint32(status), otherStatus)]
	h := at.Load()
	if h == nil {
		at.CompareAndSwap(nil, new(histogram))
		h = at.Load()
	}
	h.add(took, n)
}

// each calls fn for every kind of answer that there has been.
func (s *codeStat) each(fn func(status int, late bool, h *histogram)) {
	for status := range s.soon {
		if h := s.soon[status].Load(); h != nil {
			fn(status, false, h)
		}
		if h := s.late[status].Load(); h != nil {
			fn(status, true, h)
		}
	}
}

// tally counts answers of one kind in the current turn.
type tally struct {
	code, status int32
	n            uint64
}

// NewMetrics makes the door's metrics and registers them (nil: nowhere). A
// registry has one of them: asked again it returns the one that is there, so that
// a nameserver and a broker in one process share it.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{ports: map[string]*portStat{}, rare: map[int32]*codeStat{}, refusals: map[string]*atomic.Uint64{}}
	if reg == nil {
		return m
	}
	if err := reg.Register(m); err != nil {
		var there prometheus.AlreadyRegisteredError
		if errors.As(err, &there) {
			if has, ok := there.ExistingCollector.(*Metrics); ok {
				return has
			}
		}
		panic(err) // the names are taken by something else: a mistake of the program
	}
	return m
}

// Refusal is the counter of gomq_refusals_total{cause}, for others who refuse:
// resolve it once.
func (m *Metrics) Refusal(cause string) *atomic.Uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slot(m.refusals, cause)
}

// Refused counts one refusal.
func (m *Metrics) Refused(cause string) { m.Refusal(cause).Add(1) }

func slot[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

func (m *Metrics) port(name string) *portStat {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slot(m.ports, name)
}

// unknownCode stands for every request code that has no name: a peer must not
// be able to make series.
const unknownCode = -1

func (m *Metrics) stat(code int32) *codeStat {
	if uint32(code) < uint32(len(m.codes)) {
		if s := m.codes[code].Load(); s != nil {
			return s
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !known(code) {
		return slot(m.rare, unknownCode)
	}
	if uint32(code) >= uint32(len(m.codes)) {
		return slot(m.rare, code)
	}
	m.codes[code].CompareAndSwap(nil, new(codeStat))
	return m.codes[code].Load()
}

// answered counts one late answer.
func (m *Metrics) answered(code, status int32, took time.Duration) {
	m.stat(code).add(status, true, 1, took)
}

// tally counts one answer of the turn.
func (t *Turn) tally(code, status int32) {
	if n := len(t.counts); n > 0 && t.counts[n-1].code == code && t.counts[n-1].status == status {
		t.counts[n-1].n++
		return
	}
	for i := range t.counts {
		if c := &t.counts[i]; c.code == code && c.status == status {
			c.n++
			return
		}
	}
	t.counts = append(t.counts, tally{code, status, 1})
}

// flushCounts adds the turn's answers to the common counters.
func (t *Turn) flushCounts() {
	if len(t.counts) == 0 {
		return
	}
	took := time.Since(t.Started)
	m := t.Conn.hub.o.Metrics
	for _, c := range t.counts {
		m.stat(c.code).add(c.status, false, c.n, took)
	}
	t.counts = t.counts[:0]
}

// bounds are the histogram's upper bounds.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// histogram counts durations; many equal ones at once for the price of one.
type histogram struct {
	sum     atomic.Int64 // nanoseconds
	buckets [len(bounds) + 1]atomic.Uint64
}

func (h *histogram) add(d time.Duration, n uint64) {
	i := sort.Search(len(bounds), func(i int) bool { return d <= bounds[i] })
	h.buckets[i].Add(n)
	h.sum.Add(int64(d) * int64(n))
}

var (
	descConns    = prometheus.NewDesc("gomq_connections", "Open accepted connections.", []string{"port"}, nil)
	descTLS      = prometheus.NewDesc("gomq_tls_connections", "Those of them that are over TLS.", []string{"port"}, nil)
	descCert     = prometheus.NewDesc("gomq_tls_certificate_not_after_seconds", "When the certificate in use ends, in seconds since 1970.", []string{"port"}, nil)
	descRequests = prometheus.NewDesc("gomq_requests_total", "Requests answered, by request code and status.", []string{"code", "status"}, nil)
	descSeconds  = prometheus.NewDesc("gomq_request_seconds", "Time from the reading of a request to its answer.", []string{"code"}, nil)
	descRefusals = prometheus.NewDesc("gomq_refusals_total", "Connections and requests refused, by cause.", []string{"cause"}, nil)
	descPanics   = prometheus.NewDesc("gomq_request_panics_total", "Requests that panicked; each is in the log with its stack.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConns, descTLS, descCert, descRequests, descSeconds, descRefusals, descPanics} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for port, p := range m.ports {
		ch <- prometheus.MustNewConstMetric(descConns, prometheus.GaugeValue, float64(p.open.Load()), port)
		ch <- prometheus.MustNewConstMetric(descTLS, prometheus.GaugeValue, float64(p.tls.Load()), port)
		if t := p.cert.Load(); t != nil {
			_, until, _ := t.Describe()
			ch <- prometheus.MustNewConstMetric(descCert, prometheus.GaugeValue, float64(until.Unix()), port)
		}
	}
	m.eachCode(func(code string, s *codeStat) { s.collect(ch, code) })
	for cause, n := range m.refusals {
		ch <- prometheus.MustNewConstMetric(descRefusals, prometheus.CounterValue, float64(n.Load()), cause)
	}
	ch <- prometheus.MustNewConstMetric(descPanics, prometheus.CounterValue, float64(m.panics.Load()))
}

// eachCode calls fn for every request code that has been answered. Held: mu.
func (m *Metrics) eachCode(fn func(code string, s *codeStat)) {
	for code := range m.codes {
		if s := m.codes[code].Load(); s != nil {
			fn(codeLabel(int32(code)), s)
		}
	}
	for code, s := range m.rare {
		fn(codeLabel(code), s)
	}
}

func (s *codeStat) collect(ch chan<- prometheus.Metric, code string) {
	var all histogram
	var counts [otherStatus + 1]uint64
	s.each(func(status int, _ bool, h *histogram) {
		counts[status] += all.merge(h)
	})
	for status, n := range counts {
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(descRequests, prometheus.CounterValue, float64(n), code, statusLabel(status))
		}
	}
	n, cum := all.cumulative(time.Second)
	ch <- prometheus.MustNewConstHistogram(descSeconds, n, time.Duration(all.sum.Load()).Seconds(), cum, code)
}

func statusLabel(status int) string {
	if status == otherStatus {
		return "other"
	}
	return strconv.Itoa(status)
}

// merge adds another histogram and returns how many durations that had.
func (h *histogram) merge(o *histogram) (n uint64) {
	for i := range o.buckets {
		k := o.buckets[i].Load()
		h.buckets[i].Add(k)
		n += k
	}
	h.sum.Add(o.sum.Load())
	return n
}

// cumulative is the buckets as Prometheus counts them, with bounds in unit.
func (h *histogram) cumulative(unit time.Duration) (all uint64, cum map[float64]uint64) {
	cum = make(map[float64]uint64, len(bounds))
	for i := range h.buckets {
		all += h.buckets[i].Load()
		if i < len(bounds) {
			cum[float64(bounds[i])/float64(unit)] = all
		}
	}
	return all, cum
}

// RPCLatency is RocketMQ 5's rocketmq_rpc_latency (metrics.md): the same times in
// milliseconds, with the names that its boards use. labels are those of the node.
func (m *Metrics) RPCLatency(labels prometheus.Labels) prometheus.Collector {
	return &rpcLatency{m: m, desc: prometheus.NewDesc("rocketmq_rpc_latency", "Milliseconds from the reading of a request to its answer.",
		[]string{"protocol_type", "request_code", "response_code", "is_long_polling", "result"}, labels)}
}

type rpcLatency struct {
	m    *Metrics
	desc *prometheus.Desc
}

// Describe is part of prometheus.Collector.
func (r *rpcLatency) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect is part of prometheus.Collector.
func (r *rpcLatency) Collect(ch chan<- prometheus.Metric) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	pulls := map[string]bool{codeLabel(protocol.PullMessage): true, codeLabel(protocol.LitePullMessage): true}
	r.m.eachCode(func(code string, s *codeStat) {
		// Of other requests a late answer is no long poll, it waited for the disk.
		kinds := map[rpcKind]*histogram{}
		s.each(func(status int, late bool, h *histogram) {
			slot(kinds, rpcKind{status, late && pulls[code]}).merge(h)
		})
		for k, h := range kinds {
			response := protocol.ResponseName(int32(k.status))
			if response == "" {
				response = statusLabel(k.status)
			}
			n, cum := h.cumulative(time.Millisecond)
			ch <- prometheus.MustNewConstHistogram(r.desc, n, float64(h.sum.Load())/1e6, cum,
				"remoting", code, response, strconv.FormatBool(k.polled), "success")
		}
	})
}

type rpcKind struct {
	status int
	polled bool
}

func known(code int32) bool { return protocol.RequestName(code) != "" }

func codeLabel(code int32) string {
	if code == unknownCode {
		return "unknown"
	}
	return protocol.RequestName(code)
}
