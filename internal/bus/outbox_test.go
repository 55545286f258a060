package bus

import (
	"strings"
	"testing"
)

// Answers to strangers go one at a time, when there is nothing else to be sent. What is too much is refused, each for itself.
func TestOutbox(t *testing.T) {
	o := outbox{}
	for _, late := range []string{"late 1", "late 2"} {
		if err := o.putLate([]byte(late)); err != nil {
			t.Error(err)
		}
	}
	if err := o.putLate(make([]byte, unsentLate)); err != errFull {
		t.Errorf("much more that is late: %v", err)
	}
	for range 2 {
		if err := o.put([]byte("first ")); err != nil {
			t.Error(err)
		}
	}
	if err := o.put(make([]byte, unsent)); err != errFull {
		t.Errorf("much more that goes first: %v", err)
	}
	var sent []string
	take := func() bool {
		b, ok := o.take()
		sent = append(sent, string(b))
		return ok
	}
	take()
	take()
	o.put([]byte("first"))
	o.close()
	for take() {
	}
	if got := strings.Join(sent, "|"); got != "first first |late 1|first|late 2|" {
		t.Errorf("sent is %q", got)
	}
	if o.put([]byte("x")) == nil || o.putLate([]byte("x")) == nil {
		t.Error("a closed outbox is used")
	}
	if err := new(outbox).putLate(make([]byte, 2*unsentLate)); err != nil {
		t.Errorf("one long message: %v", err)
	}
}
