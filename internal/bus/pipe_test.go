package bus

import (
	"io"
	"testing"
)

// What is written to a pipe can be read until the pipe is closed.
func TestPipe(t *testing.T) {
	p := pipe{}
	if err := p.put([]byte("ab"), []byte("c")); err != nil {
		t.Error(err)
	}
	p.close()
	if b, err := io.ReadAll(&p); err != nil || string(b) != "abc" {
		t.Errorf("read is %q, %v", b, err)
	}
	if p.put([]byte("x")) == nil {
		t.Error("a closed pipe is used")
	}
}
