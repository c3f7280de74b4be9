package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// portUse says which key a port comes from.
type portUse struct {
	port int
	key  string
}

// whyNot turns the error of a role that cannot start into one sentence that says
// what to do about it. dir is where the role keeps its data, key the key that
// names it.
func (p *process) whyNot(err error, ports []portUse, dir, key string) error {
	var op *net.OpError
	key = p.setting(key)
	switch {
	case errors.As(err, &op) && op.Op == "listen":
		return p.whyNotListen(op, ports)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk of %s is full: free some space, or set %s to another disk (%w)", dir, key, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s is on a disk that cannot be written to: set %s to another place (%w)", dir, key, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("no permission in %s: run as its owner, or set %s to another place (%w)", dir, key, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s lies below a file, or is one: set %s to another place (%w)", dir, key, err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("too few open files are allowed: raise the limit (ulimit -n, LimitNOFILE) to 65536 or more (%w)", err)
	}
	return err
}

// setting is how the user sets a key: by an option where there need not be a file.
func (p *process) setting(key string) string {
	if option := p.options[key]; option != "" {
		return option
	}
	return key
}

func (p *process) whyNotListen(op *net.OpError, ports []portUse) error {
	where, key := op.Addr.String(), "listenPort"
	if a, ok := op.Addr.(*net.TCPAddr); ok {
		for _, p := range ports {
			if p.port == a.Port {
				key = p.key
			}
		}
	}
	switch {
	case errors.Is(op, syscall.EADDRINUSE):
		return fmt.Errorf("%s (%s) is in use: stop the process that has it (ss -ltnp shows which), or set %s to another port", where, key, p.setting(baseKey(key)))
	case errors.Is(op, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this machine: set listenHost (httpHost) to one that it has, or leave it empty for all", where)
	case errors.Is(op, syscall.EACCES):
		return fmt.Errorf("no permission to listen on %s (%s): ports below 1024 need a capability; set %s to a higher one", where, key, p.setting(baseKey(key)))
	}
	return op
}

// baseKey is the key to change for a port that is computed from one.
func baseKey(key string) string {
	return key[:len(key)-len(strings.TrimLeft(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
}

// checkAdvertised warns when clients are told an address at which this broker
// cannot be reached from its own machine: they would not find it either. It is
// no error, because an address may be good outside only (NAT, containers).
func (p *process) checkAdvertised(host string, port int) {
	p.group.Go("advertised address", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		addr := net.JoinHostPort(host, strconv.Itoa(port))
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		if p.group.Context().Err() == nil {
			p.log.Warn("clients are told to connect to an address that does not answer from this machine; if it does not from theirs either, set brokerIP1 to one that does",
				zap.String("brokerIP1", host), zap.String("address", addr), zap.Error(err))
		}
		return nil
	})
}

func isListen(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}
