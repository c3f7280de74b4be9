package namesrv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"

	"go.uber.org/zap"

	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
)

// orderNamespace is the namespace that brokers are sent and routes may carry.
const orderNamespace = "ORDER_TOPIC_CONFIG"

// kv is the key-value configuration: namespace to key to value, in memory and in
// one file. A change is on disk before it is answered.
type kv struct {
	path string

	mu    sync.RWMutex // guards the rest
	table map[string]map[string]string
	bytes int // of keys and values

	writing sync.Mutex // one change at a time
}

// kvFile is the file, as fastjson writes KVConfigSerializeWrapper:
// {"configTable":{"namespace":{"key":"value"}}}
type kvFile struct {
	ConfigTable map[string]map[string]string `json:"configTable"`
}

// openKV reads the file. One that is missing, empty or damaged gives way to its
// .bak; with neither there the configuration is empty. When one is there and
// none can be read, it is refused: starting without would lose it for good.
func openKV(path string, log *zap.Logger) (*kv, error) {
	k := &kv{path: path, table: map[string]map[string]string{}}
	var problems []error
	for _, name := range []string{path, path + ".bak"} {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var f kvFile
		if err == nil && len(bytes.TrimSpace(data)) == 0 {
			err = fmt.Errorf("%s is empty", name)
		} else if err == nil {
			if err = json.Unmarshal(data, &f); err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if len(problems) > 0 {
			log.Warn("the KV configuration is that of its backup", zap.String("file", name), zap.Error(errors.Join(problems...)))
		}
		for ns, values := range f.ConfigTable {
			if values != nil {
				k.table[ns] = values
			}
		}
		k.bytes = weigh(k.table)
		return k, nil
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w; repair it from a copy, or remove it and its .bak to start without what it held", errors.Join(problems...))
	}
	return k, nil
}

func weigh(table map[string]map[string]string) (n int) {
	for ns, values := range table {
		n += len(ns)
		for k, v := range values {
			n += len(k) + len(v)
		}
	}
	return n
}

// namespace copies a namespace; nil when it does not exist.
func (k *kv) namespace(ns string) map[string]string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return maps.Clone(k.table[ns])
}

func (k *kv) get(ns, key string) (string, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	v, ok := k.table[ns][key]
	return v, ok
}

// change applies fn to a copy of a namespace, writes the file and then makes the
// copy the configuration. When the file cannot be written nothing has changed.
func (k *kv) change(ns string, most int, fn func(values map[string]string) bool) error {
	k.writing.Lock()
	defer k.writing.Unlock()
	k.mu.RLock()
	next := maps.Clone(k.table)
	size := k.bytes
	k.mu.RUnlock()
	values := maps.Clone(next[ns])
	if values == nil {
		values = map[string]string{}
	}
	if !fn(values) {
		return nil
	}
	next[ns] = values
	now := weigh(next)
	if now > most && now > size {
		return fmt.Errorf("the KV configuration would have %d bytes, more than maxKVConfigBytes=%d", now, most)
	}
	if err := k.write(next); err != nil {
		return fmt.Errorf("the KV configuration was not changed, because %s could not be written: %w", k.path, err)
	}
	k.mu.Lock()
	k.table, k.bytes = next, now
	k.mu.Unlock()
	return nil
}

func (k *kv) write(table map[string]map[string]string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(kvFile{table}); err != nil {
		return err
	}
	if err := prepareDir(k.path); err != nil {
		return err
	}
	return config.Replace(k.path, bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

// putKV serves PUT_KV_CONFIG (100).
func (s *Server) putKV(c *remoting.Call) (remoting.Response, error) {
	for _, name := range []string{"namespace", "key"} {
		if v, ok := c.Req.Get(name); !ok || len(v) == 0 {
			return remoting.Response{}, refuse(protocol.SystemError, "namespace or key is null")
		}
	}
	h := protocol.KVHeader{Put: true}
	if err := c.Req.Decode(&h); err != nil {
		return remoting.Response{}, err
	}
	err := s.kv.change(h.Namespace, s.live.Load().MaxKVConfigBytes, func(values map[string]string) bool {
		values[h.Key] = h.Value
		return true
	})
	return s.kvChanged(c, &h, "put", err)
}

// deleteKV serves DELETE_KV_CONFIG (102); what is not there is deleted already.
func (s *Server) deleteKV(c *remoting.Call, h *protocol.KVHeader) (remoting.Response, error) {
	err := s.kv.change(h.Namespace, s.live.Load().MaxKVConfigBytes, func(values map[string]string) bool {
		_, ok := values[h.Key]
		delete(values, h.Key)
		return ok
	})
	return s.kvChanged(c, h, "delete", err)
}

func (s *Server) kvChanged(c *remoting.Call, h *protocol.KVHeader, verb string, err error) (remoting.Response, error) {
	if err != nil {
		return remoting.Response{}, err
	}
	s.log.Info("KV configuration changed", zap.String("verb", verb), zap.String("namespace", h.Namespace), zap.String("key", h.Key), zap.Stringer("peer", c.Conn.Remote()))
	if h.Namespace == orderNamespace {
		s.tellOrders()
	}
	return remoting.Response{}, nil
}

// getKV serves GET_KV_CONFIG (101).
func (s *Server) getKV(_ *remoting.Call, h *protocol.KVHeader) (remoting.Response, error) {
	v, ok := s.kv.get(h.Namespace, h.Key)
	if !ok {
		// The original sends an empty header along.
		return remoting.Response{Header: &protocol.NoFields{}}, refuse(protocol.QueryNotFound, fmt.Sprintf("No config item, Namespace: %s Key: %s", h.Namespace, h.Key))
	}
	return remoting.Response{Header: &protocol.KVReply{Value: v}}, nil
}

// listKV serves GET_KVLIST_BY_NAMESPACE (219).
func (s *Server) listKV(_ *remoting.Call, h *protocol.NamespaceHeader) (remoting.Response, error) {
	values := s.kv.namespace(h.Namespace)
	if values == nil {
		return remoting.Response{}, refuse(protocol.QueryNotFound, "No config item, Namespace: "+h.Namespace)
	}
	return remoting.Response{Body: protocol.KVTable(values).Append(nil)}, nil
}
