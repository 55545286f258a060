package zones

import "testing"

// What richwall.conf does not say has its default.
func TestReadOwnConf(t *testing.T) {
	with := func(set func(*OwnConf)) OwnConf {
		c := OwnConf{TCPMSSClamp: "both", IPNoPMTUDisc: "keep", RuleFolding: "auto", OnForeignChange: "repair"}
		set(&c)
		return c
	}
	for text, want := range map[string]OwnConf{
		"":                        with(func(*OwnConf) {}),
		"# IPNoPMTUDisc=no\n":     with(func(*OwnConf) {}),
		"TCPMSSClamp=initiator\n": with(func(c *OwnConf) { c.TCPMSSClamp = "initiator" }),
		"IPNoPMTUDisc = yes\n":    with(func(c *OwnConf) { c.IPNoPMTUDisc = "yes" }),
		"RuleFolding=no\n":        with(func(c *OwnConf) { c.RuleFolding = "no" }),
		"OnForeignChange=warn\n":  with(func(c *OwnConf) { c.OnForeignChange = "warn" }),
	} {
		got, problems := ReadOwnConf([]byte(text), "richwall.conf")
		if *got != want || len(problems) > 0 {
			t.Errorf("%q: got %+v, want %+v; %v", text, *got, want, problems)
		}
	}
}
