package role

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"gomq/internal/config"
)

// options are a role with nothing of its own.
type options struct{ Common }

func (o *options) Finish(string) []config.Problem { return nil }

func table(outgoing bool) func(*options) *config.Table {
	return func(o *options) *config.Table { return config.NewTable("a role", o.TLSKeys(outgoing)) }
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tls.properties wins over the role's file, but for the two keys that the original
// does not take from it; what is no key of it is said with its line.
func TestTLSConfigFile(t *testing.T) {
	props := write(t, "tls.properties", "tls.test.mode.enable=false\ntls.server.certPath=/b\ntls.server.need.client.auth=require\ntls.client.authServer=true\n"+
		"tls.server.mode=disabled\ntls.enable=true\nbrokerName=x\ntls.server.authClient=maybe\n")
	o, problems, err := Load(table(true), write(t, "role.properties", "tls.config.file="+props+"\ntls.server.certPath=/a\ntls.server.keyPath=/k\n"), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "tls.properties:8: tls.server.authClient=maybe") {
		t.Errorf("%v, want the line that does not parse", err)
	}
	if o.TLSTestModeEnable || o.TLSServerCertPath != "/b" || o.TLSServerKeyPath != "/k" || o.TLSServerNeedClientAuth != "require" || !o.TLSClientAuthServer ||
		o.TLSServerMode != "permissive" || o.UseTLS {
		t.Errorf("%+v", o.TLS)
	}
	var said []string
	for _, p := range problems {
		if p.Level == config.Warning {
			said = append(said, fmt.Sprint(p.Line, p.Key))
		}
	}
	if got := strings.Join(said, " "); got != "5tls.server.mode 6tls.enable 7brokerName" {
		t.Errorf("warned of %q", got)
	}
}

func TestUseTLS(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "tls.server.mode=enforcing": true, "tls.server.mode=enforcing\nuseTLS=false": false, "tls.enable=true": true, "useTLS=true\ntls.server.mode=disabled": true,
	} {
		o, _, err := Load(table(true), write(t, "f", text+"\n"), nil, nil)
		if err != nil || o.UseTLS != want {
			t.Errorf("%q: %v, %v", text, o.UseTLS, err)
		}
		if dial, err := o.DialTLS(); err != nil || (dial != nil) != want {
			t.Errorf("%q: dials with TLS: %v, %v", text, dial != nil, err)
		}
	}
}

// TLS that the scripts of the original would have had is not lost in silence.
func TestJavaOpt(t *testing.T) {
	_, problems, err := Load(table(true), "", nil, func(name string) string {
		return map[string]string{"JAVA_OPT_EXT": "-server -Dtls.server.mode=enforcing"}[name]
	})
	if err != nil || len(problems) != 1 || problems[0].Level != config.Warning || !strings.Contains(problems[0].Text, "no JVM") {
		t.Errorf("%v, %v", problems, err)
	}
}

// What the keys of the accepting side add up to.
func TestServeTLS(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "yes",
		"tls.server.mode=disabled":     "no",
		"tls.server.mode=enforcing":    "yes",
		"tls.test.mode.enable=false":   "no",
		"tls.server.keyPath=/absent/k": "go together",
		"tls.server.keyPath=/absent/k\ntls.server.certPath=/absent/c":        "no such file",
		"tls.test.mode.enable=false\ntls.server.mode=enforcing":              "there is no certificate",
		"tls.server.authClient=true\ntls.server.trustCertPath=/absent/trust": "no such file",
	} {
		o, _, err := Load(table(false), write(t, "f", text+"\n"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		door, err := o.Door(zap.NewNop(), nil)
		got := "no"
		if err != nil {
			got = err.Error()
		} else if door.TLS != nil {
			got = "yes"
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
