package kernel

// SetEventBuffer changes the room for events of monitors that are made from now on, and returns what puts it back.
func SetEventBuffer(size int) (restore func()) {
	was := eventBuffer
	eventBuffer = size
	return func() { eventBuffer = was }
}
