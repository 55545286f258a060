package mss

import (
	"strings"
	"testing"

	"richwall/grammar"
)

// The values in use, for what goes over an Ethernet of 1500.
func TestKinds(t *testing.T) {
	for name, want := range map[string]Fit{
		"ethernet":     {1500, 1460, 1440},
		"pppoe":        {1492, 1452, 1432},
		"wireguard":    {1420, 1380, 1360},
		"wireguard4":   {1440, 1400, 1380},
		"ipsec":        {1400, 1360, 1340},
		"openvpn":      {1428, 1388, 1368},
		"openvpn4":     {1448, 1408, 1388},
		"map-e":        {1460, 1420, 0},
		"map-t":        {1480, 1440, 0},
		"l2tp":         {1400, 1360, 1340},
		"gre":          {1476, 1436, 1416},
		"gre6":         {1456, 1416, 1396},
		"6in4":         {1480, 0, 1420},
		"ipip":         {1480, 1440, 0},
		"dslite":       {1460, 1420, 0},
		"vxlan":        {1450, 1410, 1390},
		"vxlan6":       {1430, 1390, 1370},
		"geneve":       {1450, 1410, 1390},
		"tailscale":    {1280, 1240, 1220},
		"ipv6-minimum": {1280, 1240, 1220},
	} {
		k, ok := KindNamed(name)
		if got := k.Over(Ethernet); !ok || got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	if len(Kinds) != 20 {
		t.Errorf("%d kinds, of which 20 are tested", len(Kinds))
	}
}

// One path goes over another: WireGuard over PPPoE, 1412; below IPv6's minimum there is no IPv6.
func TestKindsOverOthers(t *testing.T) {
	wireguard, _ := KindNamed("wireguard")
	tailscale, _ := KindNamed("tailscale")
	for _, c := range []struct {
		k    Kind
		mtu  int
		want Fit
	}{
		{wireguard, 1492, Fit{1412, 1372, 1352}},
		{wireguard, 1359, Fit{1279, 1239, 0}},
		{tailscale, 9000, Fit{1280, 1240, 1220}},
		{tailscale, 1000, Fit{1000, 960, 0}},
	} {
		if got := c.k.Over(c.mtu); got != c.want {
			t.Errorf("%s over %d: got %+v, want %+v", c.k.Name, c.mtu, got, c.want)
		}
	}
}

// The rules that are printed are rules.
func TestRulesOfKinds(t *testing.T) {
	for _, k := range Kinds {
		f := k.Over(Ethernet)
		for _, text := range append(f.Plain(), f.Rule()) {
			if r, err := grammar.Parse(text); err != nil || r.String() != text {
				t.Errorf("%s: %s: %v", k.Name, text, err)
			}
		}
		var b strings.Builder
		if err := KindsText(&b, []Kind{k}, Ethernet); err != nil || !strings.Contains(b.String(), f.Rule()) {
			t.Errorf("%s: %q, %v", k.Name, b.String(), err)
		}
	}
}
