package zones

import "richwall/grammar"

// The codes that a configuration can have, beside those of a rich rule in package grammar.
const (
	NameConflict     grammar.Code = "NAME_CONFLICT"
	ParseError       grammar.Code = "PARSE_ERROR"
	IPSetWithTimeout grammar.Code = "IPSET_WITH_TIMEOUT"
	InvalidService   grammar.Code = "INVALID_SERVICE"
	InvalidInterface grammar.Code = "INVALID_INTERFACE"
	InvalidForward   grammar.Code = "INVALID_FORWARD"
	InvalidICMPType  grammar.Code = "INVALID_ICMPTYPE"
	InvalidTable     grammar.Code = "INVALID_TABLE"
	InvalidTarget    grammar.Code = "INVALID_TARGET"
	InvalidIPV       grammar.Code = "INVALID_IPV"
	InvalidZone      grammar.Code = "INVALID_ZONE"
	InvalidValue     grammar.Code = "INVALID_VALUE"
	InvalidName      grammar.Code = "INVALID_NAME"
	InvalidFilename  grammar.Code = "INVALID_FILENAME"
	InvalidType      grammar.Code = "INVALID_TYPE"
	InvalidModule    grammar.Code = "INVALID_MODULE"
	InvalidEntry     grammar.Code = "INVALID_ENTRY"
	InvalidOption    grammar.Code = "INVALID_OPTION"
	InvalidHelper    grammar.Code = "INVALID_HELPER"
	InvalidPolicy    grammar.Code = "INVALID_POLICY"
	InvalidSource    grammar.Code = "INVALID_SOURCE"
	AlreadyEnabled   grammar.Code = "ALREADY_ENABLED"
	UnknownError     grammar.Code = "UNKNOWN_ERROR"
)

// codeNumbers are the exit statuses of firewall-cmd, by section "Exit codes" of its man page and by trying them.
var codeNumbers = map[grammar.Code]int{
	AlreadyEnabled: 11, "NOT_ENABLED": 12, "COMMAND_FAILED": 13, "NO_IPV6_NAT": 14, "PANIC_MODE": 15,
	"ZONE_ALREADY_SET": 16, "UNKNOWN_INTERFACE": 17, "ZONE_CONFLICT": 18, "BUILTIN_CHAIN": 19, "EBTABLES_NO_REJECT": 20,
	"NOT_OVERLOADABLE": 21, "NO_DEFAULTS": 22, "BUILTIN_ZONE": 23, "BUILTIN_SERVICE": 24, "BUILTIN_ICMPTYPE": 25,
	NameConflict: 26, "NAME_MISMATCH": 27, ParseError: 28, "ACCESS_DENIED": 29, "UNKNOWN_SOURCE": 30,
	"RT_TO_PERM_FAILED": 31, IPSetWithTimeout: 32, "BUILTIN_IPSET": 33, "ALREADY_SET": 34, "MISSING_IMPORT": 35,
	"DBUS_ERROR": 36, "BUILTIN_HELPER": 37, "NOT_APPLIED": 38,

	"INVALID_ACTION": 100, InvalidService: 101, grammar.InvalidPort: 102, grammar.InvalidProtocol: 103,
	InvalidInterface: 104, grammar.InvalidAddr: 105, InvalidForward: 106, InvalidICMPType: 107, InvalidTable: 108,
	"INVALID_CHAIN": 109, InvalidTarget: 110, InvalidIPV: 111, InvalidZone: 112, "INVALID_PROPERTY": 113,
	InvalidValue: 114, "INVALID_OBJECT": 115, InvalidName: 116, InvalidFilename: 117, "INVALID_DIRECTORY": 118,
	InvalidType: 119, "INVALID_SETTING": 120, grammar.InvalidDestination: 121, grammar.InvalidRule: 122,
	grammar.InvalidLimit: 123, grammar.InvalidFamily: 124, grammar.InvalidLogLevel: 125, grammar.InvalidAuditType: 126,
	grammar.InvalidMark: 127, "INVALID_CONTEXT": 128, "INVALID_COMMAND": 129, "INVALID_USER": 130, "INVALID_UID": 131,
	InvalidModule: 132, "INVALID_PASSTHROUGH": 133, grammar.InvalidMAC: 134, grammar.InvalidIPSet: 135,
	InvalidEntry: 136, InvalidOption: 137, InvalidHelper: 138, grammar.InvalidPriority: 139, InvalidPolicy: 140,
	grammar.InvalidLogPrefix: 141, grammar.InvalidNFLogGroup: 142, grammar.InvalidNFLogQueue: 143, InvalidSource: 144,

	"MISSING_TABLE": 200, "MISSING_CHAIN": 201, "MISSING_PORT": 202, "MISSING_PROTOCOL": 203, "MISSING_ADDR": 204,
	"MISSING_NAME": 205, "MISSING_SETTING": 206, grammar.MissingFamily: 207,

	"RUNNING_BUT_FAILED": 251, "NOT_RUNNING": 252, "NOT_AUTHORIZED": 253, UnknownError: 254,
}

// CodeNumber is the exit status that stands for a code, 11 to 254; an unknown code has that of UNKNOWN_ERROR.
func CodeNumber(code grammar.Code) int {
	if n, ok := codeNumbers[code]; ok {
		return n
	}
	return codeNumbers[UnknownError]
}
