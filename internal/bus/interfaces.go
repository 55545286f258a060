package bus

// fixedObjects are the objects that are always there, with their interfaces; those of permanent objects are in their kinds.
var fixedObjects map[string][]*iface

// signalArgs are the arguments of all signals, by their full names.
var signalArgs map[string][]arg

func init() {
	fixedObjects = map[string][]*iface{
		root:             {mainIface, zoneIface, policyIface, runtimeIPSetIface, runtimeDirectIface, lockdownIface, ownIface},
		root + "/config": {configIface, configDirectIface, configLockdownIface},
	}
	for _, k := range kinds {
		k.iface = newObjectIface(k)
	}
	signalArgs = map[string][]arg{}
	for _, i := range allInterfaces() {
		for _, s := range i.signals {
			signalArgs[i.fullName()+"."+s.name] = s.args
		}
	}
}

// allInterfaces are the interfaces of all objects.
func allInterfaces() []*iface {
	list := append([]*iface{}, fixedObjects[root]...)
	list = append(list, fixedObjects[root+"/config"]...)
	for _, k := range kinds {
		list = append(list, k.iface)
	}
	return list
}
