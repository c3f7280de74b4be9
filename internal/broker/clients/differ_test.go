package clients

import "testing"

// A new way of subscribing in a group is told once, with who else subscribes how.
func TestDifferences(t *testing.T) {
	c := NewConsumers[int]()
	sub := func(version int64, pairs ...string) Beat {
		b := Beat{Group: "g"}
		for i := 0; i+2 < len(pairs); i += 3 {
			b.Subs = append(b.Subs, Sub{Topic: pairs[i], Type: pairs[i+1], Expr: pairs[i+2], Version: version})
		}
		return b
	}
	for _, step := range []struct {
		who   int
		beat  Beat
		topic string // "": nothing is told
		other int    // the client that differs
		ways  int
	}{
		{1, sub(1, "T", "TAG", "A"), "", 0, 0},
		{2, sub(1, "T", "", "A"), "", 0, 0},                            // no type means tags
		{3, sub(1, "T", "TAG", "A", "%RETRY%g", "TAG", "*"), "", 0, 0}, // not every client names the retries
		{3, sub(2, "T", "TAG", "B", "%RETRY%g", "TAG", "*"), "T", 1, 2},
		{3, sub(2, "T", "TAG", "B", "%RETRY%g", "TAG", "*"), "", 0, 2}, // the same heartbeat again
		{1, sub(2, "T", "TAG", "B"), "", 0, 2},                         // nothing new: 3 subscribes so too
		{4, sub(1, "T", "SQL92", "B"), "T", 1, 3},
		{4, sub(2, "T", "TAG", "B", "U", "TAG", "*"), "U", 1, 3},
		{2, sub(2, "T", "TAG", "B"), "", 0, 2},
		{4, sub(3, "T", "TAG", "B"), "", 0, 0},
	} {
		_, d, err := c.Beat(cl(step.who, "c", 0), step.beat)
		if err != nil {
			t.Fatal(err)
		}
		if d == nil && step.topic != "" || d != nil && (d.Topic != step.topic || d.New.Conn != step.who || d.Old.Conn != step.other || d.Group != "g") {
			t.Errorf("%+v: %+v", step, d)
		}
		if got := c.Differing()["g"]; got != step.ways {
			t.Errorf("%+v: %d ways", step, got)
		}
	}
	if _, d, _ := c.Beat(cl(4, "c", 0), sub(4, "U", "TAG", "*")); d == nil || d.Topic != "T" || d.Says != nil || d.Said == nil || d.Said.Expr != "B" {
		t.Errorf("a topic less: %+v", d)
	}
	// Whoever leaves takes its way along.
	for conn := range 4 {
		if c.Closed(conn + 1); conn == 3 && c.Online("g") {
			t.Error("an empty group is online")
		}
	}
	if got := c.Differing(); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
