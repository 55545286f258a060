package firewallcmd

// verb is what an option does.
type verb string

const (
	doHelp    verb = "help"
	doVersion verb = "version"

	// Items of objects.
	doList       verb = "list"
	doAdd        verb = "add"
	doRemove     verb = "remove"
	doChange     verb = "change"
	doQuery      verb = "query"
	doAddFile    verb = "add from file"
	doRemoveFile verb = "remove from file"
	doGet        verb = "get"
	doSet        verb = "set"
	doListAll    verb = "list all"

	// Objects.
	doNames       verb = "names"
	doListObjects verb = "list objects"
	doInfo        verb = "info"
	doNew         verb = "new"
	doNewFromFile verb = "new from file"
	doDelete      verb = "delete"
	doDefaults    verb = "load defaults"
	doPath        verb = "path"
	doZoneOf      verb = "zone of"

	// The firewall.
	doState             verb = "state"
	doCall              verb = "call"
	doQueryCall         verb = "query call"
	doReset             verb = "reset"
	doCheckConfig       verb = "check"
	doGetLogDenied      verb = "get log denied"
	doSetLogDenied      verb = "set log denied"
	doGetHelpersSetting verb = "get automatic helpers"
	doSetHelpersSetting verb = "set automatic helpers"
	doGetDefaultZone    verb = "get default zone"
	doSetDefaultZone    verb = "set default zone"
	doActiveZones       verb = "active zones"
	doActivePolicies    verb = "active policies"
	doIPSetTypes        verb = "ipset types"
	doPolkit            verb = "polkit"
	doLockdown          verb = "lockdown"
	doMigrate           verb = "migrate"

	// Direct rules.
	doDirectList   verb = "direct list"
	doDirectAdd    verb = "direct add"
	doDirectRemove verb = "direct remove"
	doDirectQuery  verb = "direct query"
	doDirectClear  verb = "direct clear"
	doPassthrough  verb = "passthrough"
)

// verbs do what the command line says.
var verbs map[verb]func(*session) error

func init() {
	// Set here and not above, because the help, which is one of them, reads the table that has the verbs' names.
	verbs = map[verb]func(*session) error{
		doHelp: (*session).help, doVersion: (*session).version,
		doList: (*session).listItems, doAdd: (*session).addItems, doRemove: (*session).removeItems,
		doChange: (*session).changeItems, doQuery: (*session).queryItems,
		doAddFile: (*session).addFiles, doRemoveFile: (*session).removeFiles,
		doGet: (*session).get, doSet: (*session).set, doListAll: (*session).listAll,
		doNames: (*session).listNames, doListObjects: (*session).listObjects, doInfo: (*session).info,
		doNew: (*session).create, doNewFromFile: (*session).createFromFile, doDelete: (*session).delete,
		doDefaults: (*session).loadDefaults, doPath: (*session).path, doZoneOf: (*session).zoneOf,
		doState: (*session).showState, doCall: (*session).callDaemon, doQueryCall: (*session).askDaemon,
		doReset: (*session).reset, doCheckConfig: (*session).checkConfig,
		doGetLogDenied: (*session).getLogDenied, doSetLogDenied: (*session).setLogDenied,
		doGetHelpersSetting: (*session).getAutomaticHelpers, doSetHelpersSetting: (*session).setAutomaticHelpers,
		doGetDefaultZone: (*session).getDefaultZone, doSetDefaultZone: (*session).setDefaultZone,
		doActiveZones: (*session).activeZones, doActivePolicies: (*session).activePolicies,
		doIPSetTypes: (*session).ipsetTypes, doPolkit: (*session).choosePolkit, doLockdown: (*session).lockdown,
		doMigrate:    (*session).migrate,
		doDirectList: (*session).directList, doDirectAdd: (*session).directAdd, doDirectRemove: (*session).directRemove,
		doDirectQuery: (*session).directQuery, doDirectClear: (*session).directClear, doPassthrough: (*session).passthrough,
	}
}

// listings are the verbs that --json is for.
var listings = map[verb]bool{
	doList: true, doGet: true, doListAll: true, doNames: true, doListObjects: true, doInfo: true, doPath: true,
	doZoneOf: true, doState: true, doGetLogDenied: true, doGetDefaultZone: true, doActiveZones: true,
	doActivePolicies: true, doIPSetTypes: true, doDirectList: true, doVersion: true,
}
