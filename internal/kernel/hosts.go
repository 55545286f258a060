package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"richwall/compile/iptables"
	"richwall/compile/ir"
)

// hostTime is how long name servers are waited for, for each host; hostsAtOnce are asked at once. It is a variable for tests.
// A program of iptables looks a host up twice, and the resolver waits for the first name server for five seconds before it asks the second
// (resolv.conf(5)).
var hostTime = 12 * time.Second

const hostsAtOnce = 64

// host is what a direct rule has in the place of an address, of a family's rules.
type host struct {
	family ir.Families
	name   string
}

// silent are hosts of which no name server has told anything, and when that was. The attempts of one start do not wait for them again.
var silent sync.Map

// findHosts asks whether the hosts are known that direct rules name which a commit is to bring. A restore tool would look up one after the other,
// and wait for a name server that does not answer each time. The error is a RuleError for each rule with a host that is not known in time.
func (k *iptablesKernel) findHosts(ctx context.Context, before, next *Desired) error {
	rules := map[host][]*RuleError{}
	var order []host
	for _, family := range k.families {
		for _, table := range iptables.Tables {
			was := &tableRules{}
			if before != nil {
				was = rulesOf(before.Rules, family, table)
			}
			for _, c := range rulesOf(next.Rules, family, table).chains {
				for i, spec := range c.specs {
					if !isRaw(c.rules[i]) || was.has(c.name, spec) {
						continue
					}
					for _, name := range hostsIn(spec) {
						h := host{family, name}
						if rules[h] == nil {
							order = append(order, h)
						}
						rules[h] = append(rules[h], &RuleError{Origin: c.rules[i].Origin, Chain: c.name,
							Err: fmt.Errorf("the rule \"-A %s %s\" cannot be put into table %s of %s", c.name, spec, table, tool(family))})
					}
				}
			}
		}
	}
	var list []*RuleError
	for i, why := range k.lookUp(ctx, order) {
		if why == nil {
			continue
		}
		for _, e := range rules[order[i]] {
			list = append(list, &RuleError{Origin: e.Origin, Chain: e.Chain, Err: fmt.Errorf("%w: %w", e.Err, why)})
		}
	}
	return joined(list)
}

// hostsIn are the hosts that a rule names.
func hostsIn(spec string) (hosts []string) {
	for _, list := range addressesIn(words(spec)) {
		hosts = append(hosts, filter(list, isHost)...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// lookUp is why each of some hosts is not known; nil for one that is, or of which only the restore tool can tell.
func (k *iptablesKernel) lookUp(ctx context.Context, hosts []host) []error {
	why, places := make([]error, len(hosts)), make(chan struct{}, hostsAtOnce)
	var all sync.WaitGroup
	for i, h := range hosts {
		if at, known := silent.Load(h); known && k.starting && time.Since(at.(time.Time)) < 2*hostTime {
			why[i] = noAnswer(h)
			continue
		}
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			limited, cancel := context.WithTimeout(ctx, hostTime) // a time of its own: hosts before it take nothing of it
			defer cancel()
			switch why[i] = k.lookUpOne(limited, h); {
			case ctx.Err() != nil:
			case why[i] != nil && limited.Err() != nil:
				silent.Store(h, time.Now())
			default:
				silent.Delete(h)
			}
		})
	}
	all.Wait()
	return why
}

// lookUpOne has a family's program look a host up as it does for a rule: it reads one, of a chain that is not there, and changes nothing.
func (k *iptablesKernel) lookUpOne(ctx context.Context, h host) error {
	_, err := k.run(ctx, "", tool(h.family), "-t", "filter", "-C", trialChain, "-s", h.name)
	switch said := (*toolError)(nil); {
	case ctx.Err() != nil:
		return noAnswer(h)
	case errors.As(err, &said) && strings.Contains(said.said, "host/network"):
		return unknownHost(said.reason())
	}
	return nil
}

// ErrNoAddress is that no address is known of a host in a direct rule. It may be known later.
var ErrNoAddress = errors.New("no address is known of a host")

// unknownHost is ErrNoAddress in words that name the host.
type unknownHost string

func (e unknownHost) Error() string { return string(e) }

// Is implements errors.Is.
func (e unknownHost) Is(target error) bool { return target == ErrNoAddress }

func noAnswer(h host) error {
	return unknownHost(fmt.Sprintf("no name server has told the address of the host %s in time", h.name))
}
