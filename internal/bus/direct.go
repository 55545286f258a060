package bus

import (
	"slices"
	"strconv"

	"richwall/internal/daemon"
	"richwall/zones"
)

// The direct interface is there twice: of the running firewall, and of the permanent configuration.

var direct = zones.Object{Kind: zones.KindDirect}

// directItem is a kind of item of the direct interface.
type directItem struct {
	key  zones.Key
	noun string
	args string
	// of reads an item into the plain values of its arguments.
	of func(parts []string) []any
}

var directItems = []directItem{
	{zones.KeyChain, "Chain", "ipv:s table:s chain:s", func(p []string) []any { return []any{p[0], p[1], p[2]} }},
	{zones.KeyDirectRule, "Rule", "ipv:s table:s chain:s priority:i args:as", func(p []string) []any {
		priority, _ := strconv.Atoi(p[3]) // a number, as the edit that put it there has checked
		return []any{p[0], p[1], p[2], priority, p[4:]}
	}},
	{zones.KeyPassthrough, "Passthrough", "ipv:s args:as", func(p []string) []any { return []any{p[0], p[1:]} }},
}

// side is one of the two direct interfaces.
type side struct {
	change, read action
	cfg          func(*call) *zones.Config
	// apply makes an edit. tell sends signals for the items that came and went by it.
	apply func(c *call, edit zones.Edit) error
	tell  func(c *call, it directItem, verb string, items ...[]any)
}

var runtimeSide = side{
	change: actDirect, read: actDirectInfo,
	cfg: func(c *call) *zones.Config { return c.snapshot().Runtime },
	apply: func(c *call, edit zones.Edit) error {
		return c.change(daemon.Change{Edit: edit, Sender: c.sender, InPanic: true})
	},
	tell: func(c *call, it directItem, verb string, items ...[]any) {
		for _, item := range items {
			c.server.emit(root, "direct", it.noun+verb, item...)
		}
	},
}

var permanentSide = side{
	change: actConfig, read: actConfig,
	cfg: func(c *call) *zones.Config { return c.snapshot().Permanent },
	apply: func(c *call, edit zones.Edit) error {
		return c.changePermanent(edit)
	},
	tell: func(*call, directItem, string, ...[]any) {}, // the change of the file is told
}

const directSig = "(a(sss)a(sssias)a(sas))"

var runtimeDirectIface = newRuntimeDirect()

func newRuntimeDirect() *iface {
	i := &iface{name: "direct", deprecated: true}
	i.methods = append(directMethods(runtimeSide),
		def("passthrough", "ipv:s args:as", "s", actDirect, func(c *call) (any, error) {
			out, err := c.server.daemon.Passthrough(c.ctx, c.str(0), c.args[1].([]string))
			if err != nil && asks(c.args[1].([]string)) {
				err = &toldError{err}
			}
			return out, err
		}),
		def("removeAllPassthroughs", "", "", actDirect, removeAllPassthroughs))
	for _, it := range directItems {
		i.signals = append(i.signals, sig(it.noun+"Added", it.args), sig(it.noun+"Removed", it.args))
	}
	return i
}

var configDirectIface = &iface{
	name: "config.direct", deprecated: true,
	methods: append(directMethods(permanentSide),
		def("getSettings", "", directSig, actConfig, getDirect),
		def("update", "settings:"+directSig, "", actConfig, updateDirect)),
	signals: []signal{sig("Updated", "")},
}

// directMethods are the methods that both interfaces have.
func directMethods(s side) []method {
	var methods []method
	for _, it := range directItems {
		item := func(c *call) zones.Item { return zones.Item{Key: it.key, Args: flatten(c.args)} }
		methods = append(methods,
			def("add"+it.noun, it.args, "", s.change, func(c *call) (any, error) {
				if err := s.apply(c, zones.Add(scopeOf(s), direct, item(c))); err != nil {
					return nil, err
				}
				s.tell(c, it, "Added", c.args)
				return nil, nil
			}),
			def("remove"+it.noun, it.args, "", s.change, func(c *call) (any, error) {
				if err := s.apply(c, zones.Remove(scopeOf(s), direct, item(c))); err != nil {
					return nil, err
				}
				s.tell(c, it, "Removed", c.args)
				return nil, nil
			}),
			def("query"+it.noun, it.args, "b", s.read, func(c *call) (any, error) {
				return zones.Has(s.cfg(c), scopeOf(s), direct, item(c))
			}),
			def("getAll"+it.noun+"s", "", "a("+signature(args(it.args))+")", s.read, func(c *call) (any, error) {
				return it.all(s.cfg(c))
			}))
	}
	return append(methods,
		def("getChains", "ipv:s table:s", "as", s.read, within(s, directItems[0], 2, func(item []any) any { return item[2] })),
		def("getRules", "ipv:s table:s chain:s", "a(ias)", s.read, within(s, directItems[1], 3, func(item []any) any { return item[3:] })),
		def("getPassthroughs", "ipv:s", "aas", s.read, within(s, directItems[2], 1, func(item []any) any { return item[1] })),
		def("removeRules", "ipv:s table:s chain:s", "", s.change, removeRules(s)))
}

func scopeOf(s side) zones.Scope {
	if s.change == actConfig {
		return zones.Permanent
	}
	return zones.Runtime
}

func signature(list []arg) string {
	text := ""
	for _, a := range list {
		text += a.sig
	}
	return text
}

// all is all items of a kind.
func (it directItem) all(cfg *zones.Config) ([]any, error) {
	settings, err := zones.Get(cfg, zones.Permanent, direct)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, parts := range settings[it.key].([][]string) {
		list = append(list, it.of(parts))
	}
	return list, nil
}

// within lists the items whose first parts are the arguments of a call, each by what show makes of it.
func within(s side, it directItem, parts int, show func(item []any) any) func(*call) (any, error) {
	return func(c *call) (any, error) {
		if parts > 1 {
			if err := zones.CheckDirect(c.str(0), c.str(1)); err != nil {
				return nil, err
			}
		}
		items, err := it.all(s.cfg(c))
		if err != nil {
			return nil, err
		}
		list := []any{}
		for _, item := range items {
			if slices.Equal(item.([]any)[:parts], c.args) {
				list = append(list, show(item.([]any)))
			}
		}
		return list, nil
	}
}

// removeRules removes all rules of a chain.
func removeRules(s side) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var gone [][]any
		err := s.apply(c, func(cfg *zones.Config) (*zones.Config, error) {
			items, err := directItems[1].all(cfg)
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				if slices.Equal(item.([]any)[:3], c.args) {
					gone = append(gone, item.([]any))
				}
			}
			return zones.RemoveDirectRules(c.str(0), c.str(1), c.str(2))(cfg)
		})
		if err != nil {
			return nil, err
		}
		s.tell(c, directItems[1], "Removed", gone...)
		return nil, nil
	}
}

func removeAllPassthroughs(c *call) (any, error) {
	var gone []any
	err := runtimeSide.apply(c, func(cfg *zones.Config) (*zones.Config, error) {
		var err error
		if gone, err = directItems[2].all(cfg); err != nil {
			return nil, err
		}
		return zones.RemoveDirectPassthroughs()(cfg)
	})
	if err != nil {
		return nil, err
	}
	for _, item := range gone {
		runtimeSide.tell(c, directItems[2], "Removed", item.([]any))
	}
	return nil, nil
}

// getDirect is the direct interface of the permanent configuration as a structure.
func getDirect(c *call) (any, error) {
	tuple := make([]any, len(directItems))
	for i, it := range directItems {
		all, err := it.all(c.snapshot().Permanent)
		if err != nil {
			return nil, err
		}
		tuple[i] = all
	}
	return tuple, nil
}

func updateDirect(c *call) (any, error) {
	settings := zones.Settings{}
	for i, it := range directItems {
		settings[it.key] = toSetting(c.args[0].([]any)[i])
	}
	return nil, permanentSide.apply(c, zones.Update(zones.Permanent, direct, settings))
}

// asks tells whether the arguments of iptables change nothing, so that an error is only its answer.
func asks(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return slices.Contains([]string{"-C", "--check", "-L", "--list", "-S", "--list-rules"}, arg)
	})
}
