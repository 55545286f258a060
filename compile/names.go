package compile

import (
	"maps"
	"math/big"

	"richwall/compile/ir"
	"richwall/internal/sha2"
)

// nameSeed is the seed for the names of chains that would be longer than ir.MaxChainName: they get a random-looking name of that length.
// firewalld draws them from Python's generator, always from the same seed and in the order in which it first needs each name, so that
// they are the same at every start; scripts and saved rulesets know them. These are the same.
const nameSeed = "string to seed the generator and make test output predictable"

// shortNames gives out names for chains of iptables.
type shortNames struct {
	rng   *mersenneTwister // made when the first long name comes
	names map[string]string
}

// clone is a copy whose names and state change by themselves.
func (s *shortNames) clone() shortNames {
	c := shortNames{names: maps.Clone(s.names)}
	if s.rng != nil {
		rng := *s.rng
		c.rng = &rng
	}
	return c
}

// short is name itself, or what stands for it if it is too long; the same for the same name.
func (s *shortNames) short(name string) string {
	if len(name) <= ir.MaxChainName {
		return name
	}
	if got, ok := s.names[name]; ok {
		return got
	}
	if s.rng == nil {
		s.rng = seedText(nameSeed)
	}
	if s.names == nil {
		s.names = map[string]string{}
	}
	b := make([]byte, ir.MaxChainName)
	for i := range b {
		b[i] = ir.ChainNameAlphabet[s.rng.below(len(ir.ChainNameAlphabet))]
	}
	s.names[name] = string(b)
	return string(b)
}

// mersenneTwister is MT19937 (Matsumoto and Nishimura 1998), with the seeding of Python's random.seed for text.
type mersenneTwister struct {
	state [624]uint32
	next  int
}

// seedText seeds by the number whose big-endian bytes are the text and its SHA-512.
func seedText(text string) *mersenneTwister {
	sum := sha2.Sum512([]byte(text))
	number := new(big.Int).SetBytes(append([]byte(text), sum[:]...))
	var key []uint32
	word, mask := new(big.Int), big.NewInt(0xffffffff)
	for number.Sign() > 0 {
		key = append(key, uint32(word.And(number, mask).Uint64()))
		number.Rsh(number, 32)
	}
	return seedArray(key)
}

// seedArray is init_by_array of the reference implementation.
func seedArray(key []uint32) *mersenneTwister {
	m := &mersenneTwister{next: 624}
	s := &m.state
	s[0] = 19650218
	for i := uint32(1); i < 624; i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + i
	}
	i, j := 1, 0
	wrap := func() {
		if i++; i >= 624 {
			s[0], i = s[623], 1
		}
	}
	for range max(624, len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		if j++; j >= len(key) {
			j = 0
		}
		wrap()
	}
	for range 623 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		wrap()
	}
	s[0] = 0x80000000
	return m
}

// word is the next 32 random bits.
func (m *mersenneTwister) word() uint32 {
	if m.next == 624 {
		for i := range m.state {
			y := m.state[i]&0x80000000 | m.state[(i+1)%624]&0x7fffffff
			m.state[i] = m.state[(i+397)%624] ^ y>>1 ^ y&1*0x9908b0df
		}
		m.next = 0
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below is a random number in [0, n), n at most 64, drawn as Python does: by rejection from the bits that n needs.
func (m *mersenneTwister) below(n int) int {
	const bits = 6
	for {
		if r := int(m.word() >> (32 - bits)); r < n {
			return r
		}
	}
}
