package kernel

import (
	"fmt"
	"net/netip"
	"strings"
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

// contend starts some of them.
func contend(t *testing.T, ns *lab.Namespace, programs int) (rate func() int) {
	t.Helper()
	b := &busy{stop: make(chan struct{}), done: make(chan error, programs)}
	for i := range programs {
		s, err := openSocket(ns.Do)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer s.conn.Close()
			b.done <- b.run(s, fmt.Sprint("theirs", i))
		}()
	}
	began := time.Now()
	t.Cleanup(func() {
		close(b.stop)
		for range programs {
			if err := <-b.done; err != nil {
				t.Error(err)
			}
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
			changes = []nft.Message{e.AddTable(0), e.AddChain(c, false)}
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
		s.Elements = append(s.Elements, ir.Element{Text: a.String(), Parts: []ir.Part{{Kind: ir.AddrPart, Low: a, High: a}}})
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

// Programs that commit to tables of their own as fast as the kernel lets them neither keep the rules from coming, at a start,
// nor a port from being added within a second; whether the table has an owner or not.
func TestContention(t *testing.T) {
	if missing := lab.Missing("nft"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	for _, owner := range []bool{true, false} {
		for _, size := range []struct{ entries, rules int }{{0, 100}, {200_000, 6_000}} {
			t.Run(fmt.Sprintf("owner %v, %d entries, %d rules", owner, size.entries, size.rules), func(t *testing.T) {
				ns, err := lab.NewNamespace()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(ns.Close)
				rate := contend(t, ns, 1)
				began := time.Now()
				k, err := newNFTables(Options{Enter: ns.Do}.withDefaults())
				if err != nil {
					t.Fatal(err)
				}
				defer k.Close()
				rs := many(size.entries, size.rules)
				rs.Owner = owner
				if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
					t.Fatal(err)
				}
				t.Logf("the rules are there after %v, beside %d commits a second", time.Since(began), rate())
				for i := range 5 {
					rs = withOneMore(rs, 50_000+i)
					began := time.Now()
					if err := k.Commit(t.Context(), &Desired{Rules: rs}); err != nil {
						t.Fatal(err)
					}
					took := time.Since(began)
					if t.Logf("a port more takes %v", took); took > time.Second {
						t.Errorf("a port more takes %v", took)
					}
				}
				if want, err := k.installed.live(); err != nil {
					t.Error(err)
				} else if now, err := k.socket.readTable(ir.Table); err != nil || want.differences(ir.Table, now) != nil {
					t.Errorf("the rules are not those that were committed: %v, %v", want.differences(ir.Table, now), err)
				}
				if len(k.watch.unreported) > 0 {
					t.Errorf("reported is %v", k.watch.unreported)
				}
				t.Logf("%d commits a second by the other program", rate())
			})
		}
	}
}
