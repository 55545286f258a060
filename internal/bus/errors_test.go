package bus

import (
	"errors"
	"testing"

	"richwall/grammar"
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
