package role

import "gomq/internal/config"

// TLS are the options of TLS; Common embeds them. Fields have the names of their
// keys without the dots.
type TLS struct {
	TLSServerMode     string // disabled, permissive, enforcing
	UseTLS            bool   // outgoing connections
	TLSTestModeEnable bool
	TLSConfigFile     string

	TLSServerCertPath       string
	TLSServerKeyPath        string
	TLSServerKeyPassword    string
	TLSServerNeedClientAuth string // none, optional, require
	TLSServerAuthClient     bool
	TLSServerTrustCertPath  string

	TLSClientCertPath      string
	TLSClientKeyPath       string
	TLSClientKeyPassword   string
	TLSClientAuthServer    bool
	TLSClientTrustCertPath string
}

const tlsConfigFile = "/etc/rocketmq/tls.properties"

// TLSKeys are the original's system properties for TLS (config.md section 2) as
// keys. outgoing says whether the role makes connections; otherwise their keys are
// known and have no effect.
func (o *Common) TLSKeys(outgoing bool) config.Section {
	client := []config.Key{
		{Name: "useTLS", Field: &o.UseTLS, Default: "true when tls.server.mode=enforcing", Auto: func() string { return "false" }, Tier: 2, Aliases: []config.Alias{{Name: "tls.enable", Quiet: true}},
			Doc: "TLS on the connections that this process makes, to nameservers and masters, for replication from a gomq master too."},
		{Name: "tls.client.certPath", Field: &o.TLSClientCertPath, Tier: 2, Doc: "PEM file of the certificate that this process shows where it connects to, and of its chain."},
		{Name: "tls.client.keyPath", Field: &o.TLSClientKeyPath, Tier: 2, Doc: "PEM file of its key."},
		{Name: "tls.client.keyPassword", Field: &o.TLSClientKeyPassword, Tier: 2, Doc: "Password of that key when it is encrypted."},
		{Name: "tls.client.authServer", Field: &o.TLSClientAuthServer, Default: "false", Tier: 2, Doc: "Check the certificate of the other side by tls.client.trustCertPath; false takes any."},
		{Name: "tls.client.trustCertPath", Field: &o.TLSClientTrustCertPath, Tier: 2, Doc: "PEM file of the authorities that it is checked by; names are then not checked, as in the original. Empty: the system's authorities, with the name that was dialled."},
	}
	if !outgoing {
		for i := range client {
			k := &client[i]
			k.Type, k.Field, k.Effect = "string", nil, config.NoEffect
			if k.Name == "useTLS" || k.Name == "tls.client.authServer" {
				k.Type, k.Default, k.Auto = "bool", "false", nil
			}
		}
	}
	return config.Section{Title: "TLS", Doc: "On the same ports as plain connections, told apart by the first byte; TLS 1.2 and 1.3. Files are looked at every second: new connections use what has changed, and a bad new file leaves the old one in use. " +
		"Keys are PKCS#8, PKCS#1 or SEC 1; encrypted ones too, but for scrypt and the methods older than SHA-1. Where the original has a system property, the key is written into the file of the role, or, for all but tls.server.mode and useTLS, into tls.config.file.",
		Keys: append([]config.Key{
			{Name: "tls.server.mode", Field: &o.TLSServerMode, Default: "permissive", Range: "disabled | permissive | enforcing", Tier: 2,
				Doc: "disabled: plain connections only; permissive: both; enforcing: TLS only, others are closed."},
			{Name: "tls.config.file", Field: &o.TLSConfigFile, Default: tlsConfigFile, Tier: 2,
				Doc: "Properties file of the keys below, which win over those here. The default is read where it exists; another one has to exist."},
			{Name: "tls.test.mode.enable", Field: &o.TLSTestModeEnable, Default: "true", Tier: 2,
				Doc: "Make a certificate at start where none is given. Unlike in the original a given one counts all the same."},
			{Name: "tls.server.certPath", Field: &o.TLSServerCertPath, Tier: 2, Doc: "PEM file of the certificate of this process and of its chain."},
			{Name: "tls.server.keyPath", Field: &o.TLSServerKeyPath, Tier: 2, Doc: "PEM file of its key."},
			{Name: "tls.server.keyPassword", Field: &o.TLSServerKeyPassword, Tier: 2, Doc: "Password of that key when it is encrypted."},
			{Name: "tls.server.need.client.auth", Field: &o.TLSServerNeedClientAuth, Default: "none", Range: "none | optional | require", Tier: 2,
				Doc: "Whether clients may or must show a certificate."},
			{Name: "tls.server.authClient", Field: &o.TLSServerAuthClient, Default: "false", Tier: 2,
				Doc: "Check it by tls.server.trustCertPath; false takes any certificate, which keeps nobody out."},
			{Name: "tls.server.trustCertPath", Field: &o.TLSServerTrustCertPath, Tier: 2, Doc: "PEM file of the authorities that it is checked by. Empty: the system's."},
		}, client...)}
}
