package firewallcmd

import "fmt"

// program is one of the two programs that this package makes.
type program string

const (
	online  program = "firewall-cmd"
	offline program = "firewall-offline-cmd"
)

// option is one option of the programs: a row of the table that the parser, the rules of combination, the help, the manual
// pages and the completions are made from.
type option struct {
	name  string // without its dashes
	short byte   // its letter, 0 if it has none
	arg   string // what its value is called; "" when it takes none
	takes takes
	use   use
	do    verb   // what it does; "" for an option that only says how or on what
	item  string // what it does that to: a field of a settings dictionary, a kind of object or the name of a call
	help  string // one line, without a full stop
}

// takes is how many values an option takes.
type takes int

const (
	nothing  takes = iota
	one            // the last one given counts
	many           // one each time that it is given
	number         // like many, but the value is a whole number
	rest           // the words that follow it, up to the next option
	argument       // the words that follow it, all of them: arguments of iptables look like options
)

// use is what an option can be combined with, as a set.
type use int

const (
	runtime     use = 1 << iota // changes or shows what is in effect
	permanent                   // with --permanent
	forZone                     // with --zone; without it, the default zone is meant
	forPolicy                   // with --policy
	forSet                      // with --policy-set
	forService                  // with --service, and so on
	forIPSet                    //
	forICMPType                 //
	forHelper                   //
	direct                      // with --direct
	timed                       // with --timeout
	alone                       // with nothing but --quiet and --verbose
	prints                      // prints what was asked for, so that --quiet makes no sense
	onlineOnly                  // not an option of firewall-offline-cmd
	offlineOnly                 // not an option of firewall-cmd
	onObjects                   // names an object itself, whatever --zone says
	hidden                      // kept for old scripts; not in the help
	both        = runtime | permanent
	forBoth     = forZone | forPolicy
	forOthers   = forService | forIPSet | forICMPType | forHelper
	forEvery    = forBoth | forOthers
	anyObject   = forEvery | forSet
)

func (u use) has(some use) bool { return u&some != 0 }

// in says whether a program has an option.
func (o *option) in(p program) bool {
	return p == online && !o.use.has(offlineOnly) || p == offline && !o.use.has(onlineOnly)
}

// flag is the option as it is written on a command line.
func (o *option) flag() string { return "--" + o.name }

// flags is how argparse calls the option: with its short form, such as "-v/--verbose".
func (o *option) flags() string {
	if o.short == 0 {
		return o.flag()
	}
	return fmt.Sprintf("-%c/%s", o.short, o.flag())
}

// usage is the option with its value, as the help shows it.
func (o *option) usage() string {
	switch {
	case o.arg == "":
		return o.flag()
	case o.takes == rest || o.takes == argument:
		return o.flag() + " " + o.arg
	}
	return o.flag() + "=" + o.arg
}

// section is a group of options under one heading of the help.
type section struct {
	title   string
	intro   string // what the options have in common; "" for nothing
	options []option
}

// optionsOf are the options of a program, in the order of the table.
func optionsOf(p program) []*option {
	var list []*option
	for i := range sections {
		for j := range sections[i].options {
			if o := &sections[i].options[j]; o.in(p) {
				list = append(list, o)
			}
		}
	}
	return list
}

// flags are options as they are written on a command line.
func flags(list []*option) []string {
	var words []string
	for _, o := range list {
		words = append(words, o.flag())
	}
	return words
}
