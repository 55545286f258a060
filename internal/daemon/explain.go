package daemon

import (
	"errors"

	"richwall/zones"
)

// filesError is why files cannot be put in force. What is wrong in which of them, Explain says.
type filesError struct{ error }

func (e *filesError) Unwrap() error { return e.error }

// ofFiles marks an error, if there is one, as one of the files.
func ofFiles(err error) error {
	if err == nil {
		return nil
	}
	return &filesError{err}
}

// OfFiles tells whether an error is why files cannot be put in force.
func OfFiles(err error) bool {
	var files *filesError
	return errors.As(err, &files)
}

// midwayError is a change that has failed, and of which a part is still in the kernel.
type midwayError struct{ error }

func (e *midwayError) Unwrap() error { return e.error }

// Midway tells whether an error is of a change of which a part could not be taken back: nothing new is let in until it is, and it is tried
// again by itself.
func Midway(err error) bool {
	var midway *midwayError
	return errors.As(err, &midway)
}

// Explain is what there is to say of a refusal beyond firewalld's words, a line each: of files, each mistake with file, line and
// column; otherwise what is wrong and why, and the word that was meant. There are no lines where nothing is known.
func Explain(err error) []string {
	if !OfFiles(err) {
		return zones.Explanation(err)
	}
	var lines []string
	for _, p := range wrong(err).Shown() {
		if p.Severity == zones.Error && p.Path != "" {
			lines = append(lines, p.String())
		}
	}
	return lines
}

// wrong are the problems of the configuration that an error is, or is about.
func wrong(err error) zones.Problems {
	var problems zones.Problems
	if errors.As(err, &problems) {
		return problems
	}
	return blamed(err)
}
