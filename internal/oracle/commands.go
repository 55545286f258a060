package main

import "strings"

// form is a kind of command line: words, with <class> where a value of that class goes. weight is how often it comes, beside
// the others.
type form struct {
	weight int
	words  string
}

// What goes into the forms below besides values.
//
//	WHERE    nothing, --zone=<zone> or --policy=<policy>
//	ZONE     nothing or --zone=<zone>
//	POLICY   --policy=<policy>
//	KEEP     nothing or --permanent
//	SAVE     --permanent
//	TIMED    nothing or --timeout=<timeout>
//	RULE     the words of a rule of iptables or ebtables
//
// firewall-offline-cmd takes what has KEEP or SAVE, without it.

// items are what zones and policies have, with the class of their values and where they may be.
var items = []struct{ option, class, where string }{
	{"service", "service", "WHERE"}, {"port", "portproto", "WHERE"}, {"protocol", "protocol", "WHERE"},
	{"source-port", "portproto", "WHERE"}, {"icmp-block", "icmptype", "WHERE"}, {"forward-port", "forward", "WHERE"},
	{"rich-rule", "rich", "WHERE"}, {"rich-rule", "rich", "WHERE"}, {"masquerade", "", "WHERE"}, {"icmp-block-inversion", "", "ZONE"}, {"forward", "", "ZONE"},
	{"interface", "interface", "ZONE"}, {"source", "source", "ZONE"},
	{"ingress-zone", "zoneor", "POLICY"}, {"egress-zone", "zoneor", "POLICY"}, {"disable", "", "POLICY"},
}

// parts are what services, ipsets, ICMP types and helpers have.
var parts = []struct{ object, option, class string }{
	{"service", "port", "portproto"}, {"service", "protocol", "protocol"}, {"service", "source-port", "portproto"},
	{"service", "module", "modname"}, {"service", "helper", "helper"}, {"service", "include", "service"},
	{"icmptype", "destination", "icmpdest"}, {"helper", "port", "portproto"},
}

// commandForms are those of the general forms that are not made from items and parts.
var commandForms = []form{
	{10, "--reload"}, {2, "--complete-reload"}, {6, "--runtime-to-permanent"}, {1, "--reset-to-defaults"}, {3, "--check-config"},
	{1, "--state"}, {1, "--version"}, {2, "--panic-on"}, {4, "--panic-off"}, {1, "--query-panic"},
	{1, "--get-log-denied"}, {3, "--set-log-denied=<logdenied>"}, {1, "--get-automatic-helpers"}, {1, "--set-automatic-helpers=<yesno>"},
	{1, "--get-default-zone"}, {5, "--set-default-zone=<zone>"}, {2, "--get-active-zones"}, {2, "--get-active-policies"},
	{1, "KEEP --get-zones"}, {1, "KEEP --get-policies"}, {1, "KEEP --get-services"}, {1, "KEEP --get-icmptypes"}, {1, "KEEP --get-helpers"},
	{1, "KEEP --get-ipsets"}, {1, "--get-ipset-types"}, {1, "KEEP --list-all-zones"}, {1, "KEEP --list-all-policies"}, {4, "WHERE KEEP --list-all"},
	{2, "KEEP --get-zone-of-interface=<interface>"}, {2, "KEEP --get-zone-of-source=<source>"}, {1, "KEEP --get-zone-of-source=<source> --get-zone-of-source=<source>"},
	{1, "-q WHERE KEEP --add-service=<service>"}, {1, "-v WHERE KEEP --list-all"}, {1, "-v KEEP --info-service=<service>"}, {1, "-v KEEP --add-port=<portproto>"}, {1, "-q KEEP --list-all"},

	{6, "SAVE --new-zone=<newzone>"}, {3, "SAVE --delete-zone=<newzone>"}, {2, "SAVE --load-zone-defaults=<zone>"}, {1, "SAVE --path-zone=<zone>"}, {2, "KEEP --info-zone=<zone>"},
	{6, "SAVE --new-policy=<newpolicy>"}, {3, "SAVE --delete-policy=<newpolicy>"}, {2, "SAVE --load-policy-defaults=<policy>"}, {1, "SAVE --path-policy=<policy>"}, {2, "KEEP --info-policy=<policy>"},
	{6, "SAVE --new-service=<newservice>"}, {3, "SAVE --delete-service=<newservice>"}, {2, "SAVE --load-service-defaults=<service>"}, {1, "SAVE --path-service=<service>"}, {2, "KEEP --info-service=<service>"},
	{3, "SAVE --delete-ipset=<newipset>"}, {1, "SAVE --load-ipset-defaults=<ipset>"}, {1, "SAVE --path-ipset=<ipset>"}, {2, "KEEP --info-ipset=<ipset>"},
	{6, "SAVE --new-ipset=nets --type=hash:net"}, {4, "SAVE --new-ipset=ips --type=hash:ip"}, {2, "SAVE --new-ipset=macs --type=hash:mac"}, {2, "SAVE --new-ipset=six --type=hash:net --family=inet6"},
	{2, "SAVE --new-ipset=ports --type=hash:ip,port"}, {2, "SAVE --new-ipset=timed --type=hash:ip --option=timeout=3600"},
	{4, "SAVE --new-ipset=<newipset> --type=<ipsettype>"}, {3, "SAVE --new-ipset=<newipset> --type=<ipsettype> --option=<ipsetopt>"}, {1, "SAVE --new-ipset=<newipset>"}, {1, "SAVE --new-ipset=<newipset> --type=<ipsettype> --family=<inet>"},
	{4, "SAVE --new-icmptype=<newicmp>"}, {2, "SAVE --delete-icmptype=<newicmp>"}, {1, "SAVE --load-icmptype-defaults=<icmptype>"}, {1, "SAVE --path-icmptype=<icmptype>"}, {2, "KEEP --info-icmptype=<icmptype>"},
	{4, "SAVE --new-helper=<newhelper> --module=<module>"}, {1, "SAVE --new-helper=<newhelper> --module=<module> --family=<family>"}, {1, "SAVE --new-helper=<newhelper>"},
	{2, "SAVE --delete-helper=<newhelper>"}, {1, "SAVE --load-helper-defaults=<helper>"}, {1, "SAVE --path-helper=<helper>"}, {2, "KEEP --info-helper=<helper>"},
	{1, "SAVE --new-zone-from-file=FILES/zone.xml"}, {1, "SAVE --new-zone-from-file=FILES/zone.xml --name=<newzone>"}, {1, "SAVE --new-service-from-file=FILES/service.xml --name=<newservice>"},
	{1, "SAVE --new-policy-from-file=FILES/policy.xml"}, {1, "SAVE --new-ipset-from-file=FILES/ipset.xml --name=<newipset>"}, {1, "SAVE --new-icmptype-from-file=FILES/icmptype.xml"}, {1, "SAVE --new-helper-from-file=FILES/helper.xml"},
	{1, "SAVE --new-zone-from-file=FILES/nosuch.xml"}, {1, "SAVE --new-service-from-file=FILES/zone.xml"},

	{6, "WHERE SAVE --set-target=<target>"}, {1, "WHERE SAVE --get-target"}, {4, "WHERE SAVE --set-priority=<priority>"}, {1, "WHERE SAVE --get-priority"},
	{1, "ZONE SAVE --set-ingress-priority=<priority>"}, {1, "ZONE SAVE --set-egress-priority=<priority>"}, {1, "ZONE SAVE --get-ingress-priority"}, {1, "ZONE SAVE --get-egress-priority"},
	{1, "OBJECT SAVE --set-short=<text>"}, {1, "OBJECT SAVE --set-description=<text>"}, {1, "OBJECT SAVE --get-short"}, {1, "OBJECT SAVE --get-description"},
	{6, "ZONE KEEP --change-interface=<interface>"}, {4, "ZONE KEEP --change-source=<source>"}, {1, "ZONE KEEP --change-zone=<interface>"}, {1, "ZONE KEEP --list-interfaces"}, {1, "ZONE KEEP --list-sources"},
	{2, "--policy-set=<policyset> KEEP --add-disable"}, {2, "--policy-set=<policyset> KEEP --remove-disable"},

	{8, "--ipset=<ipset> KEEP --add-entry=<entry>"}, {4, "--ipset=<ipset> KEEP --remove-entry=<entry>"}, {2, "--ipset=<ipset> KEEP --query-entry=<entry>"}, {2, "--ipset=<ipset> KEEP --get-entries"},
	{2, "--ipset=<ipset> KEEP --add-entry=<entry> --add-entry=<entry>"}, {1, "--ipset=<ipset> KEEP --add-entries-from-file=FILES/entries"}, {1, "--ipset=<ipset> KEEP --remove-entries-from-file=FILES/entries"},
	{1, "--ipset=<ipset> SAVE --set-short=<text>"}, {2, "SAVE --service=<service> --set-destination=<destination>"}, {1, "SAVE --service=<service> --remove-destination=<icmpdest>"}, {1, "SAVE --service=<service> --query-destination=<destination>"}, {1, "SAVE --service=<service> --get-destinations"},
	{1, "SAVE --service=<service> --get-ports"}, {1, "SAVE --service=<service> --get-protocols"}, {1, "SAVE --service=<service> --get-source-ports"}, {1, "SAVE --service=<service> --get-modules"}, {1, "SAVE --service=<service> --get-service-helpers"}, {1, "SAVE --service=<service> --get-includes"},
	{1, "SAVE --icmptype=<icmptype> --get-destinations"}, {1, "SAVE --helper=<helper> --get-ports"}, {1, "SAVE --helper=<helper> --set-module=<module>"}, {1, "SAVE --helper=<helper> --get-module"}, {1, "SAVE --helper=<helper> --set-family=<family>"}, {1, "SAVE --helper=<helper> --get-family"},

	{1, "KEEP --direct --get-all-chains"}, {1, "KEEP --direct --get-chains <ipv> <table>"}, {5, "KEEP --direct --add-chain <ipv> <table> <newchain>"}, {2, "KEEP --direct --remove-chain <ipv> <table> <newchain>"}, {1, "KEEP --direct --query-chain <ipv> <table> <newchain>"},
	{1, "KEEP --direct --get-all-rules"}, {1, "KEEP --direct --get-rules <ipv> <place>"}, {7, "KEEP --direct --add-rule <ipv> <place> <dpriority> RULE"}, {4, "KEEP --direct --remove-rule <ipv> <place> <dpriority> RULE"},
	{1, "KEEP --direct --remove-rules <ipv> <place>"}, {1, "KEEP --direct --query-rule <ipv> <place> <dpriority> RULE"},
	{3, "KEEP --direct --add-passthrough <ipv> -t PLACE RULE"}, {2, "KEEP --direct --remove-passthrough <ipv> -t PLACE RULE"}, {1, "KEEP --direct --query-passthrough <ipv> -t PLACE RULE"},
	{1, "KEEP --direct --get-passthroughs <ipv>"}, {1, "KEEP --direct --get-all-passthroughs"}, {1, "--direct --passthrough <ipv> -t <table> -nL <chain>"}, {1, "--direct --passthrough <ipv> -t <table> -N <newchain>"},

	{1, "--lockdown-on"}, {1, "--lockdown-off"}, {1, "--query-lockdown"},
	{1, "KEEP --list-lockdown-whitelist-commands"}, {1, "KEEP --add-lockdown-whitelist-command=<command>"}, {1, "KEEP --remove-lockdown-whitelist-command=<command>"}, {1, "KEEP --query-lockdown-whitelist-command=<command>"},
	{1, "KEEP --list-lockdown-whitelist-contexts"}, {1, "KEEP --add-lockdown-whitelist-context=<context>"}, {1, "KEEP --remove-lockdown-whitelist-context=<context>"}, {1, "KEEP --query-lockdown-whitelist-context=<context>"},
	{1, "KEEP --list-lockdown-whitelist-uids"}, {1, "KEEP --add-lockdown-whitelist-uid=<uid>"}, {1, "KEEP --remove-lockdown-whitelist-uid=<uid>"}, {1, "KEEP --query-lockdown-whitelist-uid=<uid>"},
	{1, "KEEP --list-lockdown-whitelist-users"}, {1, "KEEP --add-lockdown-whitelist-user=<user>"}, {1, "KEEP --remove-lockdown-whitelist-user=<user>"}, {1, "KEEP --query-lockdown-whitelist-user=<user>"},
}

// offlineForms are what firewall-offline-cmd alone has. --enabled, --disabled, --policy-server and --policy-desktop are left
// out: they act on the machine.
var offlineForms = []form{
	{1, "--check-config"}, {2, "--set-default-zone=<zone>"}, {1, "--get-default-zone"}, {1, "--reset-to-defaults"}, {1, "--set-log-denied=<logdenied>"}, {1, "--get-log-denied"},
	{2, "ZONE --remove-service-from-zone=<service>"}, {2, "POLICY --remove-service-from-policy=<service>"},
	{1, "--service=<service>"}, {1, "--remove-service=<service>"}, {1, "--port=<port>:<proto>"}, {1, "--trust=<interface>"}, {1, "--masq=<interface>"}, {1, "--block-icmp=<icmptype>"},
	{1, "--forward-port=if=<interface>:port=<port>:proto=<proto>:toport=<port>"}, {1, "--addmodule=<module>"}, {1, "--removemodule=<module>"}, {1, "--custom-rules=ipv4:filter:/x"}, {1, "--version"},
}

// directRules are the words of rules, for RULE.
var directRules = []string{"-j ACCEPT", "-j DROP", "-p tcp --dport 22 -j ACCEPT", "-j RETURN", "-p tcp -j ACCEPT", "-j ACCEPT", "-p tcp --dport 80 -j ACCEPT", "-s 192.0.2.1 -j DROP", "-i eth0 -j LOG", "-p udp -j mychain", "-m comment --comment 'a b' -j RETURN", "-j MASQUERADE", "-j nosuch", "--nonsense", "-p tcp", "-j REJECT", "-p IPv4 -j DROP", "-m mark --mark 1 -j CONNMARK --save-mark"}

// commands are all forms of firewall-cmd, and offlines all of firewall-offline-cmd.
var commands, offlines = func() (online, offline []form) {
	online = append(online, commandForms...)
	for _, item := range items {
		value, plural := "="+"<"+item.class+">", item.option+"s"
		if item.class == "" {
			value = ""
		}
		head := item.where + " KEEP --"
		online = append(online, form{9, item.where + " KEEP TIMED --add-" + item.option + value}, form{4, head + "remove-" + item.option + value}, form{2, head + "query-" + item.option + value})
		if value != "" {
			online = append(online, form{2, head + "list-" + plural}, form{1, head + "add-" + item.option + value + " --add-" + item.option + value}, form{1, head + "query-" + item.option + value + " --query-" + item.option + value},
				form{1, head + "remove-" + item.option + value + " --remove-" + item.option + value})
		}
	}
	for _, part := range parts {
		head, value := "SAVE --"+part.object+"=<"+part.object+"> --", "=<"+part.class+">"
		online = append(online, form{3, head + "add-" + part.option + value}, form{2, head + "remove-" + part.option + value}, form{1, head + "query-" + part.option + value})
	}
	offline = append(offline, offlineForms...)
	for _, f := range online {
		if strings.Contains(f.words, "KEEP") || strings.Contains(f.words, "SAVE") {
			offline = append(offline, f)
		}
	}
	return online, offline
}()

// placeholders are what stands for the capitals in a form.
var placeholders = map[string][]string{
	"WHERE":  {"", "--zone=<zone>", "--zone=<zone>", "--policy=<policy>"},
	"ZONE":   {"", "--zone=<zone>", "--zone=<zone>"},
	"POLICY": {"--policy=<policy>"},
	"KEEP":   {"", "--permanent"},
	"SAVE":   {"--permanent"},
	"TIMED":  {"", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "--timeout=<timeout>"},
	"OBJECT": {"--zone=<zone>", "--policy=<policy>", "--service=<service>", "--ipset=<ipset>", "--icmptype=<icmptype>", "--helper=<helper>"},
}

// command is a random command line; files is the folder of the files that some name.
func (s *source) command(forms []form, offline bool, files string) []string {
	total := 0
	for _, f := range forms {
		total += f.weight
	}
	at, words := s.IntN(total), ""
	for _, f := range forms {
		if at -= f.weight; at < 0 {
			words = f.words
			break
		}
	}
	permanent := ""
	var out []string
	for _, word := range strings.Fields(words) {
		if choice, ok := placeholders[word]; ok {
			word = s.pick(choice...)
			if word == "--permanent" {
				permanent = word
			}
			if strings.HasPrefix(word, "--timeout") && (permanent != "" || offline) && !s.chance(s.nearly) || offline && word == "--permanent" || word == "" {
				continue
			}
		}
		if word == "PLACE" {
			table, chain, _ := strings.Cut(s.value("place"), " ")
			out = append(out, table, "-A", chain)
			continue
		}
		if word == "<place>" {
			out = append(out, strings.Split(s.value("place"), " ")...)
			continue
		}
		if word == "RULE" {
			rule, _ := split(s.pick(directRules...)) // the table above has no open quotes
			out = append(out, rule...)
			continue
		}
		out = append(out, strings.ReplaceAll(s.expand(word), "FILES", files))
	}
	if s.chance(s.nearly / 3) {
		out = s.disturb(out)
	}
	return out
}
