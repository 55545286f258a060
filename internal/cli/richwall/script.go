package richwall

import (
	"context"
	"fmt"
	"strings"

	"richwall/compile/iptables"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/lab"
)

// script is what loads a ruleset: programs, in their order, and the input of each.
type script struct {
	steps []step
	notes []string // what the text of the ruleset cannot say
}

type step struct {
	program, input string
	args           []string
}

// newScript is the script of a ruleset for its back end.
func newScript(rs *ir.Ruleset) (*script, error) {
	if rs.Backend == ir.NFTables {
		var b strings.Builder
		notes, err := nft.Write(&b, rs, nft.Options{})
		return &script{[]step{{"nft", b.String(), []string{"-f", "-"}}}, notes}, err
	}
	s := &script{}
	if len(rs.Sets) > 0 {
		var b strings.Builder
		if err := iptables.WriteSets(&b, rs); err != nil {
			return nil, err
		}
		s.steps = append(s.steps, step{"ipset", b.String(), []string{"restore"}})
	}
	for _, f := range []struct {
		program string
		family  ir.Families
	}{{"iptables-restore", ir.V4}, {"ip6tables-restore", ir.V6}} {
		var b strings.Builder
		if err := iptables.Write(&b, rs, f.family, iptables.Options{}); err != nil {
			return nil, err
		}
		s.steps = append(s.steps, step{f.program, b.String(), nil})
	}
	return s, nil
}

// programs are the names of those that the script runs.
func (s *script) programs() []string {
	var names []string
	for _, step := range s.steps {
		names = append(names, step.program)
	}
	return names
}

// load runs the script in a namespace.
func (s *script) load(ctx context.Context, ns *lab.Namespace) error {
	for _, step := range s.steps {
		if _, err := ns.Run(ctx, step.input, step.program, step.args...); err != nil {
			return fmt.Errorf("cannot load the rules into the lab: %w", err)
		}
	}
	return nil
}
