package mss

import (
	"slices"
	"strings"
	"testing"

	"richwall/internal/lab"
)

// A table of iptables has a clamp and a rule of nft's, so that iptables-save prints nothing of it, and nft does not say what the clamp does. The
// notes say that the table cannot be read. Of one without a clamp of iptables, nft tells all.
func TestTableThatIPTablesCannotPrint(t *testing.T) {
	if missing := lab.Missing("nft", "iptables", "ip6tables", "sh"); missing != nil {
		t.Skip(strings.Join(missing, "; "))
	}
	for _, tt := range []struct {
		name, commands string
		want           []string
	}{
		{"a clamp", "iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400; nft add rule ip mangle FORWARD ct state established accept",
			[]string{"The table mangle of iptables cannot be read: it has rules that iptables has no words for (nft list table ip mangle)."}},
		{"IPv6", "ip6tables -A OUTPUT -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu; nft add rule ip6 filter FORWARD ct state established accept",
			[]string{"The table filter of ip6tables cannot be read: it has rules that ip6tables has no words for (nft list table ip6 filter)."}},
		{"no clamp of iptables", "iptables -t mangle -A FORWARD -p tcp -j ACCEPT; nft add rule ip mangle FORWARD tcp flags syn tcp option maxseg size set rt mtu", nil},
		{"a table that it can print", "iptables -t mangle -A FORWARD -p tcp --syn -j TCPMSS --set-mss 1400", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns, err := lab.NewNamespace()
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			shell(t, ns, "PATH=$PATH:/usr/sbin:/sbin\n"+tt.commands)
			err = ns.Do(func() error {
				if _, notes := ReadRules(t.Context()); !slices.Equal(notes, tt.want) {
					t.Errorf("the notes are %q", notes)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
