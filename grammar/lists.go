package grammar

// LogLevels are the levels of log, most urgent first; they are the kernel's KERN_ levels by firewalld's names.
var LogLevels = []string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}

// TransportProtocols are the protocols that have ports.
var TransportProtocols = []string{"tcp", "udp", "sctp", "dccp"}

var (
	rejectTypes4 = []string{
		"icmp-host-prohibited", "host-prohib", "icmp-net-unreachable", "net-unreach", "icmp-host-unreachable", "host-unreach",
		"icmp-port-unreachable", "port-unreach", "icmp-proto-unreachable", "proto-unreach", "icmp-net-prohibited", "net-prohib",
		"tcp-reset", "tcp-rst", "icmp-admin-prohibited", "admin-prohib",
	}
	rejectTypes6 = []string{
		"icmp6-adm-prohibited", "adm-prohibited", "icmp6-no-route", "no-route", "icmp6-addr-unreachable", "addr-unreach",
		"icmp6-port-unreachable", "port-unreach", "tcp-reset",
	}
)

// RejectTypes are the types that reject takes in a rule of the family; none without a family.
func RejectTypes(family Family) []string {
	switch family {
	case IPv4:
		return rejectTypes4
	case IPv6:
		return rejectTypes6
	case AnyFamily:
	}
	return nil
}

// Bounds of values, inclusive.
const (
	MaxPort      = 65535
	maxGroup     = 65535    // a netlink log group is 16 bits
	maxQueue     = 65535    // so is its queue threshold
	maxBurst     = 10000000 // the most that firewalld takes
	maxPrefix    = 127      // characters: NF_LOG_PREFIXLEN is 128 with the closing zero
	maxIPSetName = 32       // characters: IPSET_MAXNAMELEN
)
