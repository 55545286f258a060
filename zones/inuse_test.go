package zones

import "testing"

// A zone is in use with something bound to it or as the default zone, a policy between such zones unless it is disabled.
func TestInUse(t *testing.T) {
	policy := func(ingress, egress string, disable bool) *Policy {
		return &Policy{Meta: Meta{Name: "p"}, IngressZones: []string{"dmz", ingress}, EgressZones: []string{egress}, Disable: disable}
	}
	c := must(t, builtins(t), Add(Permanent, Object{KindZone, "work"}, item("interface eth0")), Add(Permanent, Object{KindZone, "home"}, item("source 192.0.2.1")))
	for _, test := range []struct {
		config *Config
		object Object
		want   bool
	}{
		{c, Object{KindZone, "public"}, true},
		{c, Object{KindZone, "work"}, true},
		{c, Object{KindZone, "home"}, true},
		{c, Object{KindZone, "dmz"}, false},
		{c, Object{KindZone, "nosuch"}, false},
		{c, Object{KindPolicy, "p"}, false},
		{c.WithPolicy(policy(ZoneAny, ZoneHost, false)), Object{KindPolicy, "p"}, true},
		{c.WithPolicy(policy("work", "home", false)), Object{KindPolicy, "p"}, true},
		{c.WithPolicy(policy("work", "home", true)), Object{KindPolicy, "p"}, false},
		{c.WithPolicy(policy("dmz", ZoneHost, false)), Object{KindPolicy, "p"}, false},
		{c.WithPolicy(policy(ZoneHost, "dmz", false)), Object{KindPolicy, "p"}, false},
		{c, Object{KindService, "ssh"}, true},
	} {
		if got := test.config.InUse(test.object); got != test.want {
			t.Errorf("%v of %+v: in use is %v", test.object, test.config.Policies["p"], got)
		}
	}
}
