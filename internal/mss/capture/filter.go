package capture

import (
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Captured is how many bytes of a packet the kernel hands over: more than the layers below IP, an IP header, a few extension
// headers and a TCP header with all its options can have together.
const Captured = 512

// networkOffset, added to an offset, makes the kernel count from behind the first link layer (SKF_NET_OFF of
// linux/filter.h, which is negative).
const networkOffset = 0xfff00000

// Block is a piece of a filter about the IP packet that starts at an offset. All its ends are Take or Drop.
type Block func(at uint32) []bpf.Instruction

// Filter is a filter of the kernel's that asks a block about IP packets, below VLAN tags, PPPoE, MPLS and SNAP too. What it
// cannot look into it lets through, and the decoder sees or counts it: other Ethernet types, deeper layers.
func Filter(ip Block) []bpf.Instruction {
	return slices.Concat([]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtProto}}, ByType(networkOffset, ip))
}

// ByType is the same for what an Ethernet type in the accumulator says stands at an offset.
func ByType(at uint32, ip Block) []bpf.Instruction { return layers{ip}.byType(at, 2) }

// layers is what a filter looks through.
type layers struct{ ip Block }

// Take and Drop are the ends of blocks.
var (
	Take = []bpf.Instruction{bpf.RetConstant{Val: Captured}}
	Drop = []bpf.Instruction{bpf.RetConstant{Val: 0}}
)

// When goes on with a block if the accumulator is one of some values, and behind it if not.
func When(values []uint32, block []bpf.Instruction) []bpf.Instruction {
	var list []bpf.Instruction
	for i, v := range values {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return slices.Concat(list, []bpf.Instruction{bpf.Jump{Skip: uint32(len(block))}}, block)
}

// Load puts so many bytes at an offset into the accumulator.
func Load(at uint32, size int) []bpf.Instruction {
	return []bpf.Instruction{bpf.LoadAbsolute{Off: at, Size: size}}
}

// byType is the block for what an Ethernet type in the accumulator says stands at an offset. It looks through so many
// layers below that.
func (l layers) byType(at uint32, deep int) []bpf.Instruction {
	below := func(size uint32) []bpf.Instruction {
		if deep == 0 {
			return Take
		}
		return l.byType(at+size, deep-1)
	}
	var silent []uint32
	for kind := range withoutIP {
		silent = append(silent, uint32(kind))
	}
	slices.Sort(silent)
	return slices.Concat(
		When([]uint32{etherIPv4, etherIPv6}, l.ip(at)),
		When([]uint32{etherVLAN, etherQinQ, etherOldQinQ, etherOlderQinQ}, slices.Concat(Load(at+2, 2), below(vlanTag))),
		When([]uint32{etherPPPoE}, slices.Concat(
			Load(at+pppoeHeader, 2),
			When([]uint32{pppIPv4, pppIPv6}, l.ip(at+pppoeHeader+2)),
			[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: pppControl, SkipFalse: 1}}, Drop, Take)),
		When([]uint32{etherMPLS, etherMPLSMany}, l.labels(at, 4)),
		When([]uint32{etherLLC}, slices.Concat(
			Load(at, 4), When([]uint32{sapSNAP<<24 | sapSNAP<<16 | llcUnnumbered<<8}, slices.Concat(Load(at+6, 2), below(llcHeader+snapHeader))), Take)),
		When(silent, Drop), Take)
}

// labels is the block for a stack of so many labels of MPLS at most.
func (l layers) labels(at uint32, most int) []bpf.Instruction {
	if most == 0 {
		return Take
	}
	below := slices.Concat(Load(at+4, 1), []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4}},
		When([]uint32{4, 6}, l.ip(at+4)), Take)
	return slices.Concat(Load(at+2, 1), []bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1}}, When([]uint32{1}, below), l.labels(at+4, most-1))
}

// assembled is a filter as setsockopt takes it.
func assembled(filter []bpf.Instruction) (*unix.SockFprog, error) {
	list, err := bpf.Assemble(filter)
	if err != nil {
		return nil, err
	}
	code := make([]unix.SockFilter, len(list))
	for i, in := range list {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}, nil
}
