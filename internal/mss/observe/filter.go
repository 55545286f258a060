package observe

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"richwall/internal/mss/capture"
)

// syns is the block of the kernel's filter that lets through TCP segments which have SYN but neither RST nor FIN, and IPv6
// packets with extension headers, which the decoder looks into.
func syns(at uint32) []bpf.Instruction {
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
		take: bpf.RetConstant{Val: capture.Captured},
	}
}
