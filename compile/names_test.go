package compile

import "testing"

// The first names that firewalld gives to chains whose own names are too long for iptables.
func TestLongNamesAreThoseOfFirewalld(t *testing.T) {
	var s shortNames
	for _, c := range []struct{ long, want string }{
		{"POST_external_dispatch_stage2", "RknF1k8zHSgJpQwmM2mrluWtcGtl"},
		{"POST_internal_dispatch_stage2", "n8bJmfvLU3BspRKw42dKCYsjuOw8"},
		{"POST_external_dispatch_stage2", "RknF1k8zHSgJpQwmM2mrluWtcGtl"},
		{"FWD_external_dispatch_stage2", "FWD_external_dispatch_stage2"},
		{"another name of more than 28 characters", "EF61lkucIPAd7kefiEslU1qQ1koS"},
		{"yet another name of more than 28 characters", "v045b7Dspcaq6kDdhF0wiWiB4Q2P"},
	} {
		if got := s.short(c.long); got != c.want {
			t.Errorf("short(%q) = %q, want %q", c.long, got, c.want)
		}
	}
}
