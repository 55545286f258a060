package kernel_test

import (
	"fmt"
	"strings"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
)

// Another program takes a table of iptables away right before the rules are taken out of it. That fails, and the next attempt looks at what is
// there then: all that was left goes, and there is no error.
func TestEndWhileATableVanishes(t *testing.T) {
	kernel.Needs(t, "nft")
	nft := toolPath(t, "nft")
	for _, family := range []string{"ip", "ip6"} {
		vanish, arm := armed(t, fmt.Sprintf("%s delete table %s filter", nft, family))
		before(t, vanish, "iptables-restore", "ip6tables-restore")
		ns := namespace(t)
		k := open(t, ns, ir.IPTables)
		commit(t, k, desired(t, map[string]string{}, ir.IPTables, false))
		arm()
		first := k.Commit(t.Context(), &kernel.Desired{})
		if err := k.Commit(t.Context(), &kernel.Desired{}); err != nil {
			t.Errorf("%s: %v, and then %v", family, first, err)
		}
		if left := saved(t, ns); strings.Contains(left, "INPUT_") || guardStands(t, ns) {
			t.Errorf("%s: behind %v there is left\n%s", family, first, left)
		}
	}
}
