package kernel_test

import (
	"strings"
	"testing"

	"richwall/compile/ir"
)

// Where nftables refuses a change behind that of the direct rules, the sets that these look up hold again what they held, and a set that has come
// with the change is gone. A change that is taken then has what it says.
func TestSetsOfDirectRulesBehindARefusal(t *testing.T) {
	const direct = `<direct><rule ipv="ipv4" table="filter" chain="INPUT" priority="0">-m set --match-set blocked src -j DROP</rule></direct>`
	set := func(entries ...string) string {
		return `<ipset type="hash:ip"><entry>` + strings.Join(entries, "</entry><entry>") + `</entry></ipset>`
	}
	files := func(conf, blocked string, more ...string) map[string]string {
		f := map[string]string{"zones/public.xml": "<zone/>", "direct.xml": direct, "ipsets/blocked.xml": blocked, "firewalld.conf": conf}
		for _, name := range more {
			f["ipsets/"+name+".xml"] = set("192.0.2.9")
		}
		return f
	}
	ns := namespace(t)
	k := open(t, ns, ir.NFTables)
	both := set("192.0.2.1", "192.0.2.2")
	expect := func(entries int) {
		t.Helper()
		if text := run(t, ns, "", "ipset", "save"); strings.Count(text, "add blocked ") != entries || strings.Contains(text, "fresh") {
			t.Errorf("the sets are\n%s", text)
		}
	}
	commit(t, k, desired(t, files("", both), ir.NFTables, false))
	expect(2)
	refused := desired(t, files("NftablesFlowtable=nosuch0\n", set("192.0.2.2"), "fresh"), ir.NFTables, false)
	if err := refuses(t, k, refused); err != nil {
		t.Fatal(err)
	}
	expect(2)
	commit(t, k, desired(t, files("", set("192.0.2.2")), ir.NFTables, false))
	expect(1)
	commit(t, k, desired(t, files("", both), ir.NFTables, false))
	expect(2)
}
