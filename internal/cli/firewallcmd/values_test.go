package firewallcmd

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestReadPort(t *testing.T) {
	for value, want := range map[string]string{
		"80/tcp": "80/tcp", "5000-5010/udp": "5000-5010/udp", "http/tcp": "http/tcp",
		"80": "INVALID_PORT", "": "INVALID_PORT", "/tcp": "INVALID_PORT", "80/tcp/udp": "INVALID_PORT", "99999/tcp": "INVALID_PORT",
		"80/foo": "INVALID_PROTOCOL", "80/": "INVALID_PROTOCOL",
	} {
		have, err := readPort(value)
		if err != nil {
			have = codeOf(err)
		}
		if have != want {
			t.Errorf("port %q is %q (%v), not %q", value, have, err, want)
		}
	}
}

func TestReadForward(t *testing.T) {
	for value, want := range map[string]string{
		"port=80:proto=tcp:toport=8080":                   "port=80:proto=tcp:toport=8080:toaddr=",
		"port=80:proto=tcp:toaddr=192.0.2.1":              "port=80:proto=tcp:toport=:toaddr=192.0.2.1",
		"port=80:proto=tcp:toport=1:toaddr=2001:db8::1":   "port=80:proto=tcp:toport=1:toaddr=2001:db8::1",
		"if=eth0:port=80:proto=tcp:toport=8080":           "port=80:proto=tcp:toport=8080:toaddr=",
		"x":                                               "INVALID_FORWARD: missing port",
		"port=80":                                         "INVALID_FORWARD: missing protocol",
		"port=80:proto=tcp":                               "INVALID_FORWARD: missing destination",
		"port=80:proto=tcp:foo=1":                         "INVALID_FORWARD: invalid forward port arg 'foo'",
		"port=80:proto=foo:toport=1":                      "INVALID_PROTOCOL: 'foo' not in {'tcp'|'udp'|'sctp'|'dccp'}",
		"port=99999:proto=tcp:toport=1":                   "INVALID_PORT: 99999",
		"port=80:proto=tcp:toport=99999":                  "INVALID_PORT: 99999",
		"port=80:proto=tcp:toaddr=nowhere":                "INVALID_ADDR: nowhere",
		"port=80:proto=tcp:toport=1:toaddr=[2001:db8::1]": "port=80:proto=tcp:toport=1:toaddr=[2001:db8::1]",
		"port=80:proto=tcp:toaddr=[192.0.2.1]":            "INVALID_ADDR: [192.0.2.1]",
		"port=80:proto=tcp:toaddr=[2001:db8::1":           "INVALID_ADDR: [2001:db8::1",
		"port=80:proto=tcp:toaddr=fe80::1%eth0":           "INVALID_ADDR: fe80::1%eth0",
		"port=80:proto=tcp:toaddr=2001:db8::/64":          "INVALID_ADDR: 2001:db8::/64",
	} {
		have, err := readForward(value)
		if err != nil {
			have = oneLine(err)
		}
		if have != want {
			t.Errorf("forward port %q is %q (%v), not %q", value, have, err, want)
		}
		if err == nil {
			if port, protocol, toPort, toAddr := splitForward(have); joinForward(port, protocol, toPort, toAddr) != have {
				t.Errorf("%q does not come together again", have)
			}
		}
	}
}

func TestReadDestination(t *testing.T) {
	for value, want := range map[string]string{
		"ipv4:192.0.2.0/24": "", "ipv6:2001:db8::/32": "", "ipv4": "INVALID_DESTINATION: destination syntax is ipv:address[/mask]",
		"ipv5:1": "INVALID_IPV: invalid argument: ipv5 (choose from 'ipv4', 'ipv6')", "ipv4:nowhere": "INVALID_ADDR: 'nowhere' is not valid ipv4 address",
		"ipv4:2001:db8::1": "INVALID_ADDR: '2001:db8::1' is not valid ipv4 address",
	} {
		_, _, err := readDestination(value)
		have := ""
		if err != nil {
			have = oneLine(err)
		}
		if have != want {
			t.Errorf("destination %q: %v, not %q", value, err, want)
		}
	}
}

// TestSequence: what counts is whether anything succeeded; errors of one code have it, others are unknown.
func TestSequence(t *testing.T) {
	results := map[string]error{
		"good": nil, "there": already("there"), "port": fail("INVALID_PORT", "x"), "zone": fail("INVALID_ZONE", "x"),
		"denied": errDenied,
	}
	for line, want := range map[string]int{
		"good": 0, "there": 0, "port": 102, "good port": 0, "there port": 0, "port port": 102, "port zone": 254, "denied denied": 253, "good denied": 253,
	} {
		s := &session{program: online, out: &output{stdout: new(nowhere), stderr: new(nowhere)}}
		err := s.sequence(split(line), func(value string) error { return results[value] })
		have := 0
		if err != nil {
			have = statusOf(err)
		}
		if have != want {
			t.Errorf("%s: %d, not %d", line, have, want)
		}
	}
}

// TestDenied: whom polkit refuses is told so in firewalld's words, without a code before them.
func TestDenied(t *testing.T) {
	var said strings.Builder
	s := &session{program: online, out: &output{stdout: new(nowhere), stderr: &said}}
	err := s.sequence([]string{"http", "https"}, func(string) error {
		return busError(dbus.Error{Name: "org.fedoraproject.FirewallD1.NotAuthorizedException", Body: []any{"Not Authorized(polkit)"}})
	})
	status := s.finish(err)
	want := "Authorization failed.\n    Make sure polkit agent is running or run the application as superuser.\n"
	if status != 253 || said.String() != want {
		t.Errorf("%d, %q", status, said.String())
	}
}

type nowhere struct{}

func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }
