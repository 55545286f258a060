package firewallcmd

import (
	"errors"
	"fmt"
	"slices"
)

// sequence does something for each of the values of an option. One value that fails is an error; of several, one that
// fails is a warning, and only if none succeeds an error: their code if they agree, otherwise UNKNOWN_ERROR. What is so
// already counts as success (firewall-cmd(1), "Sequence options"). A user whom polkit refuses is told so once, and an error
// that is of all values ends it.
func (s *session) sequence(values []string, do func(value string) error) error {
	var codes []string
	succeeded := false
	for _, value := range values {
		err := do(value)
		switch {
		case err == nil:
			succeeded = true
		case harmless(err):
			s.out.warn(err)
			succeeded = true
		case len(values) == 1 || errors.Is(err, errDenied) || errors.As(err, new(*ofAll)):
			return err
		default:
			s.out.warn(err)
			codes = append(codes, codeOf(err))
		}
	}
	if succeeded || len(codes) == 0 {
		return nil
	}
	if len(slices.Compact(slices.Sorted(slices.Values(codes)))) == 1 {
		return exitStatus(statusOf(&failure{code: codes[0]}))
	}
	return exitStatus(statusOf(&failure{code: unknownError}))
}

// ofAll is an error of one value for which none of the others is taken either.
type ofAll struct{ error }

func (e *ofAll) Unwrap() error { return e.error }

// change is a sequence that ends in "success".
func (s *session) change(values []string, do func(value string) error) error {
	if err := s.sequence(values, do); err != nil {
		return err
	}
	s.out.print("success")
	return nil
}

// once does something that has no values, and ends in "success" too.
func (s *session) once(do func() error) error {
	return s.change([]string{""}, func(string) error { return do() })
}

// queries prints yes or no for each of several values; for one, the exit status says it too: 0 for yes, 1 for no. label
// is a value as the answer shows it.
func (s *session) queries(values []string, several bool, label func(string) string, ask func(value string) (bool, error)) error {
	if !several {
		yes, err := ask(values[0])
		if err != nil {
			return err
		}
		return s.answer(yes)
	}
	return s.sequence(values, func(value string) error {
		yes, err := ask(value)
		if err == nil {
			s.out.print(fmt.Sprintf("%s: %s", label(value), yesNo(yes)))
		}
		return err
	})
}

// answer prints yes or no and ends the program with it.
func (s *session) answer(yes bool) error {
	s.out.print(yesNo(yes))
	if yes {
		return nil
	}
	return exitStatus(1)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
