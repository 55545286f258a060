package compile

import (
	"errors"
	"strings"

	"richwall/compile/ir"
	"richwall/grammar"
	"richwall/zones"
)

// Check finds what a back end cannot do with a configuration that passed zones.Check, whichever of its zones come into use:
// Compile leaves out the rules of a zone that nothing is bound to, but an interface may be bound to it at any time. The error
// is an Errors. The history makes the next Check of a similar configuration cheap; it must not be used to compile what is
// installed.
func (h History) Check(cfg *zones.Config, backend ir.Backend) (History, error) {
	_, next, err := h.compile(cfg, backend, true)
	if err != nil || backend != ir.NFTables {
		return next, err
	}
	_, next, err = next.Direct(cfg)
	return next, err
}

// Empty tells whether nothing was compiled yet.
func (h History) Empty() bool { return h.memo == nil }

// CheckEdit is Check of a permanent configuration that an edit made from old, for the back end that it asks for. Errors that old
// has already are not counted, so that a configuration with several errors can be mended one by one. What does not pass
// zones.Check is left out: what it refers to is yet to be made. The error is of package zones.
func (h History) CheckEdit(old, next *zones.Config) (History, error) {
	backend := ir.Backend(next.Conf.FirewallBackend)
	checked, err := h.Check(zones.WithoutErrors(next).ForRuntime(), backend)
	var found Errors
	if !errors.As(err, &found) {
		return checked, err
	}
	known := map[Error]bool{}
	if _, err := h.Check(zones.WithoutErrors(old).ForRuntime(), backend); err != nil {
		var before Errors
		errors.As(err, &before)
		for _, e := range before {
			known[e.apart()] = true
		}
	}
	var brought Errors
	for _, e := range found {
		if !known[e.apart()] {
			brought = append(brought, e)
		}
	}
	return h, brought.Problems().Err()
}

// Problems is the errors as problems of the configuration.
func (l Errors) Problems() zones.Problems {
	var list zones.Problems
	for _, e := range l {
		list = append(list, Blame(e.Origin, e.Code, e.Msg))
	}
	return list
}

// Blame is what is wrong with a rule, a set or the like as a problem of the configuration that it comes from. A nil origin gives
// a problem of no object.
func Blame(origin *ir.Origin, code grammar.Code, msg string) *zones.Problem {
	p := &zones.Problem{Code: code, Msg: msg}
	if origin == nil {
		return p
	}
	p.Path, p.Line, p.Rule = origin.Path, origin.Line, origin.Rule
	switch kind, name, _ := strings.Cut(origin.Object, " "); kind {
	case "firewalld.conf":
		p.Object = zones.Object{Kind: zones.KindConf}
	default:
		p.Object = zones.Object{Kind: zones.Kind(kind), Name: name}
	}
	return p
}

// apart is the error apart from where in which file it stands: an edit may move it.
func (e *Error) apart() Error {
	if e.Origin == nil {
		return *e
	}
	return Error{Code: e.Code, Msg: e.Origin.Object + ": " + e.Origin.Said() + ": " + e.Msg}
}
