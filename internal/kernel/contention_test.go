package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/lab"
)

// busy is another program that commits to a table of its own, as fast as it can.
type busy struct {
	commits atomic.Int64
	stop    chan struct{}
	done    chan error
}

// contend starts it, until the test ends.
func contend(t *testing.T, ns *lab.Namespace) (rate func() int) {
	t.Helper()
	b := &busy{stop: make(chan struct{}), done: make(chan error)}
	s, err := openSocket(ns.Do)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer s.conn.Close()
		b.done <- b.run(s, "theirs")
	}()
	began := time.Now()
	t.Cleanup(func() {
		close(b.stop)
		if err := <-b.done; err != nil {
			t.Error(err)
		}
	})
	return func() int { return int(float64(b.commits.Load()) / time.Since(began).Seconds()) }
}

func (b *busy) run(s *socket, table string) error {
	e := &nft.Encoder{Table: table}
	c := &ir.Chain{Name: "c"}
	for i := 0; ; i++ {
		select {
		case <-b.stop:
			return nil
		default:
		}
		changes := []nft.Message{e.FlushChain(c.Name)}
		if i == 0 {
			chain, err := e.AddChain(c, false)
			if err != nil {
				return err
			}
			changes = []nft.Message{e.AddTable(0), chain}
		}
		a, err := s.commit(changes)
		if err == nil && len(a.refused) > 0 {
			err = a.refused[0].err
		}
		if err != nil {
			return err
		}
		b.commits.Add(1)
	}
}

// many is a ruleset with a set of so many entries and a chain of so many rules.
func many(entries, rules int) *ir.Ruleset {
	s := &ir.Set{Name: "large", Type: "hash:net", Family: ir.V4}
	for i := range entries {
		a := netip.AddrFrom4([4]byte{byte(11 + i>>23), byte(i >> 15), byte(i >> 7), byte(i << 1)})
		s.Elements = append(s.Elements, ir.NewElement(a.String(), ir.Part{Kind: ir.AddrPart, Low: a, High: a}))
	}
	rs := withPorts(rules)
	rs.Chains[0].Rules = append([]*ir.Rule{{Families: ir.Both, Matches: []ir.Match{ir.Lookup{Set: s}}, Actions: []ir.Action{ir.Drop}}}, rs.Chains[0].Rules...)
	rs.Sets = []*ir.Set{s}
	return rs
}

// withPorts is a ruleset that lets packets to some ports in, and no others.
func withPorts(n int) *ir.Ruleset {
	in := &ir.Chain{Name: "filter_INPUT", Hook: &ir.Hook{Type: "filter", Hook: "input", Priority: 10}, Families: ir.Both}
	for i := range n {
		in.Rules = append(in.Rules, portRule(i+1))
	}
	in.Rules = append(in.Rules, &ir.Rule{Families: ir.Both, Actions: []ir.Action{ir.Reject{}}})
	return chains(in, chainOf("filter_FORWARD", &ir.Hook{Type: "filter", Hook: "forward", Priority: 10}, ir.Reject{}))
}

func portRule(port int) *ir.Rule {
	return &ir.Rule{Families: ir.Both, Matches: []ir.Match{ir.Port{Protocol: "tcp", Side: ir.Dest, Low: port, High: port}}, Actions: []ir.Action{ir.Accept}}
}

// withOneMore is a ruleset with another port.
func withOneMore(rs *ir.Ruleset, port int) *ir.Ruleset {
	more := *rs
	in := *rs.Chains[0]
	in.Rules = append([]*ir.Rule{portRule(port)}, in.Rules...)
	more.Chains = append([]*ir.Chain{&in}, rs.Chains[1:]...)
	return &more
}

// A program that commits to a table of its own as fast as the kernel lets it neither keeps the rules from coming at a start,
// nor a port from being added within a second; whether the table has an owner or not, and with many entries and rules.
func TestContention(t *testing.T) {
	Needs(t, "nft")
	for _, c := range []struct {
		owner          bool
		entries, rules int
	}{{true, 0, 100}, {false, 0, 100}, {false, 200_000 / RaceFactor, 6_000 / RaceFactor}} {
		t.Run(fmt.Sprintf("owner %v, %d entries, %d rules", c.owner, c.entries, c.rules), func(t *testing.T) {
			ns := Space(t)
			rate := contend(t, ns)
			k, err := newNFTables(Options{Enter: ns.Do}.withDefaults())
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			rs := many(c.entries, c.rules)
			rs.Owner = c.owner
			began := time.Now()
			if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
				t.Fatal(err)
			}
			t.Logf("the rules are there after %v", time.Since(began))
			for i := range 20 {
				rs = withOneMore(rs, 50_000+i)
				began := time.Now()
				if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("a port more takes %v", took)
				}
			}
			want, err := k.installed.live()
			if err != nil {
				t.Fatal(err)
			}
			if now, err := k.socket.readTable(ir.Table); err != nil || want.differences(ir.Table, now) != nil {
				t.Errorf("the rules are not those that were committed: %v, %v", want.differences(ir.Table, now), err)
			}
			if len(k.watch.unreported) > 0 {
				t.Errorf("reported is %v", k.watch.unreported)
			}
			t.Logf("the other program makes %d commits a second", rate())
		})
	}
}

// The same with iptables: its tools commit to the kernel's nf_tables too.
func TestContentionOfIPTables(t *testing.T) {
	ns := Space(t, "iptables", "ip6tables")
	rate := contend(t, ns)
	k, err := newIPTables(Options{Enter: ns.Do}.withDefaults(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	in := &ir.Chain{Table: "filter", Name: "INPUT", Builtin: true, Families: ir.Both}
	for i := range 200 {
		in.Rules = append(in.Rules, portRule(i+1))
		rs := &ir.Ruleset{Backend: ir.IPTables, Chains: []*ir.Chain{{Table: in.Table, Name: in.Name, Builtin: true, Families: ir.Both, Rules: slices.Clone(in.Rules)}}}
		if i%40 > 0 {
			continue
		}
		began := time.Now()
		if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a port more takes %v", took)
		} else {
			t.Logf("a port more takes %v", took)
		}
	}
	if k.held == nil || k.watch.changed != nil {
		t.Errorf("what others do is not watched any more, or seen where there is nothing: %v", k.watch.changed)
	}
	for _, family := range []ir.Families{ir.V4, ir.V6} {
		saved, err := k.save(t.Context(), family, "filter")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(saved.rules["INPUT"]); n != 161 {
			t.Errorf("%s has %d rules, want 161", tool(family), n)
		}
	}
	t.Logf("the other program makes %d commits a second", rate())
}
