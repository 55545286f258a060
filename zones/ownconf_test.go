package zones

import "testing"

// What richwall.conf does not say has its default.
func TestReadOwnConf(t *testing.T) {
	for text, want := range map[string]OwnConf{
		"":                        {TCPMSSClamp: "both", IPNoPMTUDisc: "keep"},
		"# IPNoPMTUDisc=no\n":     {TCPMSSClamp: "both", IPNoPMTUDisc: "keep"},
		"TCPMSSClamp=initiator\n": {TCPMSSClamp: "initiator", IPNoPMTUDisc: "keep"},
		"IPNoPMTUDisc = yes\n":    {TCPMSSClamp: "both", IPNoPMTUDisc: "yes"},
		"IPNoPMTUDisc=no\n":       {TCPMSSClamp: "both", IPNoPMTUDisc: "no"},
	} {
		got, problems := ReadOwnConf([]byte(text), "richwall.conf")
		if *got != want || len(problems) > 0 {
			t.Errorf("%q: got %+v, want %+v; %v", text, *got, want, problems)
		}
	}
}
