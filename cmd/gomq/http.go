package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// httpOptions say where metrics, health and pprof are served.
type httpOptions struct {
	host       string
	port       int
	configured bool // false: the default port; when it is taken the process goes on without
}

// httpServer serves /metrics, /healthz, /readyz and /debug/pprof. It listens
// before the role starts, so that a long recovery can be watched.
type httpServer struct {
	ready atomic.Pointer[func() error] // nil: still starting
	open  atomic.Int64                 // connections
	srv   http.Server
}

// maxHTTPConns bounds the connections of the HTTP port.
const maxHTTPConns = 64

var errStarting = errors.New("starting")

// serveHTTP starts the server in the process's group. It returns nil without an
// error where there is none: switched off, or its default port is taken.
func (p *process) serveHTTP(o httpOptions) (*httpServer, error) {
	if o.port == 0 {
		return nil, nil
	}
	addr := net.JoinHostPort(o.host, strconv.Itoa(o.port))
	var lc net.ListenConfig
	l, err := lc.Listen(p.group.Context(), "tcp", addr)
	if err != nil && o.configured {
		return nil, err
	} else if err != nil {
		p.log.Warn("no metrics, health and pprof: the default HTTP port cannot be had; set httpPort to another one, or to 0", zap.String("address", addr), zap.Error(err))
		return nil, nil
	}
	h := &httpServer{}
	errorLog, _ := zap.NewStdLogAt(p.log, zap.WarnLevel)
	h.srv = http.Server{Handler: h.mux(p.registry), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: errorLog, ConnState: h.count}
	p.group.Go("http", func(context.Context) error {
		if err := h.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	p.log.Info("metrics, health and pprof", zap.String("url", "http://"+l.Addr().String()))
	return h, nil
}

// count keeps the number of connections: descriptors are for clients and files.
func (h *httpServer) count(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if h.open.Add(1) > maxHTTPConns {
			_ = c.Close() // counted as closed when it is read
		}
	case http.StateClosed, http.StateHijacked:
		h.open.Add(-1)
	}
}

// setReady says what /readyz asks from now on.
func (h *httpServer) setReady(fn func() error) {
	if h != nil {
		h.ready.Store(&fn)
	}
}

func (h *httpServer) isReady() error {
	if fn := h.ready.Load(); fn != nil {
		return (*fn)()
	}
	return errStarting
}

// stop ends the server; requests that are being answered have a second.
func (h *httpServer) stop() {
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if h.srv.Shutdown(ctx) != nil {
		_ = h.srv.Close()
	}
}

func (h *httpServer) mux(registry *prometheus.Registry) *http.ServeMux {
	m := http.NewServeMux()
	m.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	m.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.isReady(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		b := buildInfo()
		fmt.Fprintf(w, "gomq %s\n\n/metrics       Prometheus\n/healthz       the process runs\n/readyz        it serves\n/debug/pprof/  profiles\n", b.Version)
	})
	return m
}
