package nft

import "richwall/compile/ir"

// Spec appends a rule's matches and actions as nft's text has them, with a blank before each, and without counters.
func Spec(b []byte, r *ir.Rule) []byte {
	for _, m := range r.Matches {
		b = appendMatch(append(b, ' '), m)
	}
	for _, a := range r.Actions {
		b = appendAction(append(b, ' '), a)
	}
	return b
}
