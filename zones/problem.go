package zones

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
	"richwall/internal/printable"
)

// Severity says whether a configuration can be used in spite of a Problem.
type Severity int

// The severities.
const (
	Error   Severity = iota // the configuration is refused
	Warning                 // something in it is ignored, or does not mean what it looks like
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Path     string // of the file; "" when there is none
	Line     int    // from 1; 0 when not known
	Column   int    // bytes from the start of the line, from 1; 0 when not known
	Code     grammar.Code
	Severity Severity
	Object   Object // that has the problem; the zero Object when no object is known
	Msg      string // what is wrong and why, without the code
	Then     string // of a Warning: what becomes of it where the file is used, such as "this entry is ignored"; "" where Msg says it
	// Wording is what firewalld says; nil means Code and Msg.
	Wording *grammar.Wording

	// Notice is the line that firewalld prints for a Warning, with its level; "" if it is not known. It is not sent over D-Bus.
	Notice string

	// Rule is what of the object has the problem: a *grammar.Rule, *DirectChain, *DirectRule or *DirectPassthrough; nil for anything else. A line is
	// not enough to tell: several may stand in one.
	Rule fmt.Stringer

	item   string // of the object, such as "service ssh", if a Check found it; "" is the whole object
	others bool   // it stands for several, of which it is the first
	lost   bool   // of a Warning: what is passed over may have been meant to refuse something
	stays  bool   // of one that is lost: it would still be there if the file was written anew
	later  bool   // an edit may bring it: what the object refers to may be made after it
}

// place is where the problem stands in its file.
func (p *Problem) place() place { return place{int32(p.Line), int32(p.Column)} }

// Wire is the code and the detail that go over D-Bus and that firewall-cmd prints.
func (p *Problem) Wire() (grammar.Code, string) {
	if p.Wording == nil {
		return p.Code, p.Msg
	}
	return p.Wording.Code, p.Wording.Detail
}

// worded gives a problem the detail that firewalld has for it.
func (p *Problem) worded(format string, args ...any) *Problem {
	p.Wording = &grammar.Wording{Code: p.Code, Detail: fmt.Sprintf(format, args...)}
	return p
}

// within puts the object that has the problem, such as "Zone 'public'", in front of firewalld's detail.
func (p *Problem) within(o Object) *Problem {
	if p.Wording == nil {
		return p
	}
	return p.worded("%s: %s", titled(o), p.Wording.Detail)
}

// String is "file:line:column: CODE: message", with "warning: " before the message of a Warning, in one line that can be shown.
func (p *Problem) String() string {
	if p.Severity == Warning {
		return p.in("warning: " + p.Whole())
	}
	return p.Unlabelled()
}

// Unlabelled is String without "warning: ", for a line that says of itself that it is a warning.
func (p *Problem) Unlabelled() string { return p.in(p.Whole()) }

// Whole is the message with what becomes of what is wrong.
func (p *Problem) Whole() string { return followed(p.Msg, ": ", p.Then) }

// Cause is what is wrong and where, in one line, for one who does not use the file: without what would become of it.
func (p *Problem) Cause() string { return p.in(p.Msg) }

// in is a message with the file, line, column and code in front.
func (p *Problem) in(msg string) string {
	var b strings.Builder
	if p.Path != "" {
		b.WriteString(printable.Line(p.Path, 0))
		for _, n := range []int{p.Line, p.Column} {
			if n > 0 {
				fmt.Fprintf(&b, ":%d", n)
			}
		}
		b.WriteString(": ")
	}
	return b.String() + string(p.Code) + ": " + printable.Message(msg)
}

// followed is a message and what comes of it. A message that ends with a question, such as "did you mean http?", ends a sentence.
func followed(msg, separator, then string) string {
	switch {
	case then == "":
		return msg
	case strings.HasSuffix(msg, "?"):
		return msg + " " + strings.ToUpper(then[:1]) + then[1:]
	}
	return msg + separator + then
}

func (p *Problem) Error() string { return p.String() }

// Problems is everything that is wrong with a configuration, sorted by file, line and column.
type Problems []*Problem

// Error is those that are shown, each in a line.
func (l Problems) Error() string {
	var lines []string
	for _, p := range l.Shown() {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

// Err is the problems of severity Error as an error, nil when there are none.
func (l Problems) Err() error {
	if refused := l.errors(); len(refused) > 0 {
		return refused
	}
	return nil
}

// errors is the problems of severity Error.
func (l Problems) errors() Problems {
	var refused Problems
	for _, p := range l {
		if p.Severity == Error {
			refused = append(refused, p)
		}
	}
	return refused
}

// sort brings problems into order, those of one place in the order in which they were found.
func (l Problems) sort() {
	slices.SortStableFunc(l, func(a, b *Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// refuse makes an error without a place: for values that are checked apart from any file.
func refuse(code grammar.Code, format string, args ...any) *Problem {
	return &Problem{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// CodeOf is an error of this package or of grammar as it goes over D-Bus and as firewall-cmd prints it: the code, and the
// detail behind it, in firewalld's words where they are known. The code of any other error is UNKNOWN_ERROR. Of a list it
// is the first, which is the one that firewalld would report.
func CodeOf(err error) (grammar.Code, string) { return problemOf(err, UnknownError).Wire() }

// ReasonOf is the code of an error as CodeOf, but by richwall's own reckoning, and what is wrong and why in richwall's
// words, without the code and the place.
func ReasonOf(err error) (grammar.Code, string) { return codeOf(err, UnknownError) }

// codeOf is the code of an error of this package or of grammar, or the one given when it has none, and its message
// without the code.
func codeOf(err error, otherwise grammar.Code) (grammar.Code, string) {
	p := problemOf(err, otherwise)
	return p.Code, p.Msg
}

// problemOf is a copy of an error of this package or of grammar, of a list the first, without the place. Any other error
// has the code given.
func problemOf(err error, otherwise grammar.Code) *Problem {
	var list grammar.ErrorList
	var single *grammar.Error
	var problems Problems
	var p *Problem
	if errors.As(err, &list) && len(list) > 0 {
		single = list[0]
	}
	if errors.As(err, &problems) && len(problems) > 0 {
		p = problems[0]
	}
	switch {
	case single != nil || errors.As(err, &single):
		return &Problem{Code: single.Code, Msg: single.Msg, Wording: single.Wording}
	case p != nil || errors.As(err, &p):
		return &Problem{Code: p.Code, Msg: p.Msg, Wording: p.Wording}
	}
	return &Problem{Code: otherwise, Msg: err.Error()}
}
