package protocol

import (
	"bytes"
	"testing"
)

// consumerFilter.json as 4.9.7 writes it compactly.
const filterTable = `{"filterDataByTopic":{"Other":{"groupFilterData":{"g-sql":{"bloomFilterData":{"bitNum":112,"bitPos":[31,49,67]},"bornTime":1795656451191,"clientVersion":7,` +
	`"consumerGroup":"g-sql","dead":false,"deadTime":0,"expression":"a IS NULL","expressionType":"SQL92","topic":"Other"}},"topic":"Other"}}}`

func TestFilterTable(t *testing.T) {
	table, err := ParseFilterTable([]byte(filterTable))
	d := table["Other"]["g-sql"]
	if err != nil || d == nil || d.Expression != "a IS NULL" || d.ClientVersion != 7 || d.BornTime != 1795656451191 || d.Dead() || d.BloomBits != 112 || len(d.BloomPositions) != 3 {
		t.Fatalf("%+v %v", d, err)
	}
	for _, text := range []string{`{}`, `{"filterDataByTopic":{}}`, `{"filterDataByTopic":null}`, `{"filterDataByTopic":{"T":{"groupFilterData":{"g":{"topic":"T"}}}}}`} {
		if table, err := ParseFilterTable([]byte(text)); err != nil || len(table) != 0 {
			t.Errorf("%s: %v %v", text, table, err)
		}
	}
}

func FuzzFilterTable(f *testing.F) {
	f.Add([]byte(filterTable))
	f.Fuzz(func(t *testing.T, body []byte) {
		table, err := ParseFilterTable(body)
		if err != nil {
			return
		}
		text := table.Pretty()
		again, err := ParseFilterTable(text)
		if err != nil || !bytes.Equal(again.Pretty(), text) {
			t.Fatalf("%q was written as %q: %v", body, text, err)
		}
	})
}
