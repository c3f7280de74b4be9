package meta

import (
	"strings"
	"time"

	"gomq/internal/message"
	"gomq/internal/protocol"
)

// builtinGroups exist from the start (behaviour.md 2.8).
var builtinGroups = []string{"TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY", "CID_ONSAPI_PULL", "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER"}

// Groups is the table of subscription groups, kept in subscriptionGroup.json.
type Groups struct{ table[protocol.GroupConfig] }

// NewGroup is a group with the original's defaults.
func NewGroup(name string) protocol.GroupConfig {
	return protocol.GroupConfig{GroupName: name, ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true,
		RetryQueueNums: 1, RetryMaxTimes: 16, WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIdsChangedEnable: true}
}

// LoadGroups reads the table from path and adds the built-in groups. limit says
// how many groups there may be; those of the file are kept even if they are more.
func LoadGroups(path string, limit func() int, now func() time.Time) (*Groups, error) {
	g := &Groups{table[protocol.GroupConfig]{file: file{path: path}, now: now, kind: "group", limit: limit, pretty: protocol.PrettyGroupTable}}
	builtin := map[string]protocol.GroupConfig{}
	for _, name := range builtinGroups {
		builtin[name] = NewGroup(name)
	}
	return g, g.load(protocol.ParseGroupTable, builtin)
}

// Ensure is Get that creates a missing group when auto says that groups are
// created on first use, or when its name is one of the broker's own; nil when
// neither. The file follows with the next Save: a group created by use is
// created again by use.
func (g *Groups) Ensure(name []byte, auto bool) (*protocol.GroupConfig, error) {
	if c := g.Get(name); c != nil {
		return c, nil
	}
	if !auto && !strings.HasPrefix(string(name), "CID_RMQ_SYS_") {
		return nil, nil
	}
	if err := message.ValidGroup(string(name)); err != nil {
		return nil, err
	}
	c, err := g.add(string(name), NewGroup(string(name)), false)
	return c, err
}

// Put creates or replaces a group and writes the file.
func (g *Groups) Put(c protocol.GroupConfig) error {
	if err := message.ValidGroup(c.GroupName); err != nil {
		return err
	}
	if _, err := g.add(c.GroupName, c, true); err != nil {
		return err
	}
	return g.Save()
}
