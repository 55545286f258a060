package zones

// SetConf sets a key of firewalld.conf. A deprecated key changes nothing. Save writes the line of the file also where only that says
// something else, or cannot be used. The error has code INVALID_OPTION, INVALID_VALUE
// or, for a default zone that does not exist, INVALID_ZONE.
func SetConf(key, value string) Edit {
	return func(c *Config) (*Config, error) {
		conf := *c.Conf
		if err := setConf(&conf, key, value); err != nil {
			return nil, err
		}
		if name := conf.DefaultZone; name != c.Conf.DefaultZone && c.Zones[name] == nil {
			return nil, refuse(InvalidZone, "there is no zone %q%s", name, hint(name, Names(c.Zones))).worded("%s", name)
		}
		if err := conf.together(); err != nil {
			return nil, err
		}
		if key == "DefaultZone" {
			conf.missing = ""
		}
		if !conf.isAsked(key) {
			conf.asked += key + "\n"
		}
		return c.WithConf(&conf), nil
	}
}

// SetDefaultZone sets the default zone. said tells whether firewalld.conf names it already, as Store.Says does. The error has code
// INVALID_ZONE or, if all is so already, ZONE_ALREADY_SET.
func SetDefaultZone(name string, said bool) Edit {
	return func(c *Config) (*Config, error) {
		if name == "" || said && name == c.Conf.DefaultZone {
			return nil, refuse(ZoneAlreadySet, "%s", c.Conf.DefaultZone)
		}
		return SetConf("DefaultZone", name)(c)
	}
}

// SetLogDenied sets what is logged of what is refused. said tells whether firewalld.conf says so already, as Store.Says does. The error has
// code INVALID_VALUE or, if all is so already, ALREADY_SET.
func SetLogDenied(value string, said bool) Edit {
	return func(c *Config) (*Config, error) {
		if said && value == c.Conf.LogDenied {
			return nil, refuse(AlreadySet, "%s", value)
		}
		next, err := SetConf("LogDenied", value)(c)
		if err != nil {
			return nil, problemOf(err, InvalidValue).worded("'%s', choose from 'all','unicast','broadcast','multicast','off'", value)
		}
		return next, nil
	}
}
