package zones

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
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
	Msg      string // what is wrong and why, without the code
}

// String is "file:line:column: CODE: message", with "warning: " before the message of a Warning.
func (p *Problem) String() string {
	var b strings.Builder
	if p.Path != "" {
		b.WriteString(p.Path)
		for _, n := range []int{p.Line, p.Column} {
			if n > 0 {
				fmt.Fprintf(&b, ":%d", n)
			}
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%s: ", p.Code)
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	return b.String() + p.Msg
}

func (p *Problem) Error() string { return p.String() }

// Problems is everything that is wrong with a configuration, sorted by file, line and column.
type Problems []*Problem

func (l Problems) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err is the problems of severity Error as an error, nil when there are none.
func (l Problems) Err() error {
	var refused Problems
	for _, p := range l {
		if p.Severity == Error {
			refused = append(refused, p)
		}
	}
	if len(refused) == 0 {
		return nil
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
func refuse(code grammar.Code, format string, args ...any) error {
	return &Problem{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// CodeOf is the code of an error of this package or of grammar, UNKNOWN_ERROR for any other one, and its message without
// the code and the place. Of a list it is the first, which is the one that firewalld would report.
func CodeOf(err error) (grammar.Code, string) { return codeOf(err, UnknownError) }

// codeOf is the code of an error of this package or of grammar, or the one given when it has none, and its message
// without the code.
func codeOf(err error, otherwise grammar.Code) (grammar.Code, string) {
	var list grammar.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return list[0].Code, list[0].Msg
	}
	var single *grammar.Error
	if errors.As(err, &single) {
		return single.Code, single.Msg
	}
	var p *Problem
	if errors.As(err, &p) {
		return p.Code, p.Msg
	}
	var problems Problems
	if errors.As(err, &problems) && len(problems) > 0 {
		return problems[0].Code, problems[0].Msg
	}
	return otherwise, err.Error()
}
