// Package grammar is the language of rich rules: text to *Rule (Parse), *Rule to canonical text (Rule.String), the checks
// of both (Rule.Check), their order (Compare), and readers for the values in them (ParsePort, ParseAddress and others).
//
// In comes the text of one rule, as firewalld has it in firewalld.richlanguage(5); out goes a *Rule, or an ErrorList with
// every mistake, its place in the text and firewalld's code. The package reads no files and asks nothing of the machine:
// names of ports and protocols are embedded. Every other package may import it; it imports none of them.
//
// # Words
//
// A text is split as a POSIX shell does it:
//
//   - blanks and control characters (code points 0 to 31 and 127 to 159, so tabs and line ends too) separate words;
//   - '…' takes everything as it is; "…" does too, but \" is a quote and \\ is a backslash;
//   - outside quotes a backslash takes the next character as it is;
//   - quoted and unquoted parts that touch are one word: po"rt" is port;
//   - a word that holds "=" is a pair of a key and a value, divided at the first "=", quoted or not. Neither may be empty.
//     A value may hold a further "=" only if that is quoted: prefix="a=b";
//   - any other word is a bare word. Words are case-sensitive, save that "not" may also be written "NOT".
//
// Not a word: a control character within quotes, a quote without its end, a backslash at the end, and what is no UTF-8.
// A "#" starts no comment.
//
// # Rules
//
//	rule        = "rule" { part | "family=" ( "ipv4" | "ipv6" ) | "priority=" integer } .
//	part        = source | destination | element | logging | audit | action .
//	source      = "source" { not | "address=" address | "mac=" mac | "ipset=" name } .
//	destination = "destination" { not | "address=" address | "ipset=" name } .
//	not         = "not" | "NOT" | "invert=" switch .
//	element     = "service" "name=" name
//	            | "port" { "port=" ports | "protocol=" transport }
//	            | "protocol" "value=" protocol
//	            | "source-port" { "port=" ports | "protocol=" transport }
//	            | "icmp-block" "name=" name
//	            | "icmp-type" "name=" name
//	            | "masquerade"
//	            | "forward-port" { "port=" ports | "protocol=" transport | "to-port=" ports | "to-addr=" address }
//	            | "tcp-mss-clamp" { "value=" mss | "mtu=" bytes | "range=" sizes | "raise=" switch }
//	            | "tcp-mss" "value=" sizes .
//	logging     = "log" { "prefix=" text | "level=" level | limit }
//	            | "nflog" { "group=" number | "prefix=" text | "queue-size=" number | limit } .
//	audit       = "audit" [ limit ] .
//	action      = "accept" [ limit ] | "drop" [ limit ]
//	            | "reject" { "type=" type | limit } | "mark" { "set=" mark | limit } .
//	limit       = "limit" { "value=" rate "/" unit | "burst=" integer } .
//
// Parts stand in any order, each kind at most once. Attributes follow their keyword directly, in any order; when one is
// given again the last counts, save after service, protocol, icmp-block and icmp-type, which take one attribute. family and
// priority may stand between any two parts, and end the part before them.
//
// A limit belongs to the log, nflog, audit or action before it. Where none is open, it waits for the next one, and only
// service, protocol, icmp-block, icmp-type, family and priority may come in between.
//
// # Values
//
//	address    192.0.2.1  192.0.2.0/24  192.0.2.0/255.255.255.0  2001:db8::/32  [2001:db8::1]
//	mac        00:11:22:33:44:55
//	ports      443  https  1024-2048; 0 to 65535, a range either way round
//	transport  tcp  udp  sctp  dccp
//	protocol   gre  47; 0 to 255
//	mss        pmtu  link  1360; MinMSS to MaxMSS bytes
//	sizes      1361-1536  1460; bytes, 0 to 65535, the lower first
//	bytes      1492; MinMTU to MaxMTU
//	switch     yes  no  true  false
//	level      one of LogLevels
//	type       one of RejectTypes of the rule's family
//	mark       7  0x10/0xff; 32 bits, without leading zeros
//	rate/unit  3/m; unit s, m, h, d, second, minute, hour or day, from 2/d to 10000/s
//	number     0 to 65535, decimal without leading zeros, or after 0x, 0o or 0b
//	integer    decimal
//
// Digits are ASCII. Decimal numbers may have a sign, blanks around them and "_" between their digits, as in firewalld,
// but for sizes, bytes and mss.
//
// # What a rule needs
//
//   - family, with an address as source, with any destination, with forward-port and with a type of reject;
//   - an action, log, nflog or audit, with every element but masquerade, icmp-block, forward-port and tcp-mss-clamp, which
//     are actions by themselves and take no other;
//   - without an element: an action, and a source, a destination or a priority other than 0; or a log or nflog and a
//     priority other than 0;
//   - accept, drop or reject, with audit.
//
// # Examples
//
//	rule family=ipv4 source address=192.0.2.0/24 service name=ssh accept
//	rule source not mac=00:11:22:33:44:55 port port=8080-8090 protocol=tcp reject
//	rule family=ipv6 destination ipset=servers protocol value=gre drop
//	rule source-port port=68 protocol=udp mark set=0x10/0xff
//	rule icmp-block name=echo-request
//	rule icmp-type name=echo-request accept limit value=5/s burst=10
//	rule priority=100 masquerade
//	rule family=ipv4 forward-port port=80 protocol=tcp to-port=8080 to-addr=192.0.2.7
//	rule service name=http log prefix="web: " level=info limit value=3/m audit accept
//	rule priority=-1 nflog group=2 queue-size=10
//	rule family=ipv4 service name=smtp reject type=tcp-reset
//	rule tcp-mss-clamp value=pmtu
//
// Of richwall, and not known to firewalld:
//
//	rule tcp-mss-clamp value=link
//	rule tcp-mss-clamp mtu=1492
//	rule tcp-mss-clamp value=1360 range=1361-1536
//	rule tcp-mss-clamp value=1440 raise=yes
//	rule tcp-mss value=0-500 drop
//
// # Canonical text
//
// Rule.String prints priority, family, source, destination, element, logging, audit and action, in this order and without
// what is absent or default. Values are quoted, but for set of mark and burst; "NOT" stands before what is inverted; a
// double quote in a value has a backslash before it. Two rules are equal when their canonical texts are: addresses, ports
// and marks are compared as they are written.
package grammar
