package bus

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"richwall/grammar"
	"richwall/internal/daemon"
	"richwall/zones"
)

// Clients get firewalld's words: a code, a detail behind it if there is one, and no code where firewalld has none.
func TestWire(t *testing.T) {
	parse := func(rule string) error {
		_, err := grammar.Parse(rule)
		return err
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{parse("rule port port=70000 protocol=tcp accept"), "INVALID_PORT: 70000"},
		{parse("rule source address=192.0.2.1 accept"), "MISSING_FAMILY"},
		{parse(`rule service name="ssh`), "No closing quotation"},
		{errors.New("else"), "else"},
		{refuse(zones.InvalidZone, "%s", "nosuch"), "INVALID_ZONE: nosuch"},
		{refuse(zones.InvalidZone, ""), "INVALID_ZONE"},
	} {
		if got := wire(c.err); got != c.want {
			t.Errorf("%v is %q to clients, not %q", c.err, got, c.want)
		}
	}
}

// The log tells of what has failed, and not of a question whose answer is that something is not there.
func TestAnswersAreNotLogged(t *testing.T) {
	var out strings.Builder
	s := &Server{ctx: t.Context(), log: slog.New(slog.NewTextHandler(&out, nil))}
	in := &inbound{frame: &frame{member: "passthrough", iface: base + ".direct"}}
	no := refuse(daemon.CommandFailed, "")
	if got := s.failure(in, &toldError{no}); got.Body[0] != "COMMAND_FAILED" || out.Len() > 0 {
		t.Errorf("the client gets %v, the log %q", got, out.String())
	}
	if s.failure(in, no); out.Len() == 0 {
		t.Error("the log does not tell of a command that has failed")
	}
	if !asks([]string{"-t", "nat", "-C", "INPUT"}) || asks([]string{"-A", "INPUT", "-j", "DROP"}) {
		t.Error("what asks is not told from what changes something")
	}
}
