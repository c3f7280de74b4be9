package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gomq/internal/remoting"
)

// tlsFlags are how a tool connects to servers that want TLS.
type tlsFlags struct {
	on               bool
	trust, cert, key string
}

func (f *tlsFlags) add(c *cobra.Command) {
	c.Flags().BoolVar(&f.on, "tls", false, "connect over TLS; without --tls-trust any certificate is taken, as by mqadmin")
	c.Flags().StringVar(&f.trust, "tls-trust", "", "PEM file of the authorities that the servers' certificates are checked by")
	c.Flags().StringVar(&f.cert, "tls-cert", "", "PEM file of a certificate to show, where the servers ask for one")
	c.Flags().StringVar(&f.key, "tls-key", "", "PEM file of its key, which must not be encrypted")
}

// dial is what to connect with; nil without TLS.
func (f *tlsFlags) dial() (*remoting.TLS, error) {
	if !f.on && f.trust == "" && f.cert == "" && f.key == "" {
		return nil, nil
	}
	t, err := remoting.DialTLS(remoting.TLSOptions{Cert: f.cert, Key: f.key, Trust: f.trust, Verify: f.trust != ""})
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return t, nil
}
