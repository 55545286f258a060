package sha2

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"richwall/internal/irgen"
)

// The sums are those of Go's own library, for texts of every length around the ends of blocks, and for longer ones.
func TestSumsAreThoseOfGo(t *testing.T) {
	random := rand.New(rand.NewPCG(irgen.Seed(t), 0))
	for n := range 400 {
		if n >= 300 {
			n = random.IntN(100_000)
		}
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if got, want := Sum256(data), sha256.Sum256(data); got != want {
			t.Fatalf("the SHA-256 of %d bytes is %x, want %x", n, got, want)
		}
		if got, err := Sum256Of(bytes.NewReader(data)); err != nil || got != sha256.Sum256(data) {
			t.Fatalf("the SHA-256 of a reader of %d bytes is %x, %v", n, got, err)
		}
		if got, want := Sum512(data), sha512.Sum512(data); got != want {
			t.Fatalf("the SHA-512 of %d bytes is %x, want %x", n, got, want)
		}
	}
}

// Nothing that the daemon imports brings in the 32 MB of data memory that belong to Go's own hashes.
func TestTheDaemonHasNoHashesOfGo(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "richwall/cmd/firewalld").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if strings.HasPrefix(path, "crypto/internal/fips140") {
			t.Errorf("the daemon has %s, which has 32 MB of data memory", path)
		}
	}
}
