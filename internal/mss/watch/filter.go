package watch

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"richwall/internal/mss/capture"
)

// Filter is what connections are to be about: an address or a prefix, a port, or both, at either end.
type Filter struct {
	prefix netip.Prefix // not valid for any address
	port   uint16       // 0 for any
}

// ParseFilter reads ADDRESS, ADDRESS/LENGTH, :PORT, ADDRESS:PORT or, over IPv6, [ADDRESS/LENGTH]:PORT.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	address, port := text, ""
	switch bracket := strings.LastIndex(text, "]"); {
	case strings.HasPrefix(text, "[") && bracket > 0:
		address, port = text[1:bracket], text[bracket+1:]
	case strings.Count(text, ":") == 1:
		at := strings.Index(text, ":")
		address, port = text[:at], text[at:]
	}
	wrong := fmt.Errorf("cannot look for the connection %q: say an address or a prefix, a port, or both, such as 192.0.2.1, 192.0.2.0/24:443, :443 or [2001:db8::1]:443", text)
	if port != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
		if err != nil || n == 0 || port[0] != ':' {
			return f, wrong
		}
		f.port = uint16(n)
	}
	if address == "" && port != "" {
		return f, nil
	}
	if a, err := netip.ParseAddr(address); err == nil && a.Zone() == "" {
		f.prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		return f, nil
	}
	p, err := netip.ParsePrefix(address)
	if err != nil {
		return f, wrong
	}
	f.prefix = p.Masked()
	return f, nil
}

// about says whether one of the ends is what the filter asks for.
func (f Filter) about(e ends) bool {
	return slices.ContainsFunc([]end{e.from, e.to}, func(one end) bool {
		return (f.port == 0 || f.port == one.port) && (!f.prefix.IsValid() || f.prefix.Contains(one.addr()))
	})
}

// wanted is the block of the kernel's filter that lets through TCP, and ICMP messages that say a packet is too large; also
// IPv6 packets with extension headers, behind which there may be either. Later fragments, which have no header of TCP, stay in
// the kernel, and so does all that goes over the loopback interface.
func wanted(at uint32) []bpf.Instruction {
	const loopback = 1 // the number of the interface in each network namespace
	four := slices.Concat(
		capture.Load(at+6, 2),
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipFalse: 1}}, capture.Drop,
		capture.Load(at+9, 1),
		capture.When([]uint32{protoTCP}, capture.Take),
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoICMP, SkipTrue: 1}}, capture.Drop,
		[]bpf.Instruction{bpf.LoadMemShift{Off: at}, bpf.LoadIndirect{Off: at, Size: 2}},
		capture.When([]uint32{unreachable<<8 | needsFragments}, capture.Take), capture.Drop)
	six := slices.Concat(
		capture.Load(at+6, 1),
		capture.When([]uint32{protoTCP, 0, 43, protoFragment, protoAH, 60, 135, 139, 140}, capture.Take),
		[]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1}}, capture.Drop,
		capture.Load(at+ipv6Header, 1),
		capture.When([]uint32{tooBig6}, capture.Take), capture.Drop)
	return slices.Concat(
		[]bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}},
		capture.When([]uint32{loopback}, capture.Drop),
		capture.Load(at, 1),
		[]bpf.Instruction{bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4}},
		capture.When([]uint32{4}, four), capture.When([]uint32{6}, six), capture.Drop)
}
