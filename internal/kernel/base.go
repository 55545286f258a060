package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// Guard is what Base has put into the kernel, until a Kernel takes it over.
type Guard struct{ socket *socket }

// Base makes the kernel drop what is not of a connection that is there already, before anything else is known: see
// guardChains. The first commit of the Kernel that is opened with the Guard takes it away, in the transaction that brings the
// rules. With panicked everything is dropped. Where the whole rules of an earlier process are still there, they stay in force
// instead. No file is read. Without nf_tables in the kernel it is a chain of iptables and ip6tables.
func Base(ctx context.Context, o Options, panicked bool) (*Guard, error) {
	o = o.withDefaults()
	t := tools{o.Enter}
	s, err := openSocket(o.Enter)
	if err != nil {
		return &Guard{}, t.baseChains(ctx, panicked, err)
	}
	owner, err := s.canOwn()
	if err != nil {
		s.conn.Close()
		return &Guard{}, t.baseChains(ctx, panicked, err)
	}
	g, err := newGuard(s, owner, o.Log)
	if err == nil && (panicked || !s.holdsRules() && !t.hold(ctx)) {
		err = g.set(true, panicked)
	}
	return &Guard{s}, err
}

// Close gives up what the Guard holds. What stands in the kernel stays, and is the next process's.
func (g *Guard) Close() error {
	if g == nil || g.socket == nil {
		return nil
	}
	s := g.socket
	g.socket = nil
	return s.conn.Close()
}

// takeSocket is the socket that owns the guard, or a new one.
func (g *Guard) takeSocket(o Options) (*socket, error) {
	if g != nil && g.socket != nil {
		s := g.socket
		g.socket = nil
		return s, nil
	}
	return openSocket(o.Enter)
}

// holdsRules says whether the table is there as a process of ours leaves it: what comes in, and what is forwarded, meets
// rules, the last of which refuses.
func (s *socket) holdsRules() bool {
	const dormant = 1 // NFT_TABLE_F_DORMANT
	head, err := s.tableHead(ir.Table)
	if err != nil || !head.there || head.flags&dormant != 0 {
		return false
	}
	last := map[string][]byte{} // by chain
	err = s.dump(unix.NFT_MSG_GETRULE, unix.NFPROTO_INET, namedAttribute(tableName, ir.Table), func(body []byte) {
		if text(attribute(body, tableName)) == ir.Table {
			last[text(attribute(body, unix.NFTA_RULE_CHAIN))] = attribute(body, unix.NFTA_RULE_EXPRESSIONS)
		}
	})
	return err == nil && refuses(last["filter_INPUT"]) && refuses(last["filter_FORWARD"])
}

// refuses says whether a rule's expressions are one that rejects or drops, and maybe a counter.
func refuses(expressions []byte) bool {
	found, matches := false, false
	eachAttribute(expressions, func(_ uint16, e []byte) {
		var name string
		var data []byte
		eachAttribute(e, func(kind uint16, v []byte) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = text(v)
			case unix.NFTA_EXPR_DATA:
				data = v
			}
		})
		switch name {
		case "counter":
		case "reject":
			found = true
		case "immediate":
			found = dropsPacket(data)
		default:
			matches = true
		}
	})
	return found && !matches
}

// dropsPacket says whether an immediate expression is the verdict NF_DROP, which is 0.
func dropsPacket(immediate []byte) (drops bool) {
	eachAttribute(immediate, func(kind uint16, v []byte) {
		if kind != unix.NFTA_IMMEDIATE_DATA {
			return
		}
		eachAttribute(v, func(kind uint16, v []byte) {
			if kind == unix.NFTA_DATA_VERDICT {
				eachAttribute(v, func(kind uint16, v []byte) {
					drops = drops || kind == unix.NFTA_VERDICT_CODE && len(v) == 4 && number32(v) == 0
				})
			}
		})
	})
	return drops
}

// hold says whether the rules of an earlier process are in the tables of iptables, and those of ip6tables where there is one.
func (t tools) hold(ctx context.Context) bool {
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := t.save(ctx, family, "filter")
		if err != nil || saved == nil {
			if family == ir.V6 && errors.As(err, new(*toolError)) {
				continue
			}
			return false
		}
		for _, chain := range []string{"INPUT", "FORWARD"} {
			if !slices.ContainsFunc(saved.ownBlock(saved.rules[chain]), func(rule string) bool { return strings.HasPrefix(rule, "-j REJECT ") || rule == "-j DROP" }) {
				return false
			}
		}
	}
	return true
}

// baseChain is the guard where the kernel has no nf_tables. The first commit finds it among the remains of an earlier process.
const baseChain = "firewalld_guard"

// baseChains puts the guard into the filter table of iptables and ip6tables, before all else. why is the reason for it.
func (t tools) baseChains(ctx context.Context, panicked bool, why error) error {
	if !panicked && t.hold(ctx) {
		return nil
	}
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := t.save(ctx, family, "filter")
		if err != nil || saved == nil {
			if family == ir.V4 {
				return fmt.Errorf("cannot drop what comes in until the rules are there: %w, and iptables has no table filter: %w", why, err)
			}
			continue
		}
		input := baseScript(saved, family, panicked)
		if _, err := t.run(ctx, input, tool(family)+"-restore", "--noflush", waitForLock()); err != nil {
			return fmt.Errorf("cannot drop what comes in until the rules are there: %w", err)
		}
	}
	return nil
}

// baseScript is input for iptables-restore, which makes the chains anew if they are there.
func baseScript(saved *savedTable, family ir.Families, panicked bool) string {
	var b bytes.Buffer
	b.WriteString("*filter\n")
	chains := guardChains(panicked)
	for _, c := range chains {
		fmt.Fprintf(&b, ":%s - [0:0]\n", baseChain+"_"+c.Hook.Hook)
	}
	for _, c := range chains {
		name := baseChain + "_" + c.Hook.Hook
		for _, r := range append(slices.Clone(c.Rules), &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Drop}}) {
			if r.Families&family != 0 {
				spec, err := iptables.Spec(nil, r, family)
				if err != nil {
					panic("internal error: a rule of the guard: " + err.Error())
				}
				fmt.Fprintf(&b, "-A %s%s\n", name, spec)
			}
		}
		if hook := strings.ToUpper(c.Hook.Hook); !slices.Contains(saved.rules[hook], "-j "+name) {
			fmt.Fprintf(&b, "-I %s 1 -j %s\n", hook, name)
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
