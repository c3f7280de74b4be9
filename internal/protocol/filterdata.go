package protocol

import "strconv"

// FilterData is what the original keeps of one group's SQL92 subscription to one
// topic (store.md section 12, consumerFilter.json; 4.9.7).
type FilterData struct {
	Topic          string
	Group          string // consumerGroup
	Expression     string
	ExpressionType string // SQL92
	BornTime       int64  // ms: when this expression was first heard of
	DeadTime       int64  // ms: when the group was gone; 0 while it lives
	ClientVersion  int64  // the subscription's version
	BloomBits      int32  // the sizes and positions of filter bits
	BloomPositions []int32
}

// Dead says whether nobody of the group has the subscription any more.
func (d *FilterData) Dead() bool { return d.DeadTime >= d.BornTime }

// FilterTable is consumerFilter.json: topic -> group -> data.
type FilterTable map[string]map[string]*FilterData

// ParseFilterTable reads consumerFilter.json. Entries without a topic, a group or
// an expression are left out.
func ParseFilterTable(b []byte) (FilterTable, error) {
	t := FilterTable{}
	add := func(d *FilterData) {
		if d.Topic == "" || d.Group == "" || d.Expression == "" {
			return
		}
		if t[d.Topic] == nil {
			t[d.Topic] = map[string]*FilterData{}
		}
		t[d.Topic][d.Group] = d
	}
	err := readBody("consumer filters", b, func(r *reader) {
		r.bean(func(name []byte) {
			if string(name) != "filterdatabytopic" {
				return
			}
			r.table(func([]byte) {
				r.bean(func(name []byte) {
					if string(name) == "groupfilterdata" {
						r.table(func([]byte) { add(r.filterData()) })
					}
				})
			})
		})
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (r *reader) filterData() *FilterData {
	d := &FilterData{}
	r.bean(func(name []byte) {
		switch string(name) {
		case "topic":
			r.str(&d.Topic)
		case "consumergroup":
			r.str(&d.Group)
		case "expression":
			r.str(&d.Expression)
		case "expressiontype":
			r.str(&d.ExpressionType)
		case "borntime":
			r.int64(&d.BornTime)
		case "deadtime":
			r.int64(&d.DeadTime)
		case "clientversion":
			r.int64(&d.ClientVersion)
		case "bloomfilterdata":
			r.bean(func(name []byte) {
				switch string(name) {
				case "bitnum":
					r.int32(&d.BloomBits)
				case "bitpos":
					d.BloomPositions = nil
					r.list(func() {
						var at int32
						r.int32(&at)
						d.BloomPositions = append(d.BloomPositions, at)
					})
				}
			})
		}
	})
	return d
}

// Pretty is the text of consumerFilter.json as 4.9.7 writes it, keys sorted.
func (t FilterTable) Pretty() []byte {
	w := writer{pretty: true}
	w.open('{')
	w.key("filterDataByTopic")
	w.open('{')
	for _, topic := range sorted(t) {
		w.key(topic)
		w.open('{')
		w.key("groupFilterData")
		w.open('{')
		for _, group := range sorted(t[topic]) {
			w.key(group)
			w.filterData(t[topic][group])
		}
		w.end()
		w.str("topic", topic)
		w.end()
	}
	w.end()
	w.end()
	return w.b
}

func (w *writer) filterData(d *FilterData) {
	w.open('{')
	w.key("bloomFilterData")
	w.open('{')
	w.int("bitNum", int64(d.BloomBits))
	w.key("bitPos")
	w.open('[')
	for _, at := range d.BloomPositions {
		w.item()
		w.b = strconv.AppendInt(w.b, int64(at), 10)
	}
	w.endList()
	w.end()
	w.int("bornTime", d.BornTime)
	w.int("clientVersion", d.ClientVersion)
	w.str("consumerGroup", d.Group)
	w.bool("dead", d.Dead())
	w.int("deadTime", d.DeadTime)
	w.str("expression", d.Expression)
	w.str("expressionType", d.ExpressionType)
	w.str("topic", d.Topic)
	w.end()
}
