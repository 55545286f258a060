package bus

import (
	"context"

	"richwall/internal/bus/networkmanager"
)

// isManager says whether a client is NetworkManager. What that binds to zones it binds again by itself after a reload, and
// so it stays out of the files.
func (c *call) isManager() bool {
	ctx, cancel := context.WithTimeout(c.ctx, busTime)
	defer cancel()
	owner, err := networkmanager.Owner(ctx, c.line.conn, networkmanager.Name)
	return err == nil && owner == c.sender
}

// Zones implements daemon.Manager.
func (s *Server) Zones(ctx context.Context) (map[string]string, error) {
	links, err := s.links(ctx)
	found := make(map[string]string, len(links))
	for name, link := range links {
		found[name] = link.Zone
	}
	return found, err
}

// SetZone implements daemon.Manager.
func (s *Server) SetZone(ctx context.Context, iface, zone string) error {
	links, err := s.links(ctx)
	if err != nil {
		return err
	}
	return networkmanager.SetZone(ctx, s.line.Load().conn, links[iface], zone)
}

func (s *Server) links(ctx context.Context) (map[string]networkmanager.Link, error) {
	conn := s.line.Load().conn
	manager, err := networkmanager.Owner(ctx, conn, networkmanager.Name)
	if err != nil || manager == "" {
		return nil, err
	}
	return networkmanager.LinksOf(ctx, conn, manager)
}
