package kernel_test

import (
	"strings"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// guardTable is what nft lists of the guard; empty if it does not stand.
func guardTable(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	if !strings.Contains(run(t, ns, "", "nft", "list", "tables"), "table inet firewalld_guard") {
		return ""
	}
	return run(t, ns, "", "nft", "list", "table", "inet", "firewalld_guard")
}

func TestX(t *testing.T) {
	ns := namespace(t)
	g, err := kernel.Base(t.Context(), kernel.Options{Enter: ns.Do}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(guardTable(t, ns))
	k, err := kernel.New(kernel.Options{Backend: ir.NFTables, Enter: ns.Do, Guard: g})
	if err != nil {
		t.Fatal(err)
	}
	commit(t, k, &kernel.Desired{Rules: rulesetOf("10.0.0.1")})
	t.Log(guardTable(t, ns))
	_ = time.Now
}
