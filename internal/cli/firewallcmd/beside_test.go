package firewallcmd

import (
	"bytes"
	"strings"
	"testing"
)

// A change that firewall-offline-cmd makes in the folder of a firewalld that runs is made, and the administrator is told that it may be lost.
// There is nothing to tell when nothing is changed, when the change is refused, when the folder is another one, or when none runs.
func TestBesideADaemon(t *testing.T) {
	of, other := t.TempDir(), t.TempDir()
	defer func(was string) { etc = was }(etc)
	etc = of
	for _, c := range []struct {
		runs   bool
		folder string
		args   []string
		warned bool
	}{
		{true, of, []string{"--zone=public", "--add-port=80/tcp"}, true},
		{true, of, []string{"--zone=public", "--add-port=80/tcp"}, false}, // it is there already
		{true, of, []string{"--set-default-zone=home"}, true},
		{true, of, []string{"--port=81:tcp"}, true},
		{true, of, []string{"--direct", "--add-chain", "ipv4", "filter", "mine"}, true},
		{true, of, []string{"--direct", "--get-all-chains"}, false},
		{true, of, []string{"--reset-to-defaults"}, true},
		{true, of, []string{"--zone=public", "--list-ports"}, false},
		{true, of, []string{"--zone=public", "--add-port=nonsense"}, false},
		{true, other, []string{"--zone=public", "--add-port=80/tcp"}, false},
		{false, of, []string{"--zone=public", "--add-port=82/tcp"}, false},
	} {
		startBus(t, map[string]any{"org.freedesktop.DBus.NameHasOwner": c.runs})
		var out, errs bytes.Buffer
		Offline(append([]string{"--system-config", c.folder}, c.args...), strings.NewReader(""), &out, &errs)
		if strings.Contains(errs.String(), "hint: firewalld is running, and does not know of this change") != c.warned {
			t.Errorf("%q in %s: the errors are %q", c.args, c.folder, errs.String())
		}
	}
}
