package boxes

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an address as a number. Those of one IP version can be compared.
func Addr(a netip.Addr) Point {
	if a.Is4() {
		b := a.As4()
		return Point{Low: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return Point{High: binary.BigEndian.Uint64(b[:8]), Low: binary.BigEndian.Uint64(b[8:])}
}

// Addr is the address of an IP version that a number stands for.
func (p Point) Addr(is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(p.Low))))
	}
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.High), p.Low)))
}

// LastAddr is the highest address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		setLowBits(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	setLowBits(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

// setLowBits sets all bits from the n-th on.
func setLowBits(b []byte, n int) {
	for i := n / 8; i < len(b); i++ {
		b[i] |= 0xff >> max(0, n-8*i)
	}
}
