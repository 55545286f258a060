package kernel

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Features are what the machine has for filtering packets.
type Features struct {
	NFTables   bool // the kernel takes nf_tables messages from this process
	TableOwner bool // and can give a table an owner, and keep it when that ends
	IPTables   Tool
	IP6Tables  Tool
	EBTables   Tool
	IPSetTypes []string // types of sets that ipset knows, sorted; the kernel may lack some. nil without ipset
	IPv6       bool     // the kernel speaks IPv6
}

// Tool is a program of the iptables family.
type Tool struct {
	Version string // "1.8.9"; empty if it is not there, or cannot use the kernel
	Variant string // nf_tables or legacy
}

// ProbeFeatures finds out what the machine has. It changes nothing.
func ProbeFeatures(ctx context.Context, o Options) Features {
	o = o.withDefaults()
	t := tools{enter: o.Enter}
	f := Features{IPTables: t.variant(ctx, "iptables"), IP6Tables: t.variant(ctx, "ip6tables"), EBTables: t.variant(ctx, "ebtables")}
	if s, err := openSocket(o.Enter); err == nil {
		owner, err := s.canOwn()
		f.NFTables, f.TableOwner = err == nil, owner
		s.conn.Close()
	}
	if help, err := t.run(ctx, "", "ipset", "help"); err == nil {
		f.IPSetTypes = ipsetTypes(help)
	}
	_, err := os.Stat("/proc/self/net/if_inet6") // there if the kernel has IPv6, whatever the addresses
	f.IPv6 = err == nil
	return f
}

var versionLine = regexp.MustCompile(`v(\d[\d.]*)\S*(?: \((.*?)\))?`)

// variant asks a program for its version, and tries whether it can list the table that every kernel with iptables has.
func (t tools) variant(ctx context.Context, name string) Tool {
	line, err := t.run(ctx, "", name, "--version")
	m := versionLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		return Tool{}
	}
	if _, err := t.run(ctx, "", name, "-t", "filter", "-L"); err != nil {
		return Tool{}
	}
	variant := "legacy" // what programs from before there were two do not say
	if strings.Contains(m[2], "nf_tables") {
		variant = "nf_tables"
	}
	return Tool{Version: m[1], Variant: variant}
}

var ipsetTypeLine = regexp.MustCompile(`(?m)^\s+([a-z]+:[a-z,]+)\s+\d`)

// ipsetTypes are the types that "ipset help" names.
func ipsetTypes(help string) []string {
	types := []string{}
	for _, m := range ipsetTypeLine.FindAllStringSubmatch(help, -1) {
		types = append(types, m[1])
	}
	slices.Sort(types)
	return slices.Compact(types)
}
