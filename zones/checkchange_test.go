package zones

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A change is refused or taken as if the whole configuration were looked at.
func TestCheckChangeIsCheck(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	cfg, problems := Load(Dirs{})
	if cfg == nil {
		t.Fatal(problems)
	}
	refused := 0
	for step := range 600 {
		next := mistake(random, cfg, step)
		whole, change := Check(next).Err(), CheckChange(cfg, next).Err()
		if (whole == nil) != (change == nil) {
			t.Fatalf("step %d: Check says %v, CheckChange %v", step, whole, change)
		}
		if whole == nil {
			cfg = next
		} else {
			refused++
		}
	}
	if refused < 50 || refused > 500 {
		t.Errorf("%d of 600 changes were wrong: this tests little", refused)
	}
}

// mistake is a configuration with one thing that may be wrong.
func mistake(random *rand.Rand, cfg *Config, step int) *Config {
	zone := *cfg.Zones[[]string{"public", "work"}[random.IntN(2)]]
	names := []string{"ssh", "http", "mine", "other", "none"}
	name := names[random.IntN(len(names))]
	text := []string{
		fmt.Sprintf(`rule service name="%s" accept`, name),
		fmt.Sprintf(`rule source ipset="%s" drop`, name),
		fmt.Sprintf(`rule icmp-type name="%s" accept`, []string{"echo-request", "none"}[random.IntN(2)]),
		fmt.Sprintf(`rule family="ipv4" source address="10.0.0.%d" accept`, step%250),
	}[random.IntN(4)]
	switch random.IntN(8) {
	case 0:
		return cfg.WithService(&Service{Meta: Meta{Name: name}, Ports: []Port{{"1", "tcp"}}})
	case 1:
		return cfg.WithoutService([]string{"mine", "other", "none"}[random.IntN(3)])
	case 2:
		return cfg.WithIPSet(&IPSet{Meta: Meta{Name: name}, Type: []string{"hash:ip", "hash:mac", "hash:net,net"}[random.IntN(3)]})
	case 3:
		return cfg.WithoutIPSet(name)
	case 4:
		zone.Sources = append([]string{fmt.Sprintf("192.0.2.%d", random.IntN(4))}, zone.Sources...)
		if len(zone.Sources) > 2 {
			zone.Sources = nil
		}
	case 5:
		if n := len(zone.Rules); n > 0 {
			zone.Rules = dropped(zone.Rules, random.IntN(n))
		}
	default:
		list := rules[Zone]{func(z *Zone) *[]RichRule { return &z.Rules }}
		if err := list.add(env{c: cfg, scope: Permanent}, &zone, []string{text}); err != nil {
			return cfg
		}
	}
	return cfg.WithZone(&zone)
}
