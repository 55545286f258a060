// Command firewall-offline-cmd changes firewalld's files without the daemon.
package main

import (
	"os"

	"richwall/internal/cli/firewallcmd"
)

func main() { os.Exit(firewallcmd.Offline(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
