package protocol

// GroupConfig is a subscription group as subscriptionGroup.json has it.
type GroupConfig struct {
	GroupName                      string
	ConsumeEnable                  bool
	ConsumeFromMinEnable           bool
	ConsumeBroadcastEnable         bool
	RetryQueueNums                 int32
	RetryMaxTimes                  int32
	BrokerID                       int64
	WhichBrokerWhenConsumeSlowly   int64
	NotifyConsumerIdsChangedEnable bool
}

// ParseGroupTable reads subscriptionGroup.json or the body of 201.
// What a group does not say has the original's default.
func ParseGroupTable(b []byte) (map[string]GroupConfig, DataVersion, error) {
	t := map[string]GroupConfig{}
	var v DataVersion
	err := readBody("group table", b, func(r *reader) {
		r.bean(func(name []byte) {
			switch string(name) {
			case "dataversion":
				r.dataVersion(&v)
			case "subscriptiongrouptable":
				r.table(func(key []byte) {
					group := string(key)
					if t[group] = r.group(group); len(t) > MaxTableEntries {
						r.fail("more than %d groups", MaxTableEntries)
					}
				})
			}
		})
	})
	if err != nil {
		return nil, DataVersion{}, err
	}
	return t, v, nil
}

func (r *reader) group(name string) GroupConfig {
	g := GroupConfig{ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true,
		RetryQueueNums: 1, RetryMaxTimes: 16, WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIdsChangedEnable: true}
	r.bean(func(name []byte) {
		switch string(name) {
		case "groupname":
			r.str(&g.GroupName)
		case "consumeenable":
			r.bool(&g.ConsumeEnable)
		case "consumefromminenable":
			r.bool(&g.ConsumeFromMinEnable)
		case "consumebroadcastenable":
			r.bool(&g.ConsumeBroadcastEnable)
		case "retryqueuenums":
			r.int32(&g.RetryQueueNums)
		case "retrymaxtimes":
			r.int32(&g.RetryMaxTimes)
		case "brokerid":
			r.int64(&g.BrokerID)
		case "whichbrokerwhenconsumeslowly":
			r.int64(&g.WhichBrokerWhenConsumeSlowly)
		case "notifyconsumeridschangedenable":
			r.bool(&g.NotifyConsumerIdsChangedEnable)
		}
	})
	if g.GroupName == "" {
		g.GroupName = name
	}
	return g
}

// PrettyGroupTable is the text of subscriptionGroup.json as 4.9.7 writes it.
func PrettyGroupTable(t map[string]*GroupConfig, v DataVersion) []byte {
	return writeTable(writer{pretty: true}, "subscriptionGroupTable", t, v, (*writer).group)
}

// AppendGroupTable appends the compact form, the body of 201.
func AppendGroupTable(dst []byte, t map[string]*GroupConfig, v DataVersion) []byte {
	return writeTable(writer{b: dst}, "subscriptionGroupTable", t, v, (*writer).group)
}

func (w *writer) group(g *GroupConfig) {
	w.open('{')
	w.int("brokerId", g.BrokerID)
	w.bool("consumeBroadcastEnable", g.ConsumeBroadcastEnable)
	w.bool("consumeEnable", g.ConsumeEnable)
	w.bool("consumeFromMinEnable", g.ConsumeFromMinEnable)
	w.str("groupName", g.GroupName)
	w.bool("notifyConsumerIdsChangedEnable", g.NotifyConsumerIdsChangedEnable)
	w.int("retryMaxTimes", int64(g.RetryMaxTimes))
	w.int("retryQueueNums", int64(g.RetryQueueNums))
	w.int("whichBrokerWhenConsumeSlowly", g.WhichBrokerWhenConsumeSlowly)
	w.end()
}

// ParseGroup reads the body of UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200); what is
// missing has the original's default.
func ParseGroup(b []byte) (g GroupConfig, err error) {
	err = readBody("group", b, func(r *reader) { g = r.group("") })
	return g, err
}

// Append appends one group, the body of 200.
func (g *GroupConfig) Append(dst []byte) []byte {
	w := writer{b: dst}
	w.group(g)
	return w.b
}
