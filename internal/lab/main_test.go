package lab

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) {
	code, done, err := Reexec(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // the tests that need a namespace skip for the same reason
	}
	if !done {
		code = m.Run()
	}
	os.Exit(code)
}
