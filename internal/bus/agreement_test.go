package bus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"

	"richwall/compile"
	"richwall/compile/ir"
	"richwall/compile/nft"
	"richwall/internal/kernel"
	"richwall/internal/lab"
	"richwall/zones"
)

// Four programs change a firewall at the same time, the running one and the files, reload it and save it in between. In
// whatever order that happens, what the daemon lists is what is in the kernel, what it lists as permanent is what is in the
// files, and a daemon that starts with these files has the same rules.
func TestListingsKernelAndFilesAgree(t *testing.T) {
	b := newBed(t, nil)
	b.server.Close()
	k, installed := namespaceKernel(t)
	b.start(k)
	for _, prepare := range []func(*workload){(*workload).makePermanentObjects, (*workload).reload} {
		prepare(&workload{bed: b, conn: b.client})
	}
	const clients, edits = 4, 50
	var all sync.WaitGroup
	for i := range clients {
		w := &workload{bed: b, conn: connect(t, b.address), random: rand.New(rand.NewPCG(uint64(i), 2026))}
		all.Add(1)
		go func() {
			defer all.Done()
			for range edits {
				w.doSomething()
			}
		}()
	}
	all.Wait()
	b.sameInKernel(installed, "after all edits")
	b.sameInFiles("after all edits")
	b.must("", "runtimeToPermanent")
	b.must("", "reload")
	b.sameAsListed("after a reload")
	b.sameInKernel(installed, "after a reload")
	b.sameInFiles("after a reload")

	rules, listed := b.kernel.Listing(), b.listings()
	b.server.Close()
	b.start(k)
	b.sameAsListed("after a restart")
	b.sameInKernel(installed, "after a restart")
	b.sameInFiles("after a restart")
	if b.kernel.Listing() != rules {
		t.Errorf("after a restart the rules are\n%s\nand they were\n%s", b.kernel.Listing(), rules)
	}
	if again := b.listings(); !reflect.DeepEqual(again, listed) {
		t.Errorf("after a restart the listings are\n%v\nand they were\n%v", again, listed)
	}
}

// namespaceKernel is a kernel in a network namespace, and what shows its table. It is nil where there can be no namespace.
func namespaceKernel(t *testing.T) (kernel.Kernel, func() string) {
	t.Helper()
	if missing := lab.Missing("nft"); missing != nil {
		t.Logf("without a real kernel: %s", strings.Join(missing, "; "))
		return nil, nil
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Close)
	k, err := kernel.New(kernel.Options{Backend: ir.NFTables, Enter: ns.Do})
	if err != nil {
		t.Fatal(err)
	}
	return k, func() string { return table(t, ns) }
}

// table is firewalld's table in a namespace, its chains and sets sorted: their order is that of their making.
func table(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	listing, err := ns.Run(t.Context(), "", "nft", "-n", "list", "table", "inet", ir.Table)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for block := range strings.SplitSeq(listing, "\n\n") {
		lines := strings.Split(block, "\n")
		lines = slices.DeleteFunc(lines, func(line string) bool { // what is about the table as a whole
			return strings.HasPrefix(line, "table ") || strings.HasPrefix(line, "\tflags") || line == "}" || line == ""
		})
		blocks = append(blocks, strings.Join(lines, "\n"))
	}
	slices.Sort(blocks)
	return strings.TrimSpace(strings.Join(blocks, "\n\n"))
}

// sameInKernel fails unless the real kernel has what was committed, loaded at once by the tool.
func (b *bed) sameInKernel(installed func() string, when string) {
	b.Helper()
	if installed == nil {
		return
	}
	var text bytes.Buffer
	if _, err := nft.Write(&text, b.kernel.last.Load().Rules, nft.Options{}); err != nil {
		b.Fatal(err)
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	if _, err := ns.Run(b.Context(), text.String(), "nft", "-f", "-"); err != nil {
		b.Fatal(err)
	}
	if got, want := installed(), table(b.T, ns); got != want {
		b.Errorf("%s the kernel has\n%s\nand not\n%s", when, got, want)
	}
}

// sameAsListed fails unless what the daemon lists as running, compiled, is what was committed.
func (b *bed) sameAsListed(when string) {
	b.Helper()
	cfg := b.daemon.Snapshot().Permanent // for what has no runtime listing: firewalld.conf, ICMP types, helpers
	for name, settings := range b.listings() {
		o := zones.Object{Kind: zones.Kind(strings.Fields(name)[0]), Name: strings.Fields(name)[1]}
		var err error
		if cfg, err = zones.Update(zones.Permanent, o, settings)(cfg); err != nil {
			b.Fatalf("%s %s cannot be as it is listed: %v", when, name, err)
		}
	}
	rules, err := compile.Compile(cfg, ir.NFTables)
	if err != nil {
		b.Fatal(err)
	}
	var dump strings.Builder
	if err := rules.Dump(&dump); err != nil {
		b.Fatal(err)
	}
	if got := withoutOrigins(b.kernel.Listing()); got != withoutOrigins(dump.String()) {
		b.Errorf("%s the rules are\n%s\nand the listings mean\n%s", when, got, dump.String())
	}
}

// withoutOrigins is a listing without the places in files that rules come from: listings do not tell them.
func withoutOrigins(listing string) string {
	var kept []string
	for line := range strings.Lines(listing) {
		rule, _, _ := strings.Cut(line, "  # ")
		kept = append(kept, rule)
	}
	return strings.Join(kept, "\n")
}

// listings are the settings of the running zones, policies, services and sets, by kind and name, as clients see them.
func (b *bed) listings() map[string]zones.Settings {
	b.Helper()
	all := map[string]zones.Settings{}
	for _, l := range []struct {
		kind      *kind
		names, of string
	}{
		{ipsetKind, "ipset.getIPSets", "ipset.getIPSetSettings"},
		{serviceKind, "listServices", "getServiceSettings2"},
		{zoneKind, "zone.getZones", "zone.getZoneSettings2"},
		{policyKind, "policy.getPolicies", "policy.getPolicySettings"},
	} {
		for _, name := range b.call("", l.names).Body[0].([]string) {
			all[l.kind.name+" "+name] = b.settings(l.kind, b.call("", l.of, name))
		}
	}
	return all
}

// settings are what a call answers for an object, as package zones has it.
func (b *bed) settings(k *kind, c *dbus.Call) zones.Settings {
	b.Helper()
	if c.Err != nil {
		b.Fatal(c.Err)
	}
	if k.dict {
		values := c.Body[0].(map[string]dbus.Variant)
		for key, value := range values {
			values[key] = dbus.MakeVariant(value.Value()) // the library sends structures as arrays, and must say so
		}
		d, err := decode("a{sv}", sent(b.T, values))
		if err != nil {
			b.Fatal(err)
		}
		settings, err := k.fromDict(d.(dict))
		if err != nil {
			b.Fatal(err)
		}
		return settings
	}
	tuple, err := decode(k.tupleSig(), sent(b.T, c.Body[0]))
	if err != nil {
		b.Fatal(err)
	}
	return k.fromTuple(tuple.([]any))
}

// sameInFiles fails unless what the daemon lists as permanent is what the files say.
func (b *bed) sameInFiles(when string) {
	b.Helper()
	files, problems := zones.Load(zones.Dirs{System: b.dir})
	if files == nil {
		b.Fatalf("%s the files cannot be read: %v", when, problems.Err())
	}
	for _, k := range kinds {
		names := b.call("config", "config.get"+k.noun+"Names").Body[0].([]string)
		if want := k.objects.names(files); !slices.Equal(names, want) {
			b.Errorf("%s the permanent %s are %v, and in the files %v", when, k.plural, names, want)
			continue
		}
		for _, name := range names {
			inFile, err := zones.Get(files, zones.Permanent, k.object(name))
			if err != nil {
				b.Fatal(err)
			}
			if got, want := k.list(b.settings(k, b.permanent(b.client, k, name, "getSettings"+k.version()))), k.list(inFile); got != want {
				b.Errorf("%s the permanent %s %s is\n%s\nand in its file\n%s", when, k.name, name, got, want)
			}
		}
	}
}

// version is the ending of the methods for the dictionary, where there is an older form.
func (k *kind) version() string {
	if k.dict && k.tuple != nil {
		return "2"
	}
	return ""
}

// list is the settings of an object, those that are not empty.
func (k *kind) list(s zones.Settings) string {
	var b strings.Builder
	for _, f := range k.fields {
		value := s[f.key]
		if texts, ok := value.([]string); ok { // items of one part
			rows := make([][]string, len(texts))
			for i, text := range texts {
				rows[i] = []string{text}
			}
			value = rows
		}
		if rows, ok := value.([][]string); value != nil && value != "" && (!ok || len(rows) > 0) {
			fmt.Fprintf(&b, "%s %v\n", f.key, value)
		}
	}
	return b.String()
}

// permanent calls a method of a permanent object.
func (b *bed) permanent(conn *dbus.Conn, k *kind, name, method string, args ...any) *dbus.Call {
	b.Helper()
	var path dbus.ObjectPath
	if err := callOn(conn, "config", "config.get"+k.noun+"ByName", name).Store(&path); err != nil {
		b.Fatal(err)
	}
	return callOn(conn, strings.TrimPrefix(string(path), root+"/"), "config."+k.name+"."+method, args...)
}
