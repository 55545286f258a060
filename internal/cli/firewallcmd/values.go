package firewallcmd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
	"richwall/zones"
)

// checkValue reads the value of an option for a field, and returns it as settings hold it. Only what must be taken apart
// is read here: the rest is for the firewall to judge.
func checkValue(f *field, value string) (string, error) {
	switch {
	case f.shape == ports:
		return readPort(value)
	case f.shape == forwards:
		return readForward(value)
	case f.key == "modules":
		return zones.HelperName(value), nil
	}
	return value, nil
}

// readPort reads a port such as 80/tcp or 5000-5010/udp.
func readPort(value string) (string, error) {
	port, protocol, ok := strings.Cut(value, "/")
	if !ok || port == "" || strings.Contains(protocol, "/") {
		return "", fail("INVALID_PORT", "bad port (most likely missing protocol), correct syntax is portid[-portid]/protocol")
	}
	p := zones.Port{Port: port, Protocol: protocol}
	if err := zones.CheckPort(p); err != nil {
		return "", err
	}
	return p.String(), nil
}

// readForward reads a forward port such as port=80:proto=tcp:toport=8080:toaddr=192.0.2.1. The address may be an IPv6
// one, with colons. A word without = that stands elsewhere says nothing, as in firewalld.
func readForward(value string) (string, error) {
	part := map[string]string{}
	name := ""
	for _, word := range strings.Split(value, ":") {
		key, v, ok := strings.Cut(word, "=")
		switch {
		case ok && !slices.Contains(forwardParts, key):
			return "", fail("INVALID_FORWARD", "invalid forward port arg '%s'", key)
		case ok:
			name = key
			part[name] = v
		case name == "toaddr":
			part[name] += ":" + word
		}
	}
	return forwardPort(part)
}

// forwardParts are what a forward port says; the interface is for lokkit, and ignored.
var forwardParts = []string{"port", "proto", "toport", "toaddr", "if"}

// forwardPort checks the parts of a forward port.
func forwardPort(part map[string]string) (string, error) {
	switch {
	case part["port"] == "":
		return "", fail("INVALID_FORWARD", "missing port")
	case part["proto"] == "":
		return "", fail("INVALID_FORWARD", "missing protocol")
	case part["toport"] == "" && part["toaddr"] == "":
		return "", fail("INVALID_FORWARD", "missing destination")
	}
	if err := zones.CheckPort(zones.Port{Port: part["port"], Protocol: part["proto"]}); err != nil {
		return "", err
	}
	if part["toport"] != "" {
		if err := zones.CheckPort(zones.Port{Port: part["toport"], Protocol: part["proto"]}); err != nil {
			return "", err
		}
	}
	if part["toaddr"] != "" {
		if err := zones.CheckForwardAddr(part["toaddr"]); err != nil {
			return "", fail("INVALID_ADDR", "%s", part["toaddr"])
		}
	}
	return joinForward(part["port"], part["proto"], part["toport"], part["toaddr"]), nil
}

func joinForward(port, protocol, toPort, toAddr string) string {
	return fmt.Sprintf("port=%s:proto=%s:toport=%s:toaddr=%s", port, protocol, toPort, toAddr)
}

// splitForward takes a forward port, as settings hold it, apart.
func splitForward(item string) (port, protocol, toPort, toAddr string) {
	parts := strings.SplitN(item, ":", 4)
	for i := range parts {
		_, parts[i], _ = strings.Cut(parts[i], "=")
	}
	parts = append(parts, "", "", "", "")
	return parts[0], parts[1], parts[2], parts[3]
}

// splitPort takes a port, as settings hold it, apart.
func splitPort(item string) (port, protocol string) {
	port, protocol, _ = strings.Cut(item, "/")
	return port, protocol
}

// readDestination reads an address that a service is limited to, such as ipv4:192.0.2.0/24.
func readDestination(value string) (family, address string, err error) {
	family, address, ok := strings.Cut(value, ":")
	if !ok {
		return "", "", fail("INVALID_DESTINATION", "destination syntax is ipv:address[/mask]")
	}
	if err := checkFamily(family); err != nil {
		return "", "", err
	}
	if _, err := grammar.ParseAddress(grammar.Family(family), address); err != nil {
		return "", "", fail("INVALID_ADDR", "'%s' is not valid %s address", address, family)
	}
	return family, address, nil
}

// checkFamily is an error if an IP version is neither ipv4 nor ipv6.
func checkFamily(family string) error {
	if family != "ipv4" && family != "ipv6" {
		return fail("INVALID_IPV", "invalid argument: %s (choose from 'ipv4', 'ipv6')", family)
	}
	return nil
}

// comparePorts is the order in which ports are listed: by protocol, then by number.
func comparePorts(a, b string) int {
	portA, protocolA := splitPort(a)
	portB, protocolB := splitPort(b)
	lowA, _, _ := grammar.ParsePort(portA)
	lowB, _, _ := grammar.ParsePort(portB)
	return cmp.Or(strings.Compare(protocolA, protocolB), cmp.Compare(lowA, lowB))
}

// canonicalRule is a rich rule as the files have it. Its error has a code.
func canonicalRule(value string) (string, error) {
	rule, err := grammar.Parse(value)
	if err != nil {
		return "", err
	}
	if err := rule.Check().Err(); err != nil {
		return "", err
	}
	return rule.String(), nil
}

// splitOption takes an option of an ipset, such as timeout=60 or counters, apart.
func splitOption(value string) (key, setting string, err error) {
	key, setting, _ = strings.Cut(value, "=")
	if strings.Contains(setting, "=") {
		return "", "", fail("INVALID_OPTION", "invalid ipset option '%s'", value)
	}
	return key, setting, nil
}

var errNoAnswer = errors.New("the firewall sent an answer of another type than its interface says")
