package compile

// compileDirect adds the chains and rules of the direct interface.
func (s *state) compileDirect() {}
