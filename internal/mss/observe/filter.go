package observe

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// captured is how many bytes of a SYN the kernel hands over: more than the layers below IP, an IP header, a few extension
// headers and a TCP header with all its options can have together.
const captured = 512

// networkOffset, added to an offset, makes the kernel count from behind the first link layer (SKF_NET_OFF of
// linux/filter.h, which is negative).
const networkOffset = 0xfff00000

// synFilter is the kernel's filter. It lets through TCP
// segments that have SYN but neither RST nor FIN, below VLAN tags, PPPoE, MPLS and SNAP too. What it cannot look into it lets
// through as well, and the decoder sees or counts it: IPv6 packets with extension headers, other Ethernet types.
func synFilter() []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtProto}}, byType(networkOffset, 2))
}

// Blocks of a filter are lists of instructions that all end in take or drop, so that one stands behind the other.
var (
	take = []bpf.Instruction{bpf.RetConstant{Val: captured}}
	drop = []bpf.Instruction{bpf.RetConstant{Val: 0}}
)

// when goes on with a block if the accumulator is one of some values, and behind it if not.
func when(values []uint32, block []bpf.Instruction) []bpf.Instruction {
	var list []bpf.Instruction
	for i, v := range values {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return slices.Concat(list, []bpf.Instruction{bpf.Jump{Skip: uint32(len(block))}}, block)
}

// load puts so many bytes at an offset into the accumulator.
func load(at uint32, size int) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadAbsolute{Off: at, Size: size}}
}

// byType is the block for what an Ethernet type in the accumulator says stands at an offset. It looks through so many
// layers below that.
func byType(at uint32, layers int) []bpf.Instruction {
	below := func(size uint32) []bpf.Instruction {
		if layers == 0 {
			return take
		}
		return byType(at+size, layers-1)
	}
	var silent []uint32
	for kind := range withoutIP {
		silent = append(silent, uint32(kind))
	}
	slices.Sort(silent)
	return slices.Concat(
		when([]uint32{etherIPv4, etherIPv6}, ipFilter(at)),
		when([]uint32{etherVLAN, etherQinQ, etherOldQinQ, etherOlderQinQ}, slices.Concat(load(at+2, 2), below(vlanTag))),
		when([]uint32{etherPPPoE}, slices.Concat(
			load(at+pppoeHeader, 2),
			when([]uint32{pppIPv4, pppIPv6}, ipFilter(at+pppoeHeader+2)),
			[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: pppControl, SkipFalse: 1}}, drop, take)),
		when([]uint32{etherMPLS, etherMPLSMany}, labels(at, 4)),
		when([]uint32{etherLLC}, slices.Concat(
			load(at, 4), when([]uint32{sapSNAP<<24 | sapSNAP<<16 | llcUnnumbered<<8}, slices.Concat(load(at+6, 2), below(llcHeader+snapHeader))), take)),
		when(silent, drop), take)
}

// labels is the block for a stack of so many labels of MPLS at most.
func labels(at uint32, most int) []bpf.Instruction {
	if most == 0 {
		return take
	}
	below := slices.Concat(load(at+4, 1), []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4}},
		when([]uint32{4, 6}, ipFilter(at+4)), take)
	return slices.Concat(load(at+2, 1), []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1}}, when([]uint32{1}, below), labels(at+4, most-1))
}

// ipFilter is the block for an IP packet at an offset.
func ipFilter(at uint32) []bpf.Instruction {
	const drop, take = 19, 20 // where the ends are
	to := func(at, target int) uint8 { return uint8(target - at - 1) }
	return []bpf.Instruction{
		0: bpf.LoadAbsolute{Off: at, Size: 1},
		1: bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		2: bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: to(2, 10)},
		3: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 4, SkipTrue: to(3, drop)},

		4: bpf.LoadAbsolute{Off: at + 9, Size: 1}, // protocol
		5: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tcp, SkipTrue: to(5, drop)},
		6: bpf.LoadAbsolute{Off: at + 6, Size: 2}, // fragment offset
		7: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: to(7, drop)},
		8: bpf.LoadMemShift{Off: at}, // X = the header's length
		9: bpf.Jump{Skip: uint32(to(9, 16))},

		10: bpf.LoadAbsolute{Off: at + 6, Size: 1}, // next header
		11: bpf.JumpIf{Cond: bpf.JumpEqual, Val: tcp, SkipTrue: to(11, 15)},
		12: bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: to(12, drop)},
		13: bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: to(13, drop)},
		14: bpf.Jump{Skip: uint32(to(14, take))},
		15: bpf.LoadConstant{Dst: bpf.RegX, Val: ipv6Header},

		16: bpf.LoadIndirect{Off: at + 13, Size: 1}, // TCP flags
		17: bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagFIN | flagSYN | flagRST},
		18: bpf.JumpIf{Cond: bpf.JumpEqual, Val: flagSYN, SkipTrue: to(18, take)},

		drop: bpf.RetConstant{Val: 0},
		take: bpf.RetConstant{Val: captured},
	}
}

// assembled is the filter as setsockopt takes it.
func assembled() (*unix.SockFprog, error) {
	list, err := bpf.Assemble(synFilter())
	if err != nil {
		return nil, err
	}
	code := make([]unix.SockFilter, len(list))
	for i, in := range list {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}, nil
}
