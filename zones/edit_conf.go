package zones

// SetConf sets a key of firewalld.conf. A deprecated key changes nothing. The error has code INVALID_OPTION, INVALID_VALUE
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
		return c.WithConf(&conf), nil
	}
}

// SetDefaultZone sets the default zone. The error has code INVALID_ZONE or ZONE_ALREADY_SET.
func SetDefaultZone(name string) Edit {
	return func(c *Config) (*Config, error) {
		if name == "" || name == c.Conf.DefaultZone {
			return nil, refuse(ZoneAlreadySet, "%s", c.Conf.DefaultZone)
		}
		return SetConf("DefaultZone", name)(c)
	}
}

// SetLogDenied sets what is logged of what is refused. The error has code INVALID_VALUE or ALREADY_SET.
func SetLogDenied(value string) Edit {
	return func(c *Config) (*Config, error) {
		if value == c.Conf.LogDenied {
			return nil, refuse(AlreadySet, "%s", value)
		}
		next, err := SetConf("LogDenied", value)(c)
		if err != nil {
			return nil, problemOf(err, InvalidValue).worded("'%s', choose from 'all','unicast','broadcast','multicast','off'", value)
		}
		return next, nil
	}
}
