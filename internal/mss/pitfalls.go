package mss

import (
	"fmt"
	"net/netip"
)

// Misled says, by the names of links, why the kernel may take the MTU of another route for the way back of what comes in by them. six says which
// IP version. Links for which it does not are left out.
func (m *Machine) Misled(six bool) map[string]string {
	links := map[string]string{}
	for _, p := range m.paths() {
		if !p.tunnel && p.misled(six) && p.Fit.MTU == p.MTU && links[p.Interface] == "" {
			links[p.Interface] = m.why(&p, six)
		}
	}
	return links
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
