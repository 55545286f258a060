package compile

import (
	"hash/maphash"
	"slices"
	"strconv"

	"richwall/compile/ir"
)

// chainMemo is how the rules of a chain were ordered and made unique.
type chainMemo struct {
	added  []*ir.Rule // as the passes added them
	sorted []*ir.Rule // by their order; the same slice if they were so already
	hashes []uint64   // of sorted, by what they do
	kept   []*ir.Rule // those of sorted that stand there for the first time; the same slice if all do
	folded *folded    // how kept was folded; nil if it was not
}

var hashSeed = maphash.MakeSeed()

// chainBefore is the memo of a chain from the last time, which may be empty.
func (s *state) chainBefore(c *ir.Chain) *chainMemo {
	if m := s.before.chains[chainKey{c.Table, c.Name}]; m != nil {
		return m
	}
	return &chainMemo{}
}

// order sorts the rules of each chain by their Order; rules of equal Order stay as they were added.
func (s *state) order() {
	byOrder := func(a, b *ir.Rule) int { return a.Order - b.Order }
	for _, c := range s.out.Chains {
		before, m := s.chainBefore(c), &chainMemo{added: c.Rules, sorted: c.Rules}
		begin, end := aligned(before.added, c.Rules)
		inOrder := sameSlice(before.added, before.sorted) // so only what is new, and its neighbours, need to be looked at
		if !inOrder {
			begin, end = 0, 0
		}
		switch {
		case !inOrder && slices.Equal(before.added, c.Rules):
			m.sorted = before.sorted
		case !slices.IsSortedFunc(c.Rules[max(begin-1, 0):min(len(c.Rules)-end+1, len(c.Rules))], byOrder):
			m.sorted = slices.Clone(c.Rules)
			slices.SortStableFunc(m.sorted, byOrder)
		}
		c.Rules = m.sorted
		s.next.chains[chainKey{c.Table, c.Name}] = m
	}
}

// unique drops rules that stand in their chain already. A rule that was placed by a priority is never taken for one that was
// not, even if both do the same, as firewalld has it.
func (s *state) unique() {
	for _, c := range s.out.Chains {
		m := s.next.chains[chainKey{c.Table, c.Name}]
		m.kept = m.sorted
		if s.layout.unique && len(m.sorted) > 1 {
			m.dropTwins(s.chainBefore(c))
		}
		c.Rules = m.kept[:len(m.kept):len(m.kept)]
	}
}

// few is up to how many new rules each is looked for among all others, instead of listing them all.
const few = 8

// dropTwins finds which rules are kept.
func (m *chainMemo) dropTwins(before *chainMemo) {
	if len(before.hashes) != len(before.sorted) {
		before = &chainMemo{}
	}
	begin, end := aligned(before.sorted, m.sorted)
	m.hashes = make([]uint64, len(m.sorted))
	copy(m.hashes, before.hashes[:begin])
	copy(m.hashes[len(m.hashes)-end:], before.hashes[len(before.hashes)-end:])
	fresh := m.sorted[begin : len(m.sorted)-end]
	var buffer []byte
	for i, r := range fresh {
		buffer = appendIdentity(buffer[:0], r)
		m.hashes[begin+i] = maphash.Bytes(hashSeed, buffer)
	}
	switch {
	case len(fresh) == 0 && len(m.sorted) == len(before.sorted):
		m.kept = before.kept
	case !sameSlice(before.kept, before.sorted) || len(fresh) > few || m.anyTwin(begin, len(fresh)):
		m.kept = m.firsts()
	}
}

// anyTwin says whether one of the n rules from begin on has the hash of another one.
func (m *chainMemo) anyTwin(begin, n int) bool {
	for i := begin; i < begin+n; i++ {
		for j, h := range m.hashes {
			if h == m.hashes[i] && j != i {
				return true
			}
		}
	}
	return false
}

// firsts are the rules without those that stand in the chain already.
func (m *chainMemo) firsts() []*ir.Rule {
	seen := make(map[uint64]int, len(m.sorted)) // index of the first rule with the hash
	var kept []*ir.Rule                         // nil as long as all are
	for i, r := range m.sorted {
		first, twin := seen[m.hashes[i]]
		if twin && string(appendIdentity(nil, m.sorted[first])) == string(appendIdentity(nil, r)) {
			if kept == nil {
				kept = slices.Clone(m.sorted[:i])
			}
			continue
		}
		if !twin {
			seen[m.hashes[i]] = i
		}
		if kept != nil {
			kept = append(kept, r)
		}
	}
	if kept == nil {
		return m.sorted
	}
	return kept
}

// appendIdentity appends what must be equal in rules of which one is enough.
func appendIdentity(b []byte, r *ir.Rule) []byte {
	if r.Ranked {
		b = append(strconv.AppendInt(b, int64(r.Order), 10), ' ')
	}
	return r.AppendIdentity(b)
}
