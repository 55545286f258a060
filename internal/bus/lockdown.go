package bus

// The lockdown feature does not exist any more. Its interface is there for older clients, does nothing, and says so: no
// lockdown, and nobody on its list. The list's structure has had a lone 0 among the user ids since (firewalld 2.5.2, by
// asking it).
var emptyWhitelist = []any{[]string{}, []string{}, []string{}, []any{0}}

const whitelistSig = "(asasasai)"

// listed are the sorts of entries of the list.
var listed = []struct{ noun, arg, sig string }{
	{"Command", "command", "s"},
	{"Context", "context", "s"},
	{"User", "user", "s"},
	{"Uid", "uid", "i"},
}

var lockdownIface = newLockdown()

func newLockdown() *iface {
	i := &iface{name: "policies", deprecated: true}
	i.methods = []method{
		def("enableLockdown", "", "", actPolicies, nothing),
		def("disableLockdown", "", "", actPolicies, nothing),
		def("queryLockdown", "", "b", actPoliciesInfo, no),
	}
	i.methods = append(i.methods, whitelistMethods(actPolicies, actPoliciesInfo)...)
	i.signals = []signal{sig("LockdownEnabled", ""), sig("LockdownDisabled", "")}
	for _, l := range listed {
		arg := l.arg + ":" + l.sig
		i.signals = append(i.signals, sig("LockdownWhitelist"+l.noun+"Added", arg), sig("LockdownWhitelist"+l.noun+"Removed", arg))
	}
	return i
}

var configLockdownIface = &iface{
	name: "config.policies", deprecated: true,
	methods: append([]method{
		def("getLockdownWhitelist", "", whitelistSig, actConfig, func(*call) (any, error) { return emptyWhitelist, nil }),
		def("setLockdownWhitelist", "settings:"+whitelistSig, "", actConfig, nothing),
	}, whitelistMethods(actConfig, actConfig)...),
	signals: []signal{sig("LockdownWhitelistUpdated", "")},
}

func no(*call) (any, error) { return false, nil }

func whitelistMethods(change, read action) []method {
	var methods []method
	for _, l := range listed {
		name, arg := "LockdownWhitelist"+l.noun, l.arg+":"+l.sig
		methods = append(methods,
			def("add"+name, arg, "", change, nothing),
			def("remove"+name, arg, "", change, nothing),
			def("query"+name, arg, "b", read, no),
			def("get"+name+"s", "", "a"+l.sig, read, func(*call) (any, error) { return []any{}, nil }))
	}
	return methods
}
