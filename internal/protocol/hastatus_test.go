package protocol

import (
	"reflect"
	"testing"
)

func TestHAStatus(t *testing.T) {
	want := &HAStatus{Master: true, End: 1 << 40, InSync: 1,
		Slaves: []HASlave{{Addr: "10.0.0.2:4711", Ack: 90, Diff: 10, InSync: true, From: 95, Rate: 3, Broker: "10.0.0.2:11011", LastAck: 1_700_000_000_000, DiffMessages: 2}, {Addr: "10.0.0.3:1", DiffMessages: -1}},
		Client: HAClient{MasterAddr: "10.0.0.1:10912", End: 5, LastRead: 7, MasterFlush: 9, Activated: true, Why: "\"because\""}}
	got, err := ParseHAStatus(want.Append(nil))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	// As 5.3.3 answers: null where there is nothing.
	java := `{"haClientRuntimeInfo":{"activated":false,"lastReadTimestamp":0,"lastWriteTimestamp":0,"masterAddr":null,"masterFlushOffset":0,"maxOffset":0,"transferredByteInSecond":0},` +
		`"haConnectionInfo":[{"addr":"/10.0.0.2:4711","diff":0,"inSync":true,"slaveAckOffset":12,"transferFromWhere":12,"transferredByteInSecond":0}],"inSyncSlaveNums":2,"master":true,"masterCommitLogMaxOffset":12}`
	if got, err = ParseHAStatus([]byte(java)); err != nil || len(got.Slaves) != 1 || got.Slaves[0].Ack != 12 || !got.Slaves[0].InSync || got.Slaves[0].DiffMessages != -1 || got.End != 12 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err = ParseHAStatus([]byte(`{"haConnectionInfo":[{"addr":`)); err == nil {
		t.Error("half a body was read")
	}
}
