package broker

import (
	"testing"

	"gomq/internal/protocol"
	"gomq/internal/store"
)

// What a pull is told on a slave is behaviour.md 5.2: offsets out of range are
// left to the master, unless offsetCheckInSlave says otherwise.
func TestPullVerdictOnSlave(t *testing.T) {
	const at = 50
	g := &protocol.GroupConfig{BrokerID: 7, WhichBrokerWhenConsumeSlowly: 3}
	retry, notFound, moved := protocol.PullRetryImmediately, protocol.PullNotFound, protocol.PullOffsetMoved
	for _, c := range []struct {
		role                 Role
		check, read, onDisk  bool
		status               store.GetStatus
		offset, next         int64 // asked for, and where the store goes on
		code                 int32
		wantNext, wantBroker int64
		parks                bool
	}{
		{role: AsyncMaster, status: store.OffsetTooSmall, offset: at, next: 60, code: moved, wantNext: 60},
		{role: AsyncMaster, read: true, status: store.OffsetTooSmall, offset: at, next: 60, code: moved, wantNext: 60, wantBroker: 7},
		{role: Slave, status: store.OffsetTooSmall, offset: at, next: 60, code: retry, wantNext: at, wantBroker: 7},
		{role: Slave, status: store.OffsetOverflowBadly, offset: at, next: 40, code: retry, wantNext: at, wantBroker: 7, parks: true},
		{role: Slave, status: store.NoMessageInQueue, offset: at, next: 0, code: retry, wantNext: at, wantBroker: 7, parks: true},
		{role: Slave, status: store.NoMessageInQueue, offset: 0, next: 0, code: notFound, wantNext: 0, parks: true},
		{role: Slave, status: store.OffsetOverflowOne, offset: at, next: at, code: notFound, wantNext: at, parks: true},
		{role: Slave, check: true, status: store.OffsetOverflowBadly, offset: at, next: 40, code: moved, wantNext: 40},
		{role: Slave, check: true, read: true, status: store.OffsetTooSmall, offset: at, next: 60, code: moved, wantNext: 60, wantBroker: 7},
		{role: Slave, status: store.Found, offset: at, next: 55, code: protocol.Success, wantNext: 55},
		{role: Slave, onDisk: true, status: store.Found, offset: at, next: 55, code: protocol.Success, wantNext: 55},
		{role: Slave, read: true, status: store.Found, offset: at, next: 55, code: protocol.Success, wantNext: 55, wantBroker: 7},
		{role: Slave, read: true, onDisk: true, status: store.Found, offset: at, next: 55, code: protocol.Success, wantNext: 55, wantBroker: 3},
		{role: Slave, status: store.NoMatchedMessage, offset: at, next: 55, code: retry, wantNext: 55},
	} {
		o := &Options{BrokerRole: c.role, OffsetCheckInSlave: c.check, SlaveReadEnable: c.read}
		res := &store.GetResult{Status: c.status, Next: c.next, OnDisk: c.onDisk}
		code, next := placed(res, c.offset, o)
		id := suggested(res, &want{group: g, offset: c.offset}, o)
		if parks := mayCome(c.status, c.offset, o); code != c.code || next != c.wantNext || id != c.wantBroker || parks != c.parks {
			t.Errorf("%+v: code %d, next %d, broker %d, waits %v", c, code, next, id, parks)
		}
	}
}
