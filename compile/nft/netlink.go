package nft

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"richwall/compile/ir"
	"richwall/grammar"
)

// Message is one change of a table, as the kernel takes it within a batch (linux/netfilter/nf_tables.h).
type Message struct {
	Type  uint8  // NFT_MSG_…
	Flags uint16 // NLM_F_… of linux/netlink.h, beside NLM_F_REQUEST
	Body  []byte // struct nfgenmsg and attributes
}

// Flags of a table that unix lacks (linux/netfilter/nf_tables.h).
const (
	TableOwner   = 0x2 // it belongs to the socket that made it
	TablePersist = 0x4 // it stays when that socket closes
)

// Encoder makes the messages of one batch for a table of family inet, or bridge. It may not be used for a second batch: the sets that
// rules bring along are numbered from one to the end of a batch.
type Encoder struct {
	Table    string
	Bridge   bool // the table is of family bridge: chains without rules alone can be in it
	Counters bool // a counter in every rule
	sets     uint32
}

const (
	create = unix.NLM_F_CREATE
	// The kernel takes a netlink attribute's length from 16 bits.
	maxAttribute = 1<<16 - 1
)

// The parts of a flow table that unix lacks (linux/netfilter/nf_tables.h).
const (
	flowtableTable, flowtableName, flowtableHook = 1, 2, 3
	hookDevices, deviceName                      = 3, 1
	hookIngress                                  = 0
	flowtablePriority                            = 0 + 10 // filter + 10
)

func (e *Encoder) message(kind uint8, flags uint16, body attributes) Message {
	family := byte(unix.NFPROTO_INET)
	if e.Bridge {
		family = unix.NFPROTO_BRIDGE
	}
	return Message{Type: kind, Flags: flags, Body: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...)}
}

// AddTable makes the table. A table that there is stays as it is if flags is 0; flags are TableOwner and TablePersist.
func (e *Encoder) AddTable(flags uint32) Message {
	body := attributes{}.text(unix.NFTA_TABLE_NAME, e.Table)
	if flags != 0 {
		body = body.u32(unix.NFTA_TABLE_FLAGS, flags)
	}
	return e.message(unix.NFT_MSG_NEWTABLE, create, body)
}

// DeleteTable removes the table and all that is in it.
func (e *Encoder) DeleteTable() Message {
	return e.message(unix.NFT_MSG_DELTABLE, 0, attributes{}.text(unix.NFTA_TABLE_NAME, e.Table))
}

// hookNumbers are the kernel's numbers of hooks (linux/netfilter.h).
var hookNumbers = map[string]uint32{
	"prerouting": unix.NF_INET_PRE_ROUTING, "input": unix.NF_INET_LOCAL_IN, "forward": unix.NF_INET_FORWARD,
	"output": unix.NF_INET_LOCAL_OUT, "postrouting": unix.NF_INET_POST_ROUTING,
}

// AddChain makes a chain, without its rules. drop says that a base chain drops what its rules let through. An error says what of
// the chain nftables has no place for.
func (e *Encoder) AddChain(c *ir.Chain, drop bool) (Message, error) {
	if err := CheckChain(c); err != nil {
		return Message{}, err
	}
	body := attributes{}.text(unix.NFTA_CHAIN_TABLE, e.Table).text(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != nil {
		policy := uint32(1) // NF_ACCEPT
		if drop {
			policy = 0 // NF_DROP
		}
		body = body.nested(unix.NFTA_CHAIN_HOOK, attributes{}.
			u32(unix.NFTA_HOOK_HOOKNUM, hookNumbers[c.Hook.Hook]).
			u32(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Hook.Priority)))).
			u32(unix.NFTA_CHAIN_POLICY, policy).
			text(unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	}
	return e.message(unix.NFT_MSG_NEWCHAIN, create, body), nil
}

// DeleteChain removes a chain that is empty and that no rule jumps to.
func (e *Encoder) DeleteChain(name string) Message {
	return e.message(unix.NFT_MSG_DELCHAIN, 0, attributes{}.text(unix.NFTA_CHAIN_TABLE, e.Table).text(unix.NFTA_CHAIN_NAME, name))
}

// FlushChain removes all rules of a chain.
func (e *Encoder) FlushChain(name string) Message {
	return e.message(unix.NFT_MSG_DELRULE, 0, attributes{}.text(unix.NFTA_RULE_TABLE, e.Table).text(unix.NFTA_RULE_CHAIN, name))
}

// DeleteRule removes one rule of a chain.
func (e *Encoder) DeleteRule(chain string, handle uint64) Message {
	return e.message(unix.NFT_MSG_DELRULE, 0, attributes{}.text(unix.NFTA_RULE_TABLE, e.Table).
		text(unix.NFTA_RULE_CHAIN, chain).u64(unix.NFTA_RULE_HANDLE, handle))
}

// AddRule puts a rule before the rule with the handle, or at the end of its chain if before is 0. The sets that the rule
// brings along come first; the last message is the rule. An error says what in the rule nftables has no place for.
func (e *Encoder) AddRule(chain string, r *ir.Rule, before uint64) ([]Message, error) {
	if len(chain) > maxName {
		return nil, fmt.Errorf("the name of the chain has %d bytes, and the highest number is %d", len(chain), maxName)
	}
	enc := &ruleEncoder{e: e}
	if err := enc.rule(r); err != nil {
		return nil, err
	}
	if len(enc.exprs) > maxAttribute {
		return nil, fmt.Errorf("the rule takes %d bytes, and the kernel takes %d", len(enc.exprs), maxAttribute)
	}
	body := attributes{}.text(unix.NFTA_RULE_TABLE, e.Table).text(unix.NFTA_RULE_CHAIN, chain)
	flags := uint16(create)
	if before != 0 {
		body = body.u64(unix.NFTA_RULE_POSITION, before)
	} else {
		flags |= unix.NLM_F_APPEND
	}
	body = body.nested(unix.NFTA_RULE_EXPRESSIONS, enc.exprs)
	return append(enc.sets, e.message(unix.NFT_MSG_NEWRULE, flags, body)), nil
}

// AddHelper makes a connection tracking helper object.
func (e *Encoder) AddHelper(h ir.Helper) (Message, error) {
	if err := checkHelper(h); err != nil {
		return Message{}, err
	}
	protocol, err := grammar.ParseProtocol(h.Protocol)
	if err != nil {
		return Message{}, err
	}
	return e.message(unix.NFT_MSG_NEWOBJ, create, e.helper(h.Name).
		nested(unix.NFTA_OBJ_DATA, attributes{}.
			text(unix.NFTA_CT_HELPER_NAME, h.Type).
			u16(unix.NFTA_CT_HELPER_L3PROTO, unix.NFPROTO_INET).
			u8(unix.NFTA_CT_HELPER_L4PROTO, uint8(protocol)))), nil
}

// DeleteHelper removes a helper object that no rule refers to.
func (e *Encoder) DeleteHelper(name string) Message {
	return e.message(unix.NFT_MSG_DELOBJ, 0, e.helper(name))
}

func (e *Encoder) helper(name string) attributes {
	return attributes{}.text(unix.NFTA_OBJ_TABLE, e.Table).text(unix.NFTA_OBJ_NAME, name).u32(unix.NFTA_OBJ_TYPE, helperObject)
}

// AddFlowtable makes the flow table with its devices, which must exist.
func (e *Encoder) AddFlowtable(devices []string) (Message, error) {
	if err := checkFlowtable(devices); err != nil {
		return Message{}, err
	}
	var list attributes
	for _, d := range devices {
		list = list.text(deviceName, d)
	}
	if len(list) > maxAttribute {
		return Message{}, errors.New("cannot make the flow table: the names of its devices take more than " + strconv.Itoa(maxAttribute) + " bytes")
	}
	return e.message(unix.NFT_MSG_NEWFLOWTABLE, create, attributes{}.
		text(flowtableTable, e.Table).text(flowtableName, flowtable).
		nested(flowtableHook, attributes{}.
			u32(unix.NFTA_HOOK_HOOKNUM, hookIngress).u32(unix.NFTA_HOOK_PRIORITY, flowtablePriority).
			nested(hookDevices, list))), nil
}
