// Command richwall is the compiler's own command: what rules mean, what is wrong with a configuration, what they do to
// packets.
package main

import (
	"os"

	"richwall/internal/cli/richwall"
)

func main() { os.Exit(richwall.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
