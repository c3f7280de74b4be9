package protocol

// KVHeader is the header of PUT_KV_CONFIG (100: with Value), GET_KV_CONFIG (101)
// and DELETE_KV_CONFIG (102).
type KVHeader struct {
	Put                   bool // 100: value is required; set before decoding or encoding
	Namespace, Key, Value string
}

// KVReply is the answer to GET_KV_CONFIG.
type KVReply struct{ Value string }

// NamespaceHeader is the header of GET_KVLIST_BY_NAMESPACE (219).
type NamespaceHeader struct{ Namespace string }

// KVTable is the body {"table":{...}} of the answers to 28, 103 and 219.
type KVTable map[string]string

// ParseKVTable reads the body.
func ParseKVTable(body []byte) (KVTable, error) {
	t := KVTable{}
	err := readBody("key value table", body, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) == "table" {
				r.table(func(key []byte) {
					k, v := string(key), ""
					r.str(&v)
					t[k] = v
				})
			}
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Append appends the body, keys sorted.
func (t KVTable) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.open('{')
	w.key("table")
	w.open('{')
	for _, k := range sorted(t) {
		w.str(k, t[k])
	}
	w.end()
	w.end()
	return w.b
}

// Fields implements Header.
func (h *KVHeader) Fields(f *Fields) {
	f.String("namespace", &h.Namespace, true)
	f.String("key", &h.Key, true)
	if h.Put {
		f.String("value", &h.Value, true)
	}
}

// Fields implements Header.
func (h *KVReply) Fields(f *Fields) { f.String("value", &h.Value, true) }

// Fields implements Header.
func (h *NamespaceHeader) Fields(f *Fields) { f.String("namespace", &h.Namespace, true) }
