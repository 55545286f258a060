package bus

// ownIface is what richwall has beyond firewalld, apart from firewalld's interfaces, so that these stay as they are.
var ownIface = &iface{
	name: "richwall",
	// What there is to say of a client's own calls is answered at once: firewall-cmd asks for it behind an order of panic mode, too.
	methods: []method{
		// What could not be used of the configuration, a line each, with the file and line where it is known; none unless the
		// state is FAILED.
		def("getFailures", "", "as", actConfigInfo, func(c *call) (any, error) { return c.snapshot().Failures, nil }),
		// What there is to say beside the state, a line each: that new connections are kept out although it is RUNNING.
		def("getNotices", "", "as", actConfigInfo, func(c *call) (any, error) { return c.snapshot().Notices(), nil }),
		// What there is to say of the last call of this client that was refused, beyond the error that it got: see Server.hintsOf.
		atOnce(def("getHints", "", "as", actConfigInfo, func(c *call) (any, error) { return c.server.hints.of(c.sender), nil })),
		// What there is to say of what this client's calls have done since it has asked last, a line each: which files they have written
		// over, and of a check of the files what a load of them passes over. Of many lines the newest are kept.
		atOnce(def("getRemarks", "", "as", actConfigInfo, func(c *call) (any, error) { return c.server.told.take(c.sender, c.uid), nil })),
	},
}
