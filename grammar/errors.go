package grammar

import (
	"fmt"
	"strings"
)

// Code is firewalld's symbolic name of an error; the D-Bus interface sends it and every command exits by it.
type Code string

// The codes that a rich rule can have.
const (
	InvalidRule        Code = "INVALID_RULE"
	InvalidFamily      Code = "INVALID_FAMILY"
	MissingFamily      Code = "MISSING_FAMILY"
	InvalidPriority    Code = "INVALID_PRIORITY"
	InvalidAddr        Code = "INVALID_ADDR"
	InvalidMAC         Code = "INVALID_MAC"
	InvalidIPSet       Code = "INVALID_IPSET"
	InvalidDestination Code = "INVALID_DESTINATION"
	InvalidPort        Code = "INVALID_PORT"
	InvalidProtocol    Code = "INVALID_PROTOCOL"
	InvalidLogLevel    Code = "INVALID_LOG_LEVEL"
	InvalidLogPrefix   Code = "INVALID_LOG_PREFIX"
	InvalidNFLogGroup  Code = "INVALID_NFLOG_GROUP"
	InvalidNFLogQueue  Code = "INVALID_NFLOG_QUEUE"
	InvalidLimit       Code = "INVALID_LIMIT"
	InvalidMark        Code = "INVALID_MARK"
	InvalidAuditType   Code = "INVALID_AUDIT_TYPE"
	UnknownError       Code = "UNKNOWN_ERROR" // on the wire only
)

// Pos is a place in the text of a rule.
type Pos struct {
	Offset int // bytes from the start, from 0
	Line   int // from 1; 0 means the place is not known
	Column int // bytes from the start of the line, from 1
}

// Error is one thing that is wrong with a rule.
type Error struct {
	Pos  Pos
	Code Code
	Msg  string // what is wrong and why, without the code; a hint such as "did you mean address?" at its end
	// Wording is what firewalld says; nil means Code and Msg.
	Wording *Wording
}

// Wording is an error in the words of firewalld, which scripts and clients of its D-Bus interface compare. Found by trying
// firewalld 2.5.2.
type Wording struct {
	Code   Code
	Detail string // what stands behind the code; may be empty
}

// Wire is the code and the detail that go over D-Bus and that firewall-cmd prints.
func (e *Error) Wire() (Code, string) {
	if e.Wording == nil {
		return e.Code, e.Msg
	}
	return e.Wording.Code, e.Wording.Detail
}

// worded gives an error the detail that firewalld has for it.
func (e *Error) worded(format string, args ...any) *Error {
	e.Wording = &Wording{e.Code, fmt.Sprintf(format, args...)}
	return e
}

// crash is for text that firewalld cannot read at all: what it says then has no code.
func (e *Error) crash(detail string) *Error {
	e.Wording = &Wording{UnknownError, detail}
	return e
}

func (e *Error) Error() string {
	if e.Pos.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Code, e.Msg)
	}
	return fmt.Sprintf("%d:%d: %s: %s", e.Pos.Line, e.Pos.Column, e.Code, e.Msg)
}

// ErrorList is everything that is wrong with a rule, in the order in which it was found: the first is the one that
// firewalld reports, and its code is the code of the whole. An empty list is no error: use Err.
type ErrorList []*Error

func (l ErrorList) Error() string {
	var b strings.Builder
	for i, e := range l {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// Err is the list as an error, nil when it is empty.
func (l ErrorList) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// maxErrors is how many errors of a rule are told; the rest is counted.
const maxErrors = 20

// first is the first errors of a list, and one that says how many there are besides.
func (l ErrorList) first() ErrorList {
	if len(l) <= maxErrors {
		return l
	}
	next := *l[maxErrors]
	next.Msg, next.Wording = fmt.Sprintf("and %d more from here on", len(l)-maxErrors), nil
	return append(l[:maxErrors:maxErrors], &next)
}

func newError(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}
