package kernel_test

import (
	"fmt"
	"testing"

	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/internal/lab"
)

// meanwhile runs a command again and again until what is returned is called.
func meanwhile(t *testing.T, ns *lab.Namespace, program string, arguments ...string) (end func()) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = ns.Run(t.Context(), "", program, arguments...)
			}
		}
	}()
	return func() { close(stop); <-done }
}

// A program that adds rules to a chain of its own all the time does not keep rules from being changed: its chain may have been listed
// before one of them, and be counted behind it.
func TestChangesBesideAProgramThatAddsRules(t *testing.T) {
	ns := namespace(t)
	run(t, ns, "", "iptables", "-N", "OTHER")
	k := open(t, ns, ir.IPTables)
	end := meanwhile(t, ns, "sh", "-c", "iptables -w -A OTHER -s 192.0.2.1 -j ACCEPT; sleep 0.002") // else iptables-save itself never ends
	defer end()
	for i := range 6 {
		run(t, ns, "", "iptables", "-w", "-F", "OTHER")
		commit(t, k, &kernel.Desired{Rules: scenario(t, "static-mixed.txt", ir.IPTables), Panic: i == 4})
	}
}

// A rule whose text has a line break is no reason to refuse a change, also while a program changes a table of its own all the time.
func TestChangesBesideALineBreakAndAnotherTable(t *testing.T) {
	ns := namespace(t)
	run(t, ns, "", "iptables", "-A", "INPUT", "-i", "a\n-A INPUT", "-j", "RETURN")
	run(t, ns, "", "iptables", "-A", "INPUT", "-i", "eth\nh", "-j", "RETURN")
	run(t, ns, "", "nft", "add table inet theirs { set s { type ipv4_addr; }; }")
	k := open(t, ns, ir.IPTables)
	end := meanwhile(t, ns, "nft", "add element inet theirs s { 192.0.2.1 }; delete element inet theirs s { 192.0.2.1 }")
	defer end()
	for i := range 5 {
		commit(t, k, &kernel.Desired{Rules: scenario(t, fmt.Sprintf("static-%s.txt", []string{"mixed", "gateway"}[i%2]), ir.IPTables)})
	}
}
