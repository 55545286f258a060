package firewallcmd

import (
	"strings"
	"testing"
	"time"
)

// On a terminal one line says how far something has come, when it takes a while, and goes away at the end; elsewhere nothing
// is printed.
func TestProgress(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b, next: time.Now().Add(time.Hour)}
	p.step("%d of %d", 1, 3)
	p.phase(10, "few entries")
	p.end()
	if b.String() != "" {
		t.Errorf("too early: %q", b.String())
	}
	p.next = time.Time{}
	p.step("%d of %d", 2, 3)
	p.step("%d of %d", 3, 3)
	p.phase(100_000, "many entries")
	p.end()
	p.end()
	if got, want := b.String(), "\r\x1b[K2 of 3\r\x1b[Kmany entries\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s := &session{out: &output{stderr: &b}}
	b.Reset()
	quiet := s.newProgress()
	quiet.phase(100_000, "many entries")
	quiet.end()
	if b.String() != "" {
		t.Errorf("not on a terminal: %q", b.String())
	}
}
