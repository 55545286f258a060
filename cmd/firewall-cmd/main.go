// Command firewall-cmd asks and tells a running firewalld.
package main

import (
	"os"

	"richwall/internal/cli/firewallcmd"
)

func main() { os.Exit(firewallcmd.Online(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
