package mss

import (
	"fmt"
	"net/netip"
)

// Misled says, of the links of some names, why the kernel may take the MTU of another route for the way back of what comes in by one of them;
// "" if it does not. six says which IP version.
func (m *Machine) Misled(six bool, is func(name string) bool) string {
	for _, p := range m.paths() {
		if !p.tunnel && is(p.Interface) && p.misled(six) && p.Fit.MTU == p.MTU {
			return m.why(&p, six)
		}
	}
	return ""
}

// why says what makes packets take another route than their destination alone would.
func (m *Machine) why(p *Path, six bool) string {
	if p.vrf != "" {
		return fmt.Sprintf("%s is in the VRF %s, which has routes of its own", p.Interface, p.vrf)
	}
	for _, r := range m.policy(six) {
		any := r
		any.To = netip.Prefix{}
		if !r.plain() && !r.Refuses && !r.Nothing && any.matches(netip.Addr{}, flow{}) != no {
			return fmt.Sprintf("ip rule %d chooses routes by more than the destination", r.Priority)
		}
	}
	return "a route has next hops of several MTUs, or is for some sources alone"
}
