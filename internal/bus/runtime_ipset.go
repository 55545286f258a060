package bus

import (
	"richwall/internal/daemon"
	"richwall/zones"
)

var runtimeIPSetIface = &iface{
	name: "ipset",
	methods: []method{
		def("queryIPSet", "ipset:s", "b", actInfo, func(c *call) (any, error) { return c.snapshot().Runtime.IPSets[c.str(0)] != nil, nil }),
		namesOf("getIPSets", ipsetKind.objects.names),
		settingsOf("getIPSetSettings", ipsetKind),
		def("addEntry", "ipset:s entry:s", "", actConfig, changeEntry(zones.Add, "EntryAdded")),
		def("removeEntry", "ipset:s entry:s", "", actConfig, changeEntry(zones.Remove, "EntryRemoved")),
		def("queryEntry", "ipset:s entry:s", "b", actInfo, func(c *call) (any, error) {
			return zones.Has(c.snapshot().Runtime, zones.Runtime, ipsetKind.object(c.str(0)), setEntry(c.str(1)))
		}),
		def("getEntries", "ipset:s", "as", actInfo, func(c *call) (any, error) {
			settings, err := zones.Get(c.snapshot().Runtime, zones.Runtime, ipsetKind.object(c.str(0)))
			if err != nil {
				return nil, err
			}
			return fromSetting("as", settings[zones.KeyEntry]), nil
		}),
		def("setEntries", "ipset:s entries:as", "", actConfig, setEntries),
	},
	signals: []signal{sig("EntryAdded", "ipset:s entry:s"), sig("EntryRemoved", "ipset:s entry:s")},
}

func setEntry(text string) zones.Item { return zones.Item{Key: zones.KeyEntry, Args: []string{text}} }

func changeEntry(edit func(zones.Scope, zones.Object, zones.Item) zones.Edit, name string) func(*call) (any, error) {
	return func(c *call) (any, error) {
		set, text := c.str(0), c.str(1)
		if err := c.change(daemon.Change{Edit: edit(zones.Runtime, ipsetKind.object(set), setEntry(text)), Sender: c.sender, InPanic: true}); err != nil {
			return nil, err
		}
		c.server.emit(root, "ipset", name, set, text)
		return nil, nil
	}
}

// setEntries replaces the entries of a set, and tells which came and which went.
func setEntries(c *call) (any, error) {
	set, texts := c.str(0), c.args[1].([]string)
	var old, next *zones.Config
	edit := zones.Update(zones.Runtime, ipsetKind.object(set), zones.Settings{zones.KeyEntry: texts})
	err := c.change(daemon.Change{Sender: c.sender, InPanic: true, Edit: func(cfg *zones.Config) (*zones.Config, error) {
		var err error
		old = cfg
		next, err = edit(cfg)
		return next, err
	}})
	if err != nil {
		return nil, err
	}
	before, after := old.IPSets[set].Entries, next.IPSets[set].Entries
	for _, text := range missing(after, before) {
		c.server.emit(root, "ipset", "EntryAdded", set, text)
	}
	for _, text := range missing(before, after) {
		c.server.emit(root, "ipset", "EntryRemoved", set, text)
	}
	return nil, nil
}

// missing is the texts of a list that another does not have.
func missing(list, from []string) []string {
	there := map[string]bool{}
	for _, text := range from {
		there[text] = true
	}
	var result []string
	for _, text := range list {
		if !there[text] {
			result = append(result, text)
		}
	}
	return result
}
