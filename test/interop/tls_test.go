//go:build interop || interop_all

package interop

import (
	"testing"

	"gomq/test/harness"
)

// TestJavaTLS has Java clients that speak TLS only (tls.enable, which is useTLS of
// every client in the process) do a short list of things at a nameserver and a
// broker that are enforcing: first with a certificate that the servers have made
// for themselves, then with certificates on both sides that both sides check.
func TestJavaTLS(t *testing.T) {
	needJava(t)
	if harness.Kind() != "gomq" {
		harness.Skip(t, "the originals' keys are system properties")
	}
	t.Run("SelfSigned", func(t *testing.T) {
		c := tlsCluster(t, map[string]string{"tls.server.mode": "enforcing"}, map[string]string{"tls.server.mode": "enforcing"})
		for _, version := range clientVersions {
			t.Run(version, func(t *testing.T) {
				t.Parallel()
				overTLS(t, newEnv(t, c, version, "JSON", "-Dtls.enable=true"))
			})
		}
	})
	t.Run("Permissive", func(t *testing.T) { // brokers ask producers over TLS too, beside the test's plain connections
		c := tlsCluster(t, map[string]string{}, map[string]string{"transactionTimeOut": "1000", "transactionCheckInterval": "500", "transactionCheckMax": "5"})
		e := newEnv(t, c, "4.9.8", "JSON", "-Dtls.enable=true")
		outcomes(t, e)
		m := harness.ReadMetrics(t, c.broker.HTTP())
		if n, _ := m.Sum("gomq_tls_connections"); n < 1 {
			t.Errorf("%v connections over TLS", n)
		}
	})
	t.Run("Certificates", func(t *testing.T) {
		p := harness.NewPKI(t)
		for _, name := range []string{"namesrv", "broker", "client"} {
			p.Issue(name, name)
		}
		c := tlsCluster(t, p.Strict("namesrv"), p.Strict("broker"))
		overTLS(t, newEnv(t, c, "4.9.8", "ROCKETMQ", "-Dtls.enable=true", "-Dtls.test.mode.enable=false",
			"-Dtls.client.certPath="+p.Path("client.pem"), "-Dtls.client.keyPath="+p.Path("client.key"),
			"-Dtls.client.authServer=true", "-Dtls.client.trustCertPath="+p.Path("authority.pem")))
	})
}

func tlsCluster(t *testing.T, ns, broker map[string]string) *cluster {
	n := harness.StartNamesrv(t, harness.Config{Props: ns})
	broker["brokerFastFailureEnable"] = "false"
	return &cluster{ns: n, broker: harness.StartBroker(t, n.Addr(), harness.Config{Props: broker})}
}

// overTLS is what the scenarios do that are worth a second run: all ways to send
// with a push consumer, pulls, large and compressed bodies.
func overTLS(t *testing.T, e *env) {
	for _, s := range []scenario{{"SendModes", sendModes}, {"Pull", pull4}, {"Compressed", compressed}} {
		t.Run(s.name, func(t *testing.T) { s.run(t, e) })
	}
	m := harness.ReadMetrics(t, e.c.broker.HTTP())
	if n, ok := m.Sum("gomq_tls_connections"); !ok || n < 1 {
		t.Errorf("%v connections over TLS", n)
	}
	if open, _ := m.Sum("gomq_connections"); open < 1 {
		t.Errorf("%v connections", open)
	}
	if n, _ := m.Sum("gomq_refusals_total", "cause=tls-required"); n != 0 {
		t.Errorf("%v connections came without TLS", n)
	}
}
