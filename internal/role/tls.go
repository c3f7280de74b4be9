package role

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/remoting"
)

// loadTLS reads tls.config.file over what the role's own file says, as the
// original does, and derives useTLS.
func (o *Common) loadTLS(t *config.Table, getenv func(string) string) []config.Problem {
	problems := inJavaOpt(getenv)
	src, err := config.ReadFile(o.TLSConfigFile)
	switch {
	case err == nil:
		problems = append(problems, tlsFile(t, src)...)
	case errors.Is(err, fs.ErrNotExist) && o.TLSConfigFile == tlsConfigFile, o.TLSConfigFile == "":
	default:
		problems = append(problems, config.Problem{Level: config.Fatal, Line: o.Source.Line("tls.config.file"), Key: "tls.config.file", Value: o.TLSConfigFile,
			Text: "cannot be read: " + err.Error()})
	}
	if o.TLSServerMode == "enforcing" && !t.Given("useTLS") {
		o.UseTLS = true
	}
	return problems
}

// tlsFile stores the keys of a tls.properties.
func tlsFile(t *config.Table, src *config.Source) (problems []config.Problem) {
	src.Each(func(key, value string, line int) {
		found := []config.Problem{{Level: config.Warning, Key: key, Value: config.Redact(key, value), Text: "is no key of this file and has no effect in it"}}
		switch {
		case key == "tls.server.mode" || key == "tls.enable" || key == "useTLS":
			found[0].Text = "is not read from this file, as in the original; write it into the file of the broker or nameserver"
		case key == "tls.test.mode.enable" || strings.HasPrefix(key, "tls.server.") || strings.HasPrefix(key, "tls.client."):
			found = t.Set("", key, value)
		}
		for _, p := range found {
			p.File, p.Line = src.File, line
			problems = append(problems, p)
		}
	})
	return problems
}

// inJavaOpt warns of TLS that was asked for as the original's scripts have it, and
// would be missed in silence.
func inJavaOpt(getenv func(string) string) []config.Problem {
	for _, name := range []string{"JAVA_OPT", "JAVA_OPT_EXT"} {
		if getenv != nil && strings.Contains(getenv(name), "-Dtls.") {
			return []config.Problem{{Level: config.Warning, File: "environment variable " + name, Key: "-Dtls.",
				Text: "has no effect, because there is no JVM; write the key into the file of the broker or nameserver"}}
		}
	}
	return nil
}

// serveTLS is the TLS of accepted connections; nil when there is none.
func (o *Common) serveTLS(log *zap.Logger) (*remoting.TLS, error) {
	if o.TLSServerMode == "disabled" {
		return nil, nil
	}
	enforce := o.TLSServerMode == "enforcing"
	given := o.TLSServerCertPath != "" || o.TLSServerKeyPath != ""
	if !enforce && !given && !o.TLSTestModeEnable {
		log.Info("TLS is not served: tls.test.mode.enable=false and there is no certificate")
		return nil, nil
	}
	t, err := remoting.ServeTLS(remoting.TLSOptions{Cert: o.TLSServerCertPath, Key: o.TLSServerKeyPath, KeyPassword: o.TLSServerKeyPassword,
		Trust: o.TLSServerTrustCertPath, Verify: o.TLSServerAuthClient, Enforce: enforce, SelfSigned: o.TLSTestModeEnable,
		Ask: remoting.ClientAuth(o.TLSServerNeedClientAuth)})
	if err != nil {
		// Not wrapped: what a file of a key lacks says nothing about the store.
		return nil, fmt.Errorf("tls.server.mode=%s: %v", o.TLSServerMode, err)
	}
	subject, until, made := t.Describe()
	fields := []zap.Field{zap.String("mode", o.TLSServerMode), zap.String("certificate", subject), zap.Time("notAfter", until)}
	if made {
		log.Info("TLS is served with a certificate made just now, which clients cannot check; set tls.server.certPath and tls.server.keyPath", fields...)
	} else {
		log.Info("TLS is served", fields...)
	}
	switch {
	case o.TLSServerNeedClientAuth == "require" && !o.TLSServerAuthClient:
		log.Warn("clients must show a certificate, and any will do: set tls.server.authClient=true to have it checked")
	case o.TLSServerNeedClientAuth != "none" && o.TLSServerTrustCertPath == "":
		log.Warn("the certificates of clients are checked by the system's authorities, which anybody may ask for one: set tls.server.trustCertPath")
	}
	return t, nil
}

// DialTLS is the TLS of the connections that the role makes; nil when it uses none.
func (o *Common) DialTLS() (*remoting.TLS, error) {
	if !o.UseTLS {
		return nil, nil
	}
	t, err := remoting.DialTLS(remoting.TLSOptions{Cert: o.TLSClientCertPath, Key: o.TLSClientKeyPath, KeyPassword: o.TLSClientKeyPassword,
		Trust: o.TLSClientTrustCertPath, Verify: o.TLSClientAuthServer})
	if err != nil {
		return nil, fmt.Errorf("useTLS=true: %v", err)
	}
	return t, nil
}
