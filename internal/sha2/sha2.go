// Package sha2 has the hashes SHA-256 and SHA-512 (FIPS 180-4). Those of Go's own library bring 32 MB of data memory into every
// program that has them (crypto/internal/fips140/drbg), a third of what the daemon may take under "ulimit -d 102400". Nothing here
// is secret or has to be fast: what is hashed are files of the configuration and the seed of chain names.
package sha2

import (
	"encoding/binary"
	"io"
	"math/bits"
	"slices"
)

// constants are the first 64 bits behind the point of the cube roots of the first 80 primes. SHA-256 takes the first half of each of
// the first 64.
var constants = [80]uint64{
	0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538, 0x59f111f1b605d019,
	0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
	0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3,
	0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65, 0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
	0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
	0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
	0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b, 0xa2bfe8a14cf10364, 0xa81a664bbc423001,
	0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
	0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb,
	0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
	0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c, 0xd186b8c721c0c207,
	0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
	0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a,
	0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
}

// start is the first 64 bits behind the point of the square roots of the first 8 primes. SHA-256 takes the first half of each.
var start = [8]uint64{
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
}

// Sum256 is the SHA-256 of data.
func Sum256(data []byte) [32]byte {
	h := newHash256()
	finish(data, 0, 64, h.add)
	return h.sum()
}

// Sum256Of is the SHA-256 of all that a reader gives, of which no more than a piece is in memory. The error is the reader's.
func Sum256Of(r io.Reader) (sum [32]byte, err error) {
	h := newHash256()
	piece := make([]byte, 1<<15)
	for length := uint64(0); ; length += uint64(len(piece)) {
		n, err := io.ReadFull(r, piece)
		switch err {
		case nil:
			for block := range slices.Chunk(piece, 64) {
				h.add(block)
			}
		case io.EOF, io.ErrUnexpectedEOF:
			finish(piece[:n], length, 64, h.add)
			return h.sum(), nil
		default:
			return sum, err
		}
	}
}

// hash256 is the state of a SHA-256 between two blocks.
type hash256 [8]uint32

func newHash256() *hash256 {
	h := &hash256{}
	for i, v := range start {
		h[i] = uint32(v >> 32)
	}
	return h
}

// add takes a block of 64 bytes.
func (h *hash256) add(block []byte) {
	var w [64]uint32
	for i := range 16 {
		w[i] = binary.BigEndian.Uint32(block[4*i:])
	}
	for i := 16; i < 64; i++ {
		a, b := w[i-15], w[i-2]
		w[i] = w[i-16] + w[i-7] + (turn32(a, 7) ^ turn32(a, 18) ^ a>>3) + (turn32(b, 17) ^ turn32(b, 19) ^ b>>10)
	}
	s := *h
	for i := range w {
		a, e := s[0], s[4]
		t := s[7] + (turn32(e, 6) ^ turn32(e, 11) ^ turn32(e, 25)) + (e&s[5] ^ ^e&s[6]) + uint32(constants[i]>>32) + w[i]
		u := (turn32(a, 2) ^ turn32(a, 13) ^ turn32(a, 22)) + (a&s[1] ^ a&s[2] ^ s[1]&s[2])
		s = [8]uint32{t + u, a, s[1], s[2], s[3] + t, e, s[5], s[6]}
	}
	for i := range h {
		h[i] += s[i]
	}
}

func (h *hash256) sum() (sum [32]byte) {
	for i, v := range h {
		binary.BigEndian.PutUint32(sum[4*i:], v)
	}
	return sum
}

// Sum512 is the SHA-512 of data.
func Sum512(data []byte) (sum [64]byte) {
	h := start
	finish(data, 0, 128, func(block []byte) {
		var w [80]uint64
		for i := range 16 {
			w[i] = binary.BigEndian.Uint64(block[8*i:])
		}
		for i := 16; i < 80; i++ {
			a, b := w[i-15], w[i-2]
			w[i] = w[i-16] + w[i-7] + (turn64(a, 1) ^ turn64(a, 8) ^ a>>7) + (turn64(b, 19) ^ turn64(b, 61) ^ b>>6)
		}
		s := h
		for i := range w {
			a, e := s[0], s[4]
			t := s[7] + (turn64(e, 14) ^ turn64(e, 18) ^ turn64(e, 41)) + (e&s[5] ^ ^e&s[6]) + constants[i] + w[i]
			u := (turn64(a, 28) ^ turn64(a, 34) ^ turn64(a, 39)) + (a&s[1] ^ a&s[2] ^ s[1]&s[2])
			s = [8]uint64{t + u, a, s[1], s[2], s[3] + t, e, s[5], s[6]}
		}
		for i := range h {
			h[i] += s[i]
		}
	})
	for i, v := range h {
		binary.BigEndian.PutUint64(sum[8*i:], v)
	}
	return sum
}

// finish calls f for each block of size bytes of the last data, behind so many bytes before it. The last blocks end with a one, zeros, and the
// length in bits.
func finish(data []byte, before uint64, size int, f func(block []byte)) {
	length := before + uint64(len(data))
	for ; len(data) >= size; data = data[size:] {
		f(data[:size])
	}
	end := make([]byte, size, 2*size)
	end[copy(end, data)] = 0x80
	if len(data)+1+size/8 > size {
		end = end[:2*size]
	}
	binary.BigEndian.PutUint64(end[len(end)-8:], length<<3)
	binary.BigEndian.PutUint64(end[len(end)-16:], binary.BigEndian.Uint64(end[len(end)-16:])|length>>61)
	for ; len(end) > 0; end = end[size:] {
		f(end[:size])
	}
}

func turn32(v uint32, n int) uint32 { return bits.RotateLeft32(v, -n) }

func turn64(v uint64, n int) uint64 { return bits.RotateLeft64(v, -n) }
