package memory

import (
	"strings"
	"testing"
)

// Without a limit there is room for everything.
func TestNoLimit(t *testing.T) {
	var none *Limit
	none.Tune()
	none.Tidy()
	if err := none.Room(1 << 60); err != nil {
		t.Error(err)
	}
}

// What the heap has no use for is room, what is in use is not, and the error says how much is missing of what.
func TestRoom(t *testing.T) {
	l := &Limit{taken() + 100<<20}
	if err := l.Room(80 << 20); err != nil {
		t.Error(err)
	}
	err := l.Room(1 << 30)
	if err == nil {
		t.Fatal("there is room for 1 GiB below a limit of 100 MiB")
	}
	for _, want := range []string{"takes about 1024 MiB", "ulimit -d"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
	held := make([]byte, 60<<20)
	for i := range held {
		held[i] = 1
	}
	if err := l.Room(80 << 20); err == nil {
		t.Error("60 MiB that are in use are given away again")
	}
	held[0]++ // they are in use until here
}
