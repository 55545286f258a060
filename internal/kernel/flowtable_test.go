package kernel_test

import (
	"path/filepath"
	"strings"
	"testing"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/internal/kernel"
	"richwall/zones"
)

// An interface of NftablesFlowtable that is not there is named, with the key and the file, and nothing else is: the rule that needs the flow
// table is not at fault. Nothing is changed.
func TestFlowtableWithoutItsInterface(t *testing.T) {
	ns := namespace(t)
	run(t, ns, "", "ip", "link", "add", "here0", "type", "veth", "peer", "name", "here1")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "firewalld.conf"), "NftablesFlowtable=here0 gone9\n")
	cfg, problems := zones.Load(zones.Dirs{System: dir})
	if cfg == nil {
		t.Fatal(problems)
	}
	rs, err := compile.Compile(cfg, ir.NFTables)
	if err != nil {
		t.Fatal(err)
	}
	k := open(t, ns, ir.NFTables)
	err = k.Commit(t.Context(), &kernel.Desired{Rules: rs})
	if err == nil {
		t.Fatal("the kernel takes a flow table of an interface that is not there")
	}
	for _, part := range []string{"NftablesFlowtable=here0 gone9 of firewalld.conf", "there is no interface gone9:"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is about more than the flow table: %v", err)
	}
	if tables := run(t, ns, "", "nft", "list", "tables"); tables != "" {
		t.Errorf("the kernel has %q", tables)
	}
}
