package zones

import "strings"

// Conf is firewalld.conf, read and checked; fields are named as its keys. A missing key has its default.
type Conf struct {
	DefaultZone          string
	CleanupOnExit        bool
	CleanupModulesOnExit bool
	IPv6RPFilter         string // strict, loose, strict-forward, loose-forward or no
	IndividualCalls      bool
	LogDenied            string // all, unicast, broadcast, multicast or off
	FirewallBackend      string // nftables or iptables
	FlushAllOnReload     bool
	ReloadPolicy         string // as written
	RFC3964IPv4          bool
	StrictForwardPorts   bool
	NftablesFlowtable    string // "off", or blank-separated interfaces
	NftablesCounters     bool
	NftablesTableOwner   bool

	missing string // the default zone that was named and does not exist, so that DefaultZone is another; "" is none
	written string // "KEY=VALUE\n" for each value that was written otherwise than Value has it
	asked   string // "KEY\n" for each key that an edit has set, also to the value that it had: the line of the file may say something else
}

// Written is the value of a key as it was written, such as True for a key that is on, or as Value has it.
func (c *Conf) Written(key string) string {
	value, ok := c.Value(key)
	at := strings.Index("\n"+c.written, "\n"+key+"=")
	if !ok || at < 0 {
		return value
	}
	written, _, _ := strings.Cut(c.written[at+len(key)+1:], "\n")
	other := DefaultConf()
	if setConf(other, key, written) != nil {
		return value
	}
	if same, _ := other.Value(key); same != value {
		return value // it was changed since
	}
	return written
}

// keepWritten keeps how a value was written that has just been set.
func (c *Conf) keepWritten(key, value string) {
	var lines strings.Builder
	for line := range strings.Lines(c.written) {
		if !strings.HasPrefix(line, key+"=") {
			lines.WriteString(line)
		}
	}
	if is, ok := c.Value(key); ok && is != value {
		lines.WriteString(key + "=" + value + "\n")
	}
	c.written = lines.String()
}

// isAsked tells whether an edit has set a key.
func (c *Conf) isAsked(key string) bool { return strings.Contains("\n"+c.asked, "\n"+key+"\n") }

// unasked is the configuration file when what was asked for is written.
func (c *Conf) unasked() *Conf {
	next := *c
	next.asked = ""
	return &next
}

// DefaultConf is firewalld.conf when there is none.
func DefaultConf() *Conf {
	return &Conf{
		DefaultZone: "public", CleanupOnExit: true, IPv6RPFilter: "strict", LogDenied: "off",
		FirewallBackend: "nftables", FlushAllOnReload: true, ReloadPolicy: "INPUT:DROP,FORWARD:DROP,OUTPUT:DROP",
		RFC3964IPv4: true, NftablesFlowtable: "off", NftablesTableOwner: true,
	}
}

// OwnConf is richwall.conf: the settings that firewalld does not have, so that its own file stays one it can read.
type OwnConf struct {
	// TCPMSSClamp says what of a connection a tcp-mss-clamp is for: "both" its SYN and its SYN/ACK, wherever the connection is
	// let through; "initiator" what firewalld makes of it, to the letter: the SYN, unless something accepted it before.
	TCPMSSClamp string
	// IPNoPMTUDisc is about net.ipv4.ip_no_pmtu_disc (the kernel's documentation, ip-sysctl), which stops path MTU discovery
	// for what this machine itself sends over IPv4: "yes" has it at 1 and "no" at 0 while the daemon runs, "keep" leaves it alone.
	IPNoPMTUDisc string
	// RuleFolding says when rules that differ in an address or a port alone become one rule with a set: "auto" in chains that
	// are long, "yes" wherever it can be done, "no" nowhere. What a packet meets is the same.
	RuleFolding string
	// OnForeignChange says what the daemon does when another program changes its rules: "repair" puts them back, "warn" only
	// writes it to the log.
	OnForeignChange string
}

// DefaultOwnConf is richwall.conf when there is none.
func DefaultOwnConf() *OwnConf {
	return &OwnConf{TCPMSSClamp: "both", IPNoPMTUDisc: "keep", RuleFolding: "auto", OnForeignChange: "repair"}
}
