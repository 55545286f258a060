package lab

import "testing"

// TestMain runs the tests in a user namespace when whoever runs them is not root.
func TestMain(m *testing.M) { Main(m) }
