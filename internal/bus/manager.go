package bus

// isManager says whether a client is NetworkManager. What that binds to zones it binds again by itself after a reload, and
// so it stays out of the files.
func (s *Server) isManager(sender string) bool {
	var owner string
	err := s.conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, "org.freedesktop.NetworkManager").Store(&owner)
	return err == nil && owner == sender
}
