// Command firewalld is the daemon: it keeps the firewall, and changes it when asked over D-Bus.
package main

import (
	"os"

	"richwall/internal/cli/firewalldcmd"
)

func main() { os.Exit(firewalldcmd.Main(os.Args[1:], os.Stdout, os.Stderr)) }
