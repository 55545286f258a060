package kernel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/compile/nft"
)

const (
	// panicTable drops every packet while it is there. Its name is firewalld's.
	panicTable = ir.Table + "_policy_drop"
	// attempts is how often a commit is tried again when other programs get in between.
	attempts = 20
)

// nftables is the Kernel that commits by netlink.
type nftables struct {
	options Options
	mu      sync.Mutex
	socket  *socket
	owner   bool            // the kernel can give a table an owner and let it stay without one
	direct  *iptablesKernel // nil until there are rules of the direct interface

	verified  *verified  // the ruleset that was checked last
	installed *installed // nil if it is not known what the kernel has
	watch     watch
}

// installed is what a Kernel put into the kernel.
type installed struct {
	Desired
	owned   bool                // nobody else can change the table
	table   uint64              // its handle; 0 if that is not known
	handles map[string][]uint64 // of the rules of chains; those of a chain that is missing are not known
}

func newNFTables(o Options) (*nftables, error) {
	s, err := openSocket(o.Enter)
	if err != nil {
		return nil, err
	}
	k := &nftables{options: o, socket: s}
	if k.owner, err = s.canOwn(); err == nil {
		k.watch.socket = s
		k.watch.monitor, err = newMonitor(o.Enter, s.conn.PID(), func(family uint8, table string) bool {
			return family == unix.NFPROTO_INET && (table == ir.Table || table == panicTable)
		})
	}
	if err != nil {
		s.conn.Close()
		return nil, err
	}
	return k, nil
}

// canOwn says whether the kernel has owners of tables, and tables that outlive their owner (Linux 5.12 and 6.9). Without the
// latter a daemon that is killed would leave the machine open. It tries with a table that nobody sees: it is made and
// removed by the same transaction.
func (s *socket) canOwn() (bool, error) {
	for range attempts {
		generation, err := s.generation()
		if err != nil {
			return false, fmt.Errorf("cannot ask the kernel for its packet filter: %w", err)
		}
		e := &nft.Encoder{Table: ir.Table + "_probe"}
		a, err := s.commit([]nft.Message{e.AddTable(nft.TableOwner | nft.TablePersist), e.DeleteTable()}, generation)
		switch {
		case errors.Is(err, errMoved):
		case err != nil:
			return false, err
		case len(a.refused) > 0 && errors.Is(a.refused[0].err, unix.EPERM):
			return false, fmt.Errorf("cannot change the packet filter: that needs the capability CAP_NET_ADMIN")
		default:
			return len(a.refused) == 0, nil
		}
	}
	return false, errMoved
}

// Close closes the socket; the table loses its owner with it, and stays.
func (k *nftables) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := errors.Join(k.watch.monitor.close(), k.socket.conn.Close())
	if k.direct != nil {
		err = errors.Join(err, k.direct.Close())
	}
	return err
}

// Check finds what cannot be said in messages, or what the rules of a table forbid. What a running kernel lacks it cannot
// find: nftables has no dry run.
func (k *nftables) Check(next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.check(next)
}

func (k *nftables) check(next *Desired) error {
	if _, err := verify(next, ir.NFTables, k.verified); err != nil {
		return err
	}
	if _, err := newPlan(nil, next, k.owner, false); err != nil {
		return err
	}
	if next.Direct == nil {
		return nil
	}
	d, err := k.directKernel()
	if err != nil {
		return err
	}
	return d.Check(&Desired{Rules: next.Direct})
}

// directKernel is what commits the rules of the direct interface.
func (k *nftables) directKernel() (*iptablesKernel, error) {
	if k.direct == nil {
		d, err := newIPTables(k.options, true)
		if err != nil {
			return nil, fmt.Errorf("cannot install rules of the direct interface: %w", err)
		}
		k.direct = d
		if k.watch.told != nil {
			d.Watch(k.watch.told)
		}
	}
	return k.direct, nil
}

func (k *nftables) Commit(ctx context.Context, next *Desired) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	verified, err := verify(next, ir.NFTables, k.verified)
	if err != nil {
		return err
	}
	k.verified = verified
	previous, err := k.commitDirect(ctx, next)
	if err != nil {
		return err
	}
	if err := k.commitTables(ctx, next); err != nil {
		if previous != nil {
			if back := k.direct.Commit(context.WithoutCancel(ctx), previous); back != nil {
				k.options.Log.Error("rules of the direct interface could not be put back", "error", back)
			}
		}
		return err
	}
	return nil
}

// commitDirect commits the rules of the direct interface, and returns what there was; nil if nothing was done.
func (k *nftables) commitDirect(ctx context.Context, next *Desired) (previous *Desired, err error) {
	if next.Direct == nil && k.direct == nil {
		return nil, nil
	}
	d, err := k.directKernel()
	if err != nil {
		return nil, err
	}
	previous = d.current()
	return previous, d.Commit(ctx, &Desired{Rules: next.Direct})
}

// commitTables makes the difference. When another program was faster it looks again.
func (k *nftables) commitTables(ctx context.Context, next *Desired) error {
	echo := true
	for range attempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		generation, err := k.socket.generation()
		if err != nil {
			return err
		}
		if generation, err = k.review(generation); err != nil {
			return err
		}
		known := k.installed
		if len(k.watch.changed) > 0 {
			known = nil
		}
		p, err := newPlan(known, next, k.owner, echo)
		if err != nil {
			return err
		}
		if len(p.changes) == 0 {
			k.committed(p, nil, generation)
			return nil
		}
		a, err := k.socket.commit(p.messages(), generation)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, errLost): // too many answers for the socket's buffer: it is done again, with fewer
			k.installed, echo = nil, false
			continue
		case err != nil:
			k.installed = nil
			return err
		case len(a.refused) > 0 && p.guessed: // others may have changed what they may
			k.installed = nil
			continue
		case len(a.refused) > 0:
			return p.errors(a.refused)
		}
		k.committed(p, a.handles, nextGeneration(generation))
		k.options.Log.Debug("committed to the kernel", "messages", len(p.changes))
		return nil
	}
	return errMoved
}

// committed notes what the kernel has since a generation.
func (k *nftables) committed(p *plan, handles map[int]uint64, generation uint32) {
	i := p.result(handles)
	switch {
	case p.before != nil && !p.replaced:
		i.table = p.before.table
	case i.Rules != nil:
		i.table = k.socket.tableHandle(ir.Table, generation)
	}
	k.installed = i
	k.watch.committed(generation)
}

// nextGeneration is the generation behind one commit; the kernel never uses 0.
func nextGeneration(g uint32) uint32 { return max(g+1, 1) }
