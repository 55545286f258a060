package fault

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A function's own error comes back as it is; a fault is an error that names the function, and the log says where the fault was.
func TestAFaultIsAnError(t *testing.T) {
	own := errors.New("its own")
	if err := Call("reading", func() error { return own }); err != own {
		t.Errorf("the error is %v", err)
	}
	if err := Call("reading", func() error { panic("of the test") }); err == nil || err.Error() != "internal error in reading: of the test" {
		t.Errorf("the error is %v", err)
	}
	var log bytes.Buffer
	l := slog.New(slog.NewTextHandler(&log, nil))
	if err := Guard(l, "writing", func() {}); err != nil || log.Len() > 0 {
		t.Errorf("without a fault the error is %v, and the log says\n%s", err, log.String())
	}
	var list []int
	if err := Guard(l, "writing", func() { list[0] = 1 }); err == nil || !strings.Contains(err.Error(), "internal error in writing: ") {
		t.Errorf("the error is %v", err)
	}
	if said := log.String(); !strings.Contains(said, "in=writing") || !strings.Contains(said, "TestAFaultIsAnError") {
		t.Errorf("the log says\n%s", said)
	}
}
