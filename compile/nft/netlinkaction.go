package nft

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"richwall/compile/ir"
)

const helperObject = 3 // NFT_OBJECT_CT_HELPER (linux/netfilter/nf_tables.h)

func (r *ruleEncoder) action(a ir.Action) {
	switch a := a.(type) {
	case ir.Verdict:
		r.add(verdict(a))
	case ir.Jump:
		r.add(verdict(a))
	case ir.Decide:
		r.loadKey(a.Map, ir.Source)
		r.add(&expr.Lookup{SourceRegister: reg1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: a.Map.Name})
	case ir.Reject:
		r.reject(a)
	case ir.Log:
		r.log(&expr.Log{Level: logLevels[a.Level]}, a.Prefix, a.Level != "" && a.Level != "warning", unix.NFTA_LOG_LEVEL)
	case ir.NFLog:
		r.log(&expr.Log{Key: 1 << unix.NFTA_LOG_GROUP, Group: uint16(a.Group), QThreshold: uint16(a.QueueSize)},
			a.Prefix, a.QueueSize != 0, unix.NFTA_LOG_QTHRESHOLD)
	case ir.Audit:
		r.log(&expr.Log{Level: expr.LogLevelAudit}, "", true, unix.NFTA_LOG_LEVEL)
	case ir.SetMark:
		r.setMark(a)
	case ir.ClampMSS:
		r.clamp(a)
	case ir.Masquerade:
		r.add(&expr.Masq{})
	case ir.DNAT:
		r.dnat(a)
	case ir.SetHelper:
		r.add(&expr.Objref{Type: helperObject, Name: a.Object})
	case ir.Offload:
		r.add(&expr.FlowOffload{Name: flowtable})
	default:
		r.fail(fmt.Errorf("nftables has no action %T", a))
	}
}

// verdict is a Verdict or a Jump as the kernel has it.
func verdict(a ir.Action) *expr.Verdict {
	switch a := a.(type) {
	case ir.Verdict:
		return &expr.Verdict{Kind: verdicts[a]}
	case ir.Jump:
		if a.Goto {
			return &expr.Verdict{Kind: expr.VerdictGoto, Chain: a.Chain}
		}
		return &expr.Verdict{Kind: expr.VerdictJump, Chain: a.Chain}
	}
	panic(fmt.Sprintf("internal error: %T is no verdict", a))
}

var verdicts = map[ir.Verdict]expr.VerdictKind{
	ir.Accept: expr.VerdictAccept, ir.Drop: expr.VerdictDrop, ir.Return: expr.VerdictReturn,
}

// logLevels are the numbers of syslog.h.
var logLevels = map[string]expr.LogLevel{
	"emerg": expr.LogLevelEmerg, "alert": expr.LogLevelAlert, "crit": expr.LogLevelCrit, "error": expr.LogLevelErr,
	"warning": expr.LogLevelWarning, "notice": expr.LogLevelNotice, "info": expr.LogLevelInfo, "debug": expr.LogLevelDebug,
}

// log adds a log with a prefix, if there is one, and with the attribute key if given says so.
func (r *ruleEncoder) log(l *expr.Log, prefix string, given bool, key uint) {
	if given {
		l.Key |= 1 << key
	}
	if prefix != "" {
		l.Key |= 1 << unix.NFTA_LOG_PREFIX
		l.Data = []byte(prefix)
	}
	r.add(l)
}

// rejection is an answer as the kernel has it, and what must be known of a packet that gets it.
type rejection struct {
	kind     uint32 // NFT_REJECT_…
	code     uint8
	nf       byte // 0: any IP version
	protocol int  // 0: any
}

// rejections are the answers by nft's words: codes of ICMP (RFC 792), ICMPv6 (RFC 4443) and NFT_REJECT_ICMPX_….
var rejections = map[string]rejection{
	"":                              {kind: unix.NFT_REJECT_ICMPX_UNREACH, code: unix.NFT_REJECT_ICMPX_PORT_UNREACH},
	" with icmpx port-unreachable":  {kind: unix.NFT_REJECT_ICMPX_UNREACH, code: unix.NFT_REJECT_ICMPX_PORT_UNREACH},
	" with icmpx admin-prohibited":  {kind: unix.NFT_REJECT_ICMPX_UNREACH, code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED},
	" with icmp net-unreachable":    {nf: unix.NFPROTO_IPV4, code: 0},
	" with icmp host-unreachable":   {nf: unix.NFPROTO_IPV4, code: 1},
	" with icmp prot-unreachable":   {nf: unix.NFPROTO_IPV4, code: 2},
	" with icmp port-unreachable":   {nf: unix.NFPROTO_IPV4, code: 3},
	" with icmp net-prohibited":     {nf: unix.NFPROTO_IPV4, code: 9},
	" with icmp host-prohibited":    {nf: unix.NFPROTO_IPV4, code: 10},
	" with icmp admin-prohibited":   {nf: unix.NFPROTO_IPV4, code: 13},
	" with icmpv6 no-route":         {nf: unix.NFPROTO_IPV6, code: 0},
	" with icmpv6 admin-prohibited": {nf: unix.NFPROTO_IPV6, code: 1},
	" with icmpv6 addr-unreachable": {nf: unix.NFPROTO_IPV6, code: 3},
	" with icmpv6 port-unreachable": {nf: unix.NFPROTO_IPV6, code: 4},
	" with tcp reset":               {kind: unix.NFT_REJECT_TCP_RST, protocol: unix.IPPROTO_TCP},
}

// reject answers a packet. What must be known of it is asked before all else of the rule, so that nothing is logged that is
// not refused.
func (r *ruleEncoder) reject(a ir.Reject) {
	answer := rejections[rejects[a.Word()]]
	if a.With == ir.RejectDefault && r.nf != 0 { // nft says it in the terms of the family, once that is known
		answer = rejections[map[byte]string{unix.NFPROTO_IPV4: " with icmp port-unreachable", unix.NFPROTO_IPV6: " with icmpv6 port-unreachable"}[r.nf]]
	}
	rest := r.exprs
	r.exprs = nil
	if answer.nf != 0 {
		r.needFamily(answer.nf)
	}
	if answer.protocol != 0 {
		r.needProtocol(answer.protocol)
	}
	r.exprs = append(r.exprs, rest...)
	r.add(&expr.Reject{Type: answer.kind, Code: answer.code})
}

func (r *ruleEncoder) setMark(a ir.SetMark) {
	if a.Masked {
		r.add(load(expr.MetaKeyMARK), &expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: nativeBytes(^a.Mask), Xor: nativeBytes(a.Value)})
	} else {
		r.add(&expr.Immediate{Register: reg1, Data: nativeBytes(a.Value)})
	}
	r.add(&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1})
}

// clamp writes the MSS option's value, which the kernel only ever lowers.
func (r *ruleEncoder) clamp(a ir.ClampMSS) {
	switch {
	case a.Raise:
		r.overwriteMSS(a.Size)
		return
	case a.Links != "":
		name := expr.MetaKeyIIFNAME
		if a.Side == ir.Dest {
			name = expr.MetaKeyOIFNAME
		}
		r.add(load(name), &expr.Lookup{SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: a.Links})
	case a.Size != 0:
		r.add(&expr.Immediate{Register: reg1, Data: networkBytes(a.Size)})
	default:
		r.add(&expr.Rt{Register: reg1, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: reg1, DestRegister: reg1, Op: expr.ByteorderHton, Len: 2, Size: 2})
	}
	r.add(&expr.Exthdr{SourceRegister: reg1, Op: expr.ExthdrOpTcpopt, Type: optionMSS, Offset: 2, Len: 2})
}

// overwriteMSS writes over the bytes of the option, where it is the first one, as all systems send it, and mends the
// checksum (RFC 9293, 3.1: options begin at byte 20, the checksum is at 16).
func (r *ruleEncoder) overwriteMSS(size int) {
	const kindAndLength = optionMSS<<8 | 4
	r.needProtocol(unix.IPPROTO_TCP)
	r.add(payload(transport, 20, 2), compare(false, networkBytes(kindAndLength)),
		&expr.Immediate{Register: reg1, Data: networkBytes(size)},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: reg1, Base: transport, Offset: 22, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: 16})
}

func (r *ruleEncoder) dnat(a ir.DNAT) {
	const givenPort = 2 // NF_NAT_RANGE_PROTO_SPECIFIED (linux/netfilter/nf_nat.h)
	next := 0           // the free part of the scratch area
	put := func(value []byte) uint32 {
		reg := register(next)
		next += 4
		r.add(&expr.Immediate{Register: reg, Data: value})
		return reg
	}
	var addr, low, high uint32
	if a.Addr.IsValid() {
		addr = put(a.Addr.AsSlice())
	}
	if a.High != 0 {
		low = put(networkBytes(a.Low))
	}
	if a.Low != a.High {
		high = put(networkBytes(a.High))
	}
	if !a.Addr.IsValid() {
		redirect := &expr.Redir{RegisterProtoMin: low, RegisterProtoMax: high}
		if a.High != 0 {
			redirect.Flags = givenPort
		}
		r.add(redirect)
		return
	}
	r.add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nfprotoOf(a.Addr)), RegAddrMin: addr,
		RegProtoMin: low, RegProtoMax: high, Specified: low != 0})
}
