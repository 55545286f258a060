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
	CommandFailed    grammar.Code = "COMMAND_FAILED"
	InvalidObject    grammar.Code = "INVALID_OBJECT"
	InvalidSetting   grammar.Code = "INVALID_SETTING"
	InvalidChain     grammar.Code = "INVALID_CHAIN"
	InvalidPass      grammar.Code = "INVALID_PASSTHROUGH"
	MissingProtocol  grammar.Code = "MISSING_PROTOCOL"
	AlreadyEnabled   grammar.Code = "ALREADY_ENABLED"
	NotEnabled       grammar.Code = "NOT_ENABLED"
	AlreadySet       grammar.Code = "ALREADY_SET"
	ZoneAlreadySet   grammar.Code = "ZONE_ALREADY_SET"
	UnknownInterface grammar.Code = "UNKNOWN_INTERFACE"
	UnknownSource    grammar.Code = "UNKNOWN_SOURCE"
	NoDefaults       grammar.Code = "NO_DEFAULTS"
	BuiltinChain     grammar.Code = "BUILTIN_CHAIN"
	BuiltinZone      grammar.Code = "BUILTIN_ZONE"
	BuiltinService   grammar.Code = "BUILTIN_SERVICE"
	BuiltinICMPType  grammar.Code = "BUILTIN_ICMPTYPE"
	BuiltinIPSet     grammar.Code = "BUILTIN_IPSET"
	BuiltinHelper    grammar.Code = "BUILTIN_HELPER"
	UnknownError                  = grammar.UnknownError
)

// codeNumbers are the exit statuses of firewall-cmd, by section "Exit codes" of its man page and by trying them.
var codeNumbers = map[grammar.Code]int{
	AlreadyEnabled: 11, NotEnabled: 12, CommandFailed: 13, "NO_IPV6_NAT": 14, "PANIC_MODE": 15,
	ZoneAlreadySet: 16, UnknownInterface: 17, ZoneConflict: 18, BuiltinChain: 19, "EBTABLES_NO_REJECT": 20,
	"NOT_OVERLOADABLE": 21, NoDefaults: 22, BuiltinZone: 23, BuiltinService: 24, BuiltinICMPType: 25,
	NameConflict: 26, "NAME_MISMATCH": 27, ParseError: 28, "ACCESS_DENIED": 29, UnknownSource: 30,
	"RT_TO_PERM_FAILED": 31, IPSetWithTimeout: 32, BuiltinIPSet: 33, AlreadySet: 34, "MISSING_IMPORT": 35,
	"DBUS_ERROR": 36, BuiltinHelper: 37, "NOT_APPLIED": 38,

	"INVALID_ACTION": 100, InvalidService: 101, grammar.InvalidPort: 102, grammar.InvalidProtocol: 103,
	InvalidInterface: 104, grammar.InvalidAddr: 105, InvalidForward: 106, InvalidICMPType: 107, InvalidTable: 108,
	InvalidChain: 109, InvalidTarget: 110, InvalidIPV: 111, InvalidZone: 112, "INVALID_PROPERTY": 113,
	InvalidValue: 114, InvalidObject: 115, InvalidName: 116, InvalidFilename: 117, "INVALID_DIRECTORY": 118,
	InvalidType: 119, InvalidSetting: 120, grammar.InvalidDestination: 121, grammar.InvalidRule: 122,
	grammar.InvalidLimit: 123, grammar.InvalidFamily: 124, grammar.InvalidLogLevel: 125, grammar.InvalidAuditType: 126,
	grammar.InvalidMark: 127, "INVALID_CONTEXT": 128, "INVALID_COMMAND": 129, "INVALID_USER": 130, "INVALID_UID": 131,
	InvalidModule: 132, InvalidPass: 133, grammar.InvalidMAC: 134, grammar.InvalidIPSet: 135,
	InvalidEntry: 136, InvalidOption: 137, InvalidHelper: 138, grammar.InvalidPriority: 139, InvalidPolicy: 140,
	grammar.InvalidLogPrefix: 141, grammar.InvalidNFLogGroup: 142, grammar.InvalidNFLogQueue: 143, InvalidSource: 144,

	"MISSING_TABLE": 200, "MISSING_CHAIN": 201, "MISSING_PORT": 202, MissingProtocol: 203, "MISSING_ADDR": 204,
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
