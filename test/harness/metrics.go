package harness

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var httpClient = &http.Client{Timeout: 10 * time.Second}

// Get fetches a page and returns its status code and text.
func Get(url string) (int, string, error) {
	resp, err := httpClient.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Metrics is one reading of a /metrics page, by family name.
type Metrics map[string]*dto.MetricFamily

// ReadMetrics fetches and parses a /metrics page in the text format. It fails
// the test when the page does not parse.
func ReadMetrics(t testing.TB, base string) Metrics {
	t.Helper()
	resp, err := httpClient.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s/metrics: %s", base, resp.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	m, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatalf("%s/metrics does not parse: %v", base, err)
	}
	return m
}

// Sum adds the values of all series of a counter, gauge or untyped family
// whose labels have the given values ("name=value"), and says whether there
// was one. For a histogram it adds the counts.
func (m Metrics) Sum(name string, labels ...string) (float64, bool) {
	f := m[name]
	sum, found := 0.0, false
	for _, s := range f.GetMetric() {
		if !matches(s, labels) {
			continue
		}
		found = true
		switch f.GetType() {
		case dto.MetricType_COUNTER:
			sum += s.GetCounter().GetValue()
		case dto.MetricType_GAUGE:
			sum += s.GetGauge().GetValue()
		case dto.MetricType_HISTOGRAM:
			sum += float64(s.GetHistogram().GetSampleCount())
		default:
			sum += s.GetUntyped().GetValue()
		}
	}
	return sum, found
}

func matches(s *dto.Metric, labels []string) bool {
	for _, want := range labels {
		ok := false
		for _, l := range s.GetLabel() {
			ok = ok || fmt.Sprintf("%s=%s", l.GetName(), l.GetValue()) == want
		}
		if !ok {
			return false
		}
	}
	return true
}
