package nft

import (
	"errors"

	"richwall/compile/ir"
)

// Spec appends a rule's matches and actions as nft's text has them, with a blank before each, and without counters. It does so
// too for a rule that has names which no text can have. An error says what cannot be written.
func Spec(b []byte, r *ir.Rule) ([]byte, error) {
	if err := CheckRule(r); err != nil {
		return b, err
	}
	if reason := unsayable(r); reason != "" {
		return b, errors.New(reason)
	}
	for _, m := range r.Matches {
		if !everything(m) {
			b = appendMatch(append(b, ' '), m)
		}
	}
	for _, a := range r.Actions {
		b = appendAction(append(b, ' '), a)
	}
	return b, nil
}
