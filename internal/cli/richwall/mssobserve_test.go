package richwall

import (
	"bytes"
	"testing"
	"time"
)

// Where there is no terminal, progress is a line now and then, and ever more rarely: a log of days has a few dozen.
func TestProgressWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	line := newStatusLine(&out)
	line.show(func() string { return "too early" })
	for _, waited := range []time.Duration{10 * time.Second, 15 * time.Second, 20 * time.Second, 40 * time.Second} {
		line.last = time.Now().Add(-waited)
		line.show(func() string { return waited.String() })
	}
	line.clear()
	if want := "richwall: 10s\nrichwall: 20s\nrichwall: 40s\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
