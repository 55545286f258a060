package compile

import "richwall/compile/ir"

// ICMPType is the type and the code that the name of an ICMP type stands for with one family, V4 or V6; code is ir.AnyCode for
// a name that is about all of them. ok is false if the family has none of that name (IANA, ICMP and ICMPv6 parameters).
func ICMPType(name string, family ir.Families) (typ, code int, ok bool) {
	c, ok := icmpCodes[family][name]
	return c.typ, c.code, ok
}
