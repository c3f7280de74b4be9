package protocol

// DataVersion tells one state of a table from another (wire.md section 18).
type DataVersion struct {
	Timestamp int64 // ms
	Counter   int64
}

// TopicConfig is a topic as topics.json and registrations have it.
type TopicConfig struct {
	TopicName       string
	ReadQueueNums   int32
	WriteQueueNums  int32
	Perm            int32
	TopicFilterType string // SINGLE_TAG, MULTI_TAG
	TopicSysFlag    int32
	Order           bool
}

// MaxTableEntries is how many topics or groups a table, and how many texts a
// list may have that is read.
const MaxTableEntries = 1 << 18

var filterTypes = []string{"SINGLE_TAG", "MULTI_TAG"}

// ParseTopicTable reads topics.json or the body of GET_ALL_TOPIC_CONFIG (21).
// What a topic does not say has the original's default.
func ParseTopicTable(b []byte) (map[string]TopicConfig, DataVersion, error) {
	var t map[string]TopicConfig
	var v DataVersion
	err := readBody("topic table", b, func(r *reader) { r.topicTable(&t, &v) })
	if err != nil {
		return nil, DataVersion{}, err
	}
	return t, v, nil
}

// topicTable reads {"dataVersion":{...},"topicConfigTable":{...}}.
func (r *reader) topicTable(t *map[string]TopicConfig, v *DataVersion) {
	*t = map[string]TopicConfig{}
	r.bean(func(name []byte) { r.topicTableMember(name, *t, v) })
}

func (r *reader) topicTableMember(name []byte, t map[string]TopicConfig, v *DataVersion) {
	switch string(name) {
	case "dataversion":
		r.dataVersion(v)
	case "topicconfigtable":
		r.table(func(key []byte) {
			topic := string(key)
			if t[topic] = r.topic(topic); len(t) > MaxTableEntries {
				r.fail("more than %d topics", MaxTableEntries)
			}
		})
	}
}

func (r *reader) topic(name string) TopicConfig {
	c := TopicConfig{ReadQueueNums: 16, WriteQueueNums: 16, Perm: 6, TopicFilterType: filterTypes[0]}
	r.bean(func(name []byte) {
		switch string(name) {
		case "topicname":
			r.str(&c.TopicName)
		case "readqueuenums":
			r.int32(&c.ReadQueueNums)
		case "writequeuenums":
			r.int32(&c.WriteQueueNums)
		case "perm":
			r.int32(&c.Perm)
		case "topicfiltertype":
			if r.enum(&c.TopicFilterType, filterTypes); c.TopicFilterType == "" {
				c.TopicFilterType = filterTypes[0]
			}
		case "topicsysflag":
			r.int32(&c.TopicSysFlag)
		case "order":
			r.bool(&c.Order)
		}
	})
	if c.TopicName == "" {
		c.TopicName = name
	}
	return c
}

// PrettyTopicTable is the text of topics.json as 4.9.7 writes it, topics sorted.
func PrettyTopicTable(t map[string]*TopicConfig, v DataVersion) []byte {
	return writeTable(writer{pretty: true}, "topicConfigTable", t, v, (*writer).topic)
}

// AppendTopicTable appends the compact form, the body of 21, topics sorted.
func AppendTopicTable(dst []byte, t map[string]*TopicConfig, v DataVersion) []byte {
	return writeTable(writer{b: dst}, "topicConfigTable", t, v, (*writer).topic)
}

// writeTable writes a table with its version, sorted.
func writeTable[T any](w writer, name string, t map[string]*T, v DataVersion, one func(*writer, *T)) []byte {
	w.open('{')
	w.key("dataVersion")
	w.dataVersion(v)
	w.key(name)
	w.open('{')
	for _, key := range sorted(t) {
		w.key(key)
		one(&w, t[key])
	}
	w.end()
	w.end()
	return w.b
}

func (w *writer) topic(t *TopicConfig) {
	w.open('{')
	w.bool("order", t.Order)
	w.int("perm", int64(t.Perm))
	w.int("readQueueNums", int64(t.ReadQueueNums))
	w.str("topicFilterType", t.TopicFilterType)
	w.str("topicName", t.TopicName)
	w.int("topicSysFlag", int64(t.TopicSysFlag))
	w.int("writeQueueNums", int64(t.WriteQueueNums))
	w.end()
}

// ParseTopic reads one topic, the body of the answer to 351.
func ParseTopic(b []byte) (c TopicConfig, err error) {
	err = readBody("topic", b, func(r *reader) { c = r.topic("") })
	return c, err
}

// Append appends one topic, the body of the answer to 351.
func (t *TopicConfig) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.topic(t)
	return w.b
}

// ParseDataVersion reads the body of 322 or of its answer, or the header field
// version of the answer to 26.
func ParseDataVersion(b []byte) (v DataVersion, err error) {
	err = readBody("data version", b, func(r *reader) { r.dataVersion(&v) })
	return v, err
}

// Append appends the version as JSON.
func (v DataVersion) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.dataVersion(v)
	return w.b
}

func (r *reader) dataVersion(v *DataVersion) {
	r.bean(func(name []byte) {
		switch string(name) {
		case "timestamp":
			r.int64(&v.Timestamp)
		case "counter":
			r.int64(&v.Counter)
		}
	})
}

func (w *writer) dataVersion(v DataVersion) {
	w.open('{')
	w.int("counter", v.Counter)
	w.int("timestamp", v.Timestamp)
	w.end()
}
