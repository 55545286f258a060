// Package release says which version the programs are.
package release

// Compatible is the version of firewalld whose files, options and answers the programs have.
const Compatible = "2.5.2"

// own is richwall's own version; "make build" sets it.
var own = "of no release"

// Text is both in a line, for a person.
func Text() string { return "richwall " + own + ", for what firewalld " + Compatible + " reads" }
