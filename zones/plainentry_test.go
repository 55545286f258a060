package zones

import (
	"math/rand/v2"
	"testing"

	"richwall/internal/irgen"
)

// A plain entry stands for what the parser of all entries says, and is in the words that an entry is kept in. Nearly all addresses and networks
// that are valid are plain.
func TestPlainEntriesAreThoseOfTheParser(t *testing.T) {
	r := rand.New(rand.NewPCG(irgen.Seed(t), 0))
	pieces := []string{"0", "1", "9", "10", "16", "31", "32", "33", "99", "128", "192", "255", "256", "00", "01", ".", ".", ".", ".", "/", "/", "/24", "-", "", " ", "a"}
	text := func() string {
		if r.IntN(2) == 0 {
			addr := addr4(r.Uint32() & (r.Uint32() | 1<<(r.IntN(32))) &^ (1<<r.IntN(33) - 1)).String()
			if r.IntN(3) == 0 {
				return addr
			}
			return addr + "/" + pieces[r.IntN(11)]
		}
		var made string
		for range r.IntN(10) {
			made += pieces[r.IntN(len(pieces))]
		}
		return made
	}
	plain := map[bool]int{}
	for range 200_000 {
		s := &IPSet{Type: []string{"hash:ip", "hash:net", "hash:mac", "hash:ip,port", "hash:net,net"}[r.IntN(5)]}
		if r.IntN(8) == 0 {
			s.Options = map[string]string{"family": "inet6"}
		}
		entry := text()
		low, high, ok := s.PlainEntry(entry)
		plain[ok]++
		if !ok {
			continue
		}
		parsed, err := ParseEntry(s, entry)
		if err != nil {
			t.Fatalf("%q is plain in a %s, and the parser says %v", entry, s.Type, err)
		}
		part := parsed[0].(AddrPart)
		if part.Low != low || part.High != high || part.Prefix.String() != entry && part.Low.String() != entry {
			t.Fatalf("%q is plain in a %s, %s to %s, and the parser says %+v", entry, s.Type, low, high, part)
		}
	}
	if plain[true] < 1000 {
		t.Errorf("only %d texts of %d were plain", plain[true], plain[true]+plain[false])
	}
}
