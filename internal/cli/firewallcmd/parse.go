package firewallcmd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// usageError is a command line that cannot be understood; the exit status is 2.
type usageError struct {
	said  string // what firewalld says of it, for scripts that look for that; "" if it says nothing in particular
	alone bool   // firewalld says nothing before that, not even where the usage is told
	hint  string // what is wrong, and what to say instead
}

func (e usageError) Error() string { return e.hint }

// misuse makes a usageError of what firewalld says, and what there is to say.
func misuse(said, format string, args ...any) error {
	return usageError{said: said, hint: fmt.Sprintf(format, args...)}
}

// lines are the error as a program prints it.
func (e usageError) lines(p program) []string {
	lines := []string{usageLine[p], e.said, "hint: " + e.hint}
	if e.alone {
		lines = lines[1:]
	}
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}

// usageLine says where the usage is told, in firewalld's words.
var usageLine = map[program]string{
	online:  "usage: 'firewall-cmd --help' for usage information or see firewall-cmd(1) man page",
	offline: "usage: see firewall-offline-cmd man page",
}

// given is what stands on a command line: the values of each option, in order. An option without value has one empty
// value for each time that it stands there.
type given map[*option][]string

// scanner reads a command line as Python's argparse does, which firewall-cmd is written with: options may be shortened as
// long as they are not ambiguous, and short ones may be written together.
type scanner struct {
	options []*option
	words   []string
	found   given
}

// parse reads the words of a command line. order has each option where it first stands.
func parse(options []*option, words []string) (found given, order []*option, err error) {
	s := &scanner{options, words, given{}}
	for len(s.words) > 0 {
		word := s.next()
		switch {
		case strings.HasPrefix(word, "--") && word != "--":
			err = s.long(word)
		case strings.HasPrefix(word, "-") && len(word) > 1 && word != "--":
			err = s.short(word[1:])
		default:
			err = misuse(unrecognized(word), "there is no argument %s: every argument is an option, which starts with --", word)
		}
		if err != nil {
			return nil, nil, err
		}
		for o := range s.found {
			if !slices.Contains(order, o) {
				order = append(order, o)
			}
		}
	}
	return s.found, order, nil
}

func (s *scanner) next() string {
	word := s.words[0]
	s.words = s.words[1:]
	return word
}

// long reads an option such as --zone=public.
func (s *scanner) long(word string) error {
	name, value, hasValue := strings.Cut(word[2:], "=")
	o, err := s.lookup(name)
	var usage usageError
	if errors.As(err, &usage) && usage.said == "" {
		usage.said = unrecognized(word)
		return usage
	}
	if err != nil {
		return err
	}
	if o.takes == nothing && hasValue {
		return misuse(fmt.Sprintf("error: argument %s: ignored explicit argument '%s'", o.flags(), value), "option %s takes no value, but %q was given", o.flag(), value)
	}
	return s.take(o, value, hasValue)
}

// lookup finds the option of a name or of the beginning of one.
func (s *scanner) lookup(name string) (*option, error) {
	var begin []*option
	for _, o := range s.options {
		if o.name == name {
			return o, nil
		}
		if strings.HasPrefix(o.name, name) {
			begin = append(begin, o)
		}
	}
	switch len(begin) {
	case 0:
		return nil, misuse("", "there is no option --%s%s", name, s.didYouMean(name))
	case 1:
		return begin[0], nil
	}
	return nil, misuse(fmt.Sprintf("error: ambiguous option: --%s could match %s", name, strings.Join(flags(begin), ", ")), "write more of --%s: it could be %s", name, strings.Join(flags(begin), ", "))
}

// unrecognized is what firewalld says of a word that it does not know.
func unrecognized(word string) string { return "error: unrecognized arguments: " + word }

// didYouMean is a hint at the option that is spelled most alike.
func (s *scanner) didYouMean(name string) string {
	best, distance := "", len(name)/3+1
	for _, o := range s.options {
		if d := editDistance(name, o.name); d < distance && !o.use.has(hidden) {
			best, distance = o.flag(), d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// short reads options such as -q or -qV, and -p22:tcp.
func (s *scanner) short(letters string) error {
	for i := range len(letters) {
		at := slices.IndexFunc(s.options, func(o *option) bool { return o.short == letters[i] })
		if at < 0 {
			return misuse(unrecognized("-"+letters[i:]), "there is no option -%c", letters[i])
		}
		o, after := s.options[at], letters[i+1:]
		if o.takes != nothing {
			return s.take(o, strings.TrimPrefix(after, "="), after != "")
		}
		s.found[o] = append(s.found[o], "")
	}
	return nil
}

// take reads the values of an option.
func (s *scanner) take(o *option, value string, hasValue bool) error {
	switch {
	case o.takes == rest:
		s.found[o] = append(s.words[:s.valuesAhead():s.valuesAhead()], s.found[o]...)
		s.words = s.words[s.valuesAhead():]
		if hasValue {
			s.found[o] = append([]string{value}, s.found[o]...)
		}
		return nil
	case o.takes == argument:
		if hasValue {
			s.words = append([]string{value}, s.words...)
		}
		s.found[o], s.words = s.words, nil
		return nil
	case o.takes != nothing && !hasValue:
		if s.valuesAhead() == 0 {
			return misuse(fmt.Sprintf("error: argument %s: expected one argument", o.flags()), "option %s needs a value: %s", o.flag(), o.usage())
		}
		value = s.next()
	}
	if o.takes == number {
		if _, err := strconv.Atoi(value); err != nil {
			return misuse(fmt.Sprintf("error: argument %s: invalid int value: '%s'", o.flags(), value), "option %s needs a whole number, not %q", o.flag(), value)
		}
	}
	if o.takes == one {
		s.found[o] = nil
	}
	s.found[o] = append(s.found[o], value)
	return nil
}

// valuesAhead counts the words up to the next option. A negative number is no option.
func (s *scanner) valuesAhead() int {
	for i, word := range s.words {
		if _, err := strconv.ParseFloat(word, 64); strings.HasPrefix(word, "-") && word != "-" && err != nil {
			return i
		}
	}
	return len(s.words)
}

// editDistance is how many letters must be put in, taken out or replaced to make one word of another (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := before
			if a[i] != b[j] {
				replace++
			}
			before = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
